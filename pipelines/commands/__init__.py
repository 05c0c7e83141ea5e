"""The commands of `audience`, one file each: its options, what it runs, its line of help and an example.

A command's module imports nothing heavy at the top: Beam takes seconds to import, and a wrong option is reported
before that. docs/extend/command.md builds a command.
"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection
from typing import NamedTuple

from pipelines.system.terminal import say
from transforms.errors import OptionError


class Command(NamedTuple):
    """A command. `run` gets the parsed values, and as `rest` the options that the parser does not know: Beam's own.

    The exit status is what `run` returns, 0 for None.
    """

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, list[str]], int | None]
    line: str
    example: str
    takes_beam_options: bool = False


def number(name: str, text: str, least: float, most: float) -> float:
    """Return the number given for an option. Errors: OptionError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise OptionError(f"--{name}: got {text!r}; allowed: a number from {least:g} to {most:,}")
    return value


def port_of(text: str, name: str = "port") -> int:
    """Return the port that an option names. Errors: OptionError."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65_535):
        raise OptionError(f"--{name}: got {text!r}; allowed: a whole number from 1 to 65,535")
    return int(text)


def add_form(parser) -> None:
    """Add the output formats, which are the same for every command that prints rows."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--csv",
        dest="form",
        action="store_const",
        const="csv",
        default="table",
        help="Print CSV with a header (RFC 4180). Strings are not altered: import them into a spreadsheet as text, or "
        "it treats one that begins with = + - or @ as a formula",
    )
    form.add_argument("--json", dest="form", action="store_const", const="json", help="Print one JSON object per row")


def launch_on_dataflow(values, rest: list[str], kind: str, own: Collection[str], launch) -> None:
    """Start the job on Dataflow. Errors: OptionError for an option (`own`) that works on this machine only."""
    for name in sorted(own):
        if getattr(values, name, None) is not None:
            raise OptionError(f"--{name} is only for {kind} on this machine; leave it out for a job on Dataflow")
    from pipelines.runners.in_process import beam_options

    say(launch(beam_options(rest)).said)
