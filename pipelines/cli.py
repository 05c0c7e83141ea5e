"""The command line of `audience`.

Data goes to stdout, everything else to stderr. A user error is one line and exit status 2; an unforeseen error is one
line and exit status 1. Either way, open contexts undo what was not committed.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from pipelines.commands import (
    Command,
    alert,
    collect,
    config,
    demo,
    deploy,
    doctor,
    live,
    mapping,
    mcp,
    person,
    plan,
    query,
    refresh,
    report,
    run,
    simulate,
    stop,
    sync,
    train,
)
from pipelines.commands import (
    batch as graph,
)
from pipelines.system.private import privately
from pipelines.system.terminal import by_lines, guarded, shown
from pipelines.system.unforeseen import unforeseen_line
from pipelines.version import VERSION
from transforms.errors import AudienceError, OptionError, QueryError

COMMANDS: dict[str, Command] = {
    "run": run.COMMAND,
    "stop": stop.COMMAND,
    "collect": collect.COMMAND,
    **graph.COMMANDS,
    "mapping": mapping.COMMAND,
    "query": query.COMMAND,
    "refresh": refresh.COMMAND,
    "train": train.COMMAND,
    "alert": alert.COMMAND,
    "sync": sync.COMMAND,
    "report": report.COMMAND,
    "mcp": mcp.COMMAND,
    "live": live.COMMAND,
    "person": person.COMMAND,
    "config": config.COMMAND,
    "doctor": doctor.COMMAND,
    "plan": plan.COMMAND,
    "simulate": simulate.COMMAND,
    "demo": demo.COMMAND,
    "deploy": deploy.COMMAND,
}


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises OptionError: one line, with what to type next."""

    def error(self, message):
        raise OptionError(f"{message}; see {self.prog} --help")


@privately
@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: its own (0), 2 for a user error, 1 for an unforeseen error, 130 if it
    was interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    command = None
    try:
        command, values, rest = parse_command([word for word in argv if word != "--debug"])
        status = command.run(values, rest)
        sys.stdout.flush()
        return status or 0
    except BrokenPipeError:  # `audience query ... | head`
        _leave_stdout()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (AudienceError, OSError) as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_describe(error)}", file=sys.stderr)
        if isinstance(error, OSError) and error.filename is None:
            _leave_stdout()
        return 2
    except SystemExit:  # --help
        raise
    except BaseException as problem:  # a panic in a Rust library is not an Exception
        if debug:
            traceback.print_exc()
        name = next((name for name, known in COMMANDS.items() if known is command), "")
        print(f"error: {unforeseen_line(problem, name)}", file=sys.stderr)
        return 1
    return 0


def _describe(error: AudienceError | OSError) -> str:
    """Return a user error as one line; the lines of what a database said stay, as a caret stands under its place."""
    if isinstance(error, OSError):
        where = shown(str(error.filename or "output"))
        return f"{where}: {error.strerror or error}; check space and permissions (--debug shows more)"
    if isinstance(error, QueryError):
        return by_lines(str(error))
    return shown(" ".join(str(error).split()))


def _leave_stdout() -> None:
    # Python flushes stdout again at exit, which would fail a second time.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_command(argv: list[str]) -> tuple[Command, argparse.Namespace, list[str]]:
    """Parse the words after `audience`: (the command, the values of its options, what is left for Beam)."""
    parser = _Parser(prog="audience", description="Audience analytics from raw events.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"audience {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        described = commands.add_parser(
            name,
            help=command.line,
            description=command.line,
            epilog=f"example:\n  {command.example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in argv:  # adding the options of a command may import more
            command.add_options(described)
        described.add_argument("--debug", action="store_true", help="Show the traceback of an error")
    values, rest = parser.parse_known_args(argv)
    if values.command is None:
        raise OptionError(f"no command given; allowed: {', '.join(COMMANDS)}; see audience --help")
    command = COMMANDS[values.command]
    if rest and not command.takes_beam_options:
        raise OptionError(f"unknown option {rest[0]!r} of {values.command}; see audience {values.command} --help")
    return command, values, rest


if __name__ == "__main__":
    sys.exit(main())
