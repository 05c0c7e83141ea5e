"""docs/cli.md: every command of `audience` with its options, read from the parsers that the commands fill.

The text is built from the parsers' actions. argparse formats its own help by the version of Python and the width of the
terminal, so a page made of it would differ between machines.
"""

import argparse
import re
from collections.abc import Iterable, Iterator

from pipelines.cli import COMMANDS
from pipelines.commands import Command
from pipelines.options import FILE_OPTIONS

PAGE = "docs/cli.md"
DEFAULT = re.compile(r"\s*\(default: ([^()]*)\)$")
HELP = {"-h", "--help"}
IN_FILE = {f"--{option.name}" for option in FILE_OPTIONS}
INTRODUCTION = """\
# Command line

<!-- Made by python -m pipelines.reference: change the commands, not this page. -->

Data goes to stdout, progress and errors to stderr. The exit status is 0 for success, 2 for a user error (one line that
names the value and what is allowed), 1 for anything unforeseen and 130 after Ctrl-C; the help of `mapping` and `doctor`
states what else these two return.

Every command takes `--help`, and `--debug` to print the traceback of an error. `audience --version` prints the version.
Options marked * are also keys of the file that `--config` names: the command line overrides the file, and the file
overrides the default. [configuration.md](configuration.md) lists all keys of the file.

"""


def cli_page() -> str:
    """The text of docs/cli.md."""
    rows = [(f"[`audience {name}`](#audience-{name})", command.line) for name, command in COMMANDS.items()]
    index = "\n".join(table_lines(("Command", "What it does"), rows))
    sections = ("\n".join(section(name, command)) for name, command in COMMANDS.items())
    return f"{INTRODUCTION}{index}\n{''.join(sections)}".rstrip("\n") + "\n"


def section(name: str, command: Command) -> Iterator[str]:
    """The lines of one command: what it does, its usage, an example, and its options by group."""
    parser = parser_of(name, command)
    yield f"\n## audience {name}\n\n{command.line}\n\n```text\n{usage(parser, command)}\n```\n"
    yield f"```sh\n{command.example}\n```\n"
    if command.takes_beam_options:
        yield "It also takes the pipeline options of Beam and of its runners.\n"
    for title, (note, actions) in groups(parser).items():
        yield f"**{title[0].upper()}{title[1:]}**\n"
        if note:  # rows of a table in plain text, or a sentence
            yield f"{note}\n" if actions else f"```text\n{note}\n```\n"
        if actions:
            yield from table_lines(("Option", "Value", "Default", "What it does"), map(option_row, actions))
            yield ""


def groups(parser: argparse.ArgumentParser) -> dict[str, tuple[str, list[argparse.Action]]]:
    """Title -> description and options of each group. Groups with the same title become one."""
    found: dict[str, tuple[str, list[argparse.Action]]] = {}
    for group in parser._action_groups:
        title = "arguments" if group.title == "positional arguments" else group.title or ""
        actions = [action for action in group._group_actions if not HELP & set(action.option_strings)]
        note, earlier = found.get(title, ("", []))
        if actions or group.description:
            found[title] = note + (group.description or ""), earlier + actions
    return found


def parser_of(name: str, command: Command) -> argparse.ArgumentParser:
    """A parser with the options of one command."""
    parser = argparse.ArgumentParser(prog=f"audience {name}", allow_abbrev=False)
    command.add_options(parser)
    return parser


def usage(parser: argparse.ArgumentParser, command: Command) -> str:
    """What must be typed, the choices that exclude each other, and what may follow."""
    exclusive = parser._mutually_exclusive_groups
    grouped = {id(action) for group in exclusive for action in group._group_actions}
    words = [parser.prog]
    words += [stated(action) for action in parser._actions if action.required and id(action) not in grouped]
    for group in exclusive:
        choice = " | ".join(map(stated, group._group_actions))
        words.append(f"({choice})" if group.required else f"[{choice}]")
    return " ".join([*words, "[OPTIONS]", *(["[BEAM OPTIONS]"] if command.takes_beam_options else [])])


def stated(action: argparse.Action) -> str:
    """An option as it is typed, with the value that it takes."""
    name, value = action.option_strings, taken(action)
    return " ".join(part for part in (name[0] if name else "", value) if part)


def taken(action: argparse.Action) -> str:
    """What an option takes: the name of its value, its choices, or nothing."""
    if action.nargs == 0:
        return ""
    value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    return {"?": f"[{value}]", "+": f"{value} ..."}.get(str(action.nargs), str(value))


def option_row(action: argparse.Action) -> tuple[str, ...]:
    """Name, value, default and help of an option. Its default is the one that the help states: a parser holds few."""
    text, value = action.help or "", taken(action)
    default = DEFAULT.search(text) if text.count("(default") == 1 else None
    name = action.option_strings[0] if action.option_strings else value
    return (
        f"`{name}`" + (" *" if name in IN_FILE else ""),
        f"`{value}`" if value and action.option_strings else "",
        default[1] if default else "required" if action.required else "",
        text[: default.start()] if default else text,
    )


def table_lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown, line by line."""
    for row in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
