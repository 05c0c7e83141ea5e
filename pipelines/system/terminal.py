"""Make text safe to show on a terminal or paste into a shell: no control codes, invisible or reordering characters.

    shown(text)           the text on one line, with invisible characters escaped as in JSON
    by_lines(text)        the same for a text of several lines
    word(text)            the text as one shell word, to paste
    option(name, value)   an option and its value as shell words
    guarded(function)     while it runs, all output to stdout and stderr passes through `by_lines`
    put(lines, form)      print rows on stdout; CSV is for programs, so it is unchanged unless stdout is a terminal
    faithful(text)        write a file to stdout unchanged
    say(text)             print a message on stderr
    draw(text), erase()   redraw or erase the one line of progress

JSON keeps its meaning: `shown` uses JSON escapes, and JSON has such characters only in strings. `print` is therefore
always safe; output that must not change calls `faithful` explicitly.
"""

import functools
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

WIDTH = 80  # columns, if the terminal does not state its width
ERASE = "\r\x1b[K"
# Printable by Unicode category, but invisible: fillers, variation selectors, empty braille.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PICTURE = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff"
)
_JOINING = "\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1820-\u18af\ufb50-\ufdff\ufe70-\ufefc"
# Invisible characters that adjacent text needs: emoji of several parts, the flags of England, Scotland and Wales, and
# the joiners of Arabic, Persian and the scripts of India. The second group is any other single character.
_PART = re.compile(
    f"((?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])"
    f"|(?<=[{_PICTURE}0-9#*])[\ufe0e\ufe0f]"
    f"|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}])"
    "|(?<=\U0001f3f4)\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f)|(.)",
    re.DOTALL,
)
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_OCTAL = re.compile(rb"[^ -~]|[\\'!]")


def _of_json(char: str) -> str:
    return json.dumps(char)[1:-1]


def shown(text: str, escape: Callable[[str], str] = _of_json) -> str:
    """Return the text on one line, with invisible and control characters escaped by `escape`, by default as in JSON.

    Letters of every script and emoji stay, with the invisible characters that they need.
    """
    if text.isprintable() and (text.isascii() or not _BLANK.search(text)):
        return text

    def part(found: re.Match[str]) -> str:
        return escape(found[2]) if found[2] and (not found[2].isprintable() or _BLANK.match(found[2])) else found[0]

    return _PART.sub(part, text)


def by_lines(text: str) -> str:
    """Apply `shown` to each line."""
    return "\n".join(map(shown, text.split("\n")))


def word(text: str) -> str:
    """Return the text as one POSIX shell word that runs nothing and contains no control characters.

    What `shown` would escape is written as bytes in the $'...' syntax of bash, ksh and zsh.
    """
    if shown(text) == text:
        return shlex.quote(text)
    stored = _NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape")  # as a name of a file is stored
    return "$'" + _OCTAL.sub(lambda byte: b"\\%03o" % byte[0][0], stored).decode("ascii") + "'"


def option(name: str, value: str) -> str:
    """Return an option with its value to paste; a value that begins with a dash is not mistaken for an option."""
    return f"--{name}={word(value)}" if value.startswith("-") and value != "-" else f"--{name} {word(value)}"


class Guarded:
    """A text stream that passes its input through `by_lines`; `bare` is the underlying stream."""

    def __init__(self, stream: Any):
        self.bare = stream

    def write(self, text: str) -> int:
        """Write the text through `by_lines`."""
        self.bare.write(text if text == "\n" else by_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


def guarded(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a function: stdout and stderr are guarded while it runs. Files and pipes get UTF-8 in any locale."""

    @functools.wraps(function)
    def runs(*args, **kwargs) -> int:
        with _guards():
            return function(*args, **kwargs)

    return runs


@contextmanager
def _guards() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    for stream in before:
        with suppress(AttributeError, ValueError):  # a closed stream, None, or not a text file
            stream.reconfigure(  # type: ignore[union-attr]
                encoding=None if stream.isatty() else "utf-8", errors="backslashreplace"
            )
    sys.stdout, sys.stderr = (stream and Guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _bare(stream: Any) -> Any:
    return getattr(stream, "bare", stream)


def faithful(text: str) -> None:
    """Write a text to stdout unchanged: a file that a program reads."""
    _bare(sys.stdout).write(text)


def put(lines: Iterable[str], form: str) -> None:
    """Print rows as `table`, `csv` or `json`. On a terminal, a CSV row is one line, like those of the other formats."""
    if form == "csv" and not sys.stdout.isatty():
        for line in lines:
            faithful(line + "\n")
    else:
        for line in lines:
            print(shown(line))


def draws() -> bool:
    """Return whether stderr is a terminal that can erase a line."""
    with suppress(ValueError, AttributeError, OSError):  # closed, or None
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return False


def draw(text: str) -> None:
    """Redraw the line."""
    _bare(sys.stderr).write(f"\r{shown(text)[: columns(sys.stderr) - 1]}\x1b[K")
    sys.stderr.flush()


def erase() -> None:
    """Erase the line."""
    _bare(sys.stderr).write(ERASE)
    sys.stderr.flush()


def columns(out: Any) -> int:
    """Return the width of the terminal, or WIDTH."""
    try:
        return os.get_terminal_size(out.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def say(text: str) -> None:
    """Print a message on stderr; the caller escapes data values within a text of several lines."""
    print(by_lines(text), file=sys.stderr, flush=True)
