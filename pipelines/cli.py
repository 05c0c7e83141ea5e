"""`audience`: what a person types.

Data goes to stdout, everything else to stderr. A mistake that a person can mend is one line and exit status 2.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import date

from pipelines.version import VERSION
from transforms.errors import AudienceError, OptionError


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are OptionErrors: one line, with what to type next."""

    def error(self, message):
        raise OptionError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, or 2 for a mistake that a person can mend."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        command, values, rest = _parse([word for word in argv if word != "--debug"])
        command(values, rest)
        sys.stdout.flush()
    except BrokenPipeError:  # `audience query ... | head`
        _leave_stdout()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (AudienceError, OSError) as mistake:
        if debug:
            traceback.print_exc()
        print(f"error: {_told(mistake)}", file=sys.stderr)
        if isinstance(mistake, OSError) and mistake.filename is None:
            _leave_stdout()
        return 2
    return 0


def _told(mistake: AudienceError | OSError) -> str:
    """A mistake as one line."""
    if isinstance(mistake, OSError):
        where = mistake.filename or "output"
        return f"{where}: {mistake.strerror or mistake}; check space and permissions (--debug shows more)"
    return " ".join(str(mistake).split())


def _leave_stdout() -> None:
    # Python flushes stdout once more at its end, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(argv: list[str]) -> tuple[Callable, argparse.Namespace, list[str]]:
    parser = _Parser(prog="audience", description="Audience insight from raw events.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"audience {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (add_options, _, line, example) in COMMANDS.items():
        described = commands.add_parser(
            name,
            help=line,
            description=line,
            epilog=f"example:\n  {example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(described)
        described.add_argument("--debug", action="store_true", help="Show the traceback of a mistake")
    values, rest = parser.parse_known_args(argv)
    if values.command is None:
        raise OptionError(f"no command given; allowed: {', '.join(COMMANDS)}; see audience --help")
    if rest and values.command != "backfill":
        raise OptionError(f"unknown option {rest[0]!r} of {values.command}; see audience {values.command} --help")
    return COMMANDS[values.command][1], values, rest


def _backfill_options(parser) -> None:
    from pipelines.options import OPTIONS, add_to

    for option in OPTIONS:
        add_to(parser, option)


def _backfill(values, rest) -> None:
    from pipelines.options import resolve

    if rest:
        from pipelines.launch import beam_options

        rest = beam_options(rest)
    settings = resolve(vars(values))
    # Beam takes seconds to import: a mistake in an option is told before.
    from pipelines.backfill import backfill
    from pipelines.summary import summary_lines

    done = backfill(settings, rest)
    print("\n".join(summary_lines(done, settings.warehouse)), file=sys.stderr)


def _query_options(parser) -> None:
    parser.add_argument("sql", metavar="SQL", help="the query; tables and views: audience query 'SHOW TABLES'")
    parser.add_argument("--warehouse", default="warehouse", help="Folder of the local warehouse (default: warehouse)")
    parser.add_argument(
        "--dialect", default="duckdb", choices=("duckdb", "bigquery"), help="SQL of the query (default: duckdb)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--csv", dest="form", action="store_const", const="csv", default="table", help="CSV with a header"
    )
    form.add_argument("--json", dest="form", action="store_const", const="json", help="One JSON object a row")


def _query(values, rest) -> None:
    from pipelines.warehouse.local import LocalWarehouse
    from pipelines.warehouse.query import render, run_query

    warehouse = LocalWarehouse.open(values.warehouse)
    for line in render(run_query(warehouse, values.sql, values.dialect), values.form):
        print(line)


def _simulate_options(parser) -> None:
    parser.add_argument("--events", required=True, help="Number of events, e.g. 100000")
    parser.add_argument("--seed", default="0", help="Seed: the same seed writes the same bytes (default: 0)")
    parser.add_argument("--days", default="2", help="Days that the events span (default: 2)")
    parser.add_argument("--start", default="2026-03-01", help="First day (default: 2026-03-01)")
    parser.add_argument("--output", required=True, help="File to write, JSON lines of the native form")
    parser.add_argument("--ledger", help="File for the ledger of what was written and injected, JSON")


def _simulate(values, rest) -> None:
    from pipelines.options import DATE_IN_WORDS
    from pipelines.simulator import simulate

    events, seed, days = (_whole(name, getattr(values, name)) for name in ("events", "seed", "days"))
    try:
        start = date.fromisoformat(values.start)
    except ValueError:
        raise OptionError(f"--start: got {values.start!r}; allowed: {DATE_IN_WORDS}") from None
    ledger = simulate(events=events, seed=seed, days=days, start=start, output=values.output, ledger=values.ledger)
    print(f"{ledger.lines:,} lines in {values.output}: {ledger.accepted:,} events to accept", file=sys.stderr)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or (name != "seed" and int(text) < 1):
        raise OptionError(f"--{name}: got {text!r}; allowed: a whole number, at least {0 if name == 'seed' else 1}")
    return int(text)


def _demo_options(parser) -> None:
    parser.add_argument(
        "--folder", default="demo", help="Folder for the simulated events and the warehouse (default: demo)"
    )


def _demo(values, rest) -> None:
    from pipelines.demo import demo

    demo(values.folder)


COMMANDS: dict[str, tuple[Callable, Callable, str, str]] = {
    "backfill": (
        _backfill_options,
        _backfill,
        "Read files of events into the days of a warehouse.",
        "audience backfill --input 'events/*.jsonl.gz' --mapping mapping.yaml --warehouse warehouse",
    ),
    "query": (
        _query_options,
        _query,
        "Ask the warehouse in SQL.",
        'audience query "SELECT * FROM quality_summary" --csv',
    ),
    "simulate": (
        _simulate_options,
        _simulate,
        "Write simulated events, with a ledger of what is in them.",
        "audience simulate --events 100000 --seed 7 --output events.jsonl --ledger ledger.json",
    ),
    "demo": (
        _demo_options,
        _demo,
        "Sample data and simulated events, from raw files to answers.",
        "audience demo --folder demo",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
