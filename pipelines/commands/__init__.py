"""The commands of `audience`, a file each: its options, what it runs, its line of help and an example.

A command's module imports nothing heavy at its top: Beam takes seconds to import, and a mistake in an option is told
before.
"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple

from transforms.errors import OptionError


class Command(NamedTuple):
    """A command. `run` gets its values, and as `rest` what its parser does not know: Beam's own options.

    The exit status is what `run` returns, 0 for None.
    """

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, list[str]], int | None]
    line: str
    example: str
    takes_beam_options: bool = False


def number(name: str, text: str, least: float, most: float) -> float:
    """The number that an option was given. Errors: OptionError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        raise OptionError(f"--{name}: got {text!r}; allowed: a number from {least:g} to {most:,}")
    return found
