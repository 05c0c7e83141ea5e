"""Text for a person or a shell: nothing in it is obeyed by a terminal, hides, or changes the order of what is read.

    shown(text)           the text on one line; a character that a reader would not see stands as JSON escapes it
    by_lines(text)        the same for a text of several lines
    word(text)            the text as one word of a command to paste
    option(name, value)   an option of such a command with its value
    guarded(function)     while it runs, whatever is written to stdout and stderr passes `by_lines`
    put(lines, form)      rows on stdout; CSV is for programs, so it is faithful unless a terminal shows it
    faithful(text)        a file on stdout, as it is
    say(text)             a line or more for a person, on stderr
    draw(text), erase()   the one line of a terminal that is drawn again and again

JSON stays what it says: the escapes of `shown` are those of JSON, and JSON has such characters in texts only.
Writing with `print` is safe without thinking; what has to be faithful asks for it by name.
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

WIDTH = 80  # columns, where the terminal does not state its width
ERASE = "\r\x1b[K"
# Printable by Unicode's categories, and yet nothing is seen of them: fillers, variation selectors, empty braille.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PICTURE = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff"
)
_JOINING = "\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1820-\u18af\ufb50-\ufdff\ufe70-\ufefc"
# Unseen characters that the text next to them needs: emoji of several parts, the flags of England, Scotland and Wales,
# and the joiners of Arabic, Persian and the scripts of India. Anything else of one character is the second group.
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
    """The text on one line: each character that would not be seen, or that would be obeyed, as JSON escapes it, or as
    `escape` does.

    Letters of every script and emoji stay, with the unseen characters that these need.
    """
    if text.isprintable() and (text.isascii() or not _BLANK.search(text)):
        return text

    def part(found: re.Match[str]) -> str:
        return escape(found[2]) if found[2] and (not found[2].isprintable() or _BLANK.match(found[2])) else found[0]

    return _PART.sub(part, text)


def by_lines(text: str) -> str:
    """`shown`, line by line."""
    return "\n".join(map(shown, text.split("\n")))


def word(text: str) -> str:
    """The text as one word of a POSIX shell, that runs nothing and holds no character that a terminal obeys.

    What `shown` would escape is written as bytes in the form $'...' of bash, ksh and zsh.
    """
    if shown(text) == text:
        return shlex.quote(text)
    stored = _NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape")  # as a name of a file is stored
    return "$'" + _OCTAL.sub(lambda byte: b"\\%03o" % byte[0][0], stored).decode("ascii") + "'"


def option(name: str, value: str) -> str:
    """An option of a command to paste; a value that begins with a dash is not taken for an option itself."""
    return f"--{name}={word(value)}" if value.startswith("-") and value != "-" else f"--{name} {word(value)}"


class Guarded:
    """A text stream that shows what it is given by lines; `bare` is the stream beneath."""

    def __init__(self, stream: Any):
        self.bare = stream

    def write(self, text: str) -> int:
        """Write the text by lines."""
        self.bare.write(text if text == "\n" else by_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


def guarded(function: Callable[..., int]) -> Callable[..., int]:
    """The function; while it runs stdout and stderr are guarded. Files and pipes get UTF-8, whatever the locale."""

    @functools.wraps(function)
    def runs(*args, **kwargs) -> int:
        with _guards():
            return function(*args, **kwargs)

    return runs


@contextmanager
def _guards() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    for stream in before:
        with suppress(AttributeError, ValueError):  # a stream that is closed, none, or not one of text files
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
    """Write a text to stdout as it is: a file that a program reads."""
    _bare(sys.stdout).write(text)


def put(lines: Iterable[str], form: str) -> None:
    """Print rows in the form `table`, `csv` or `json`. On a terminal a row of CSV is a line, as the other forms are."""
    if form == "csv" and not sys.stdout.isatty():
        for line in lines:
            faithful(line + "\n")
    else:
        for line in lines:
            print(shown(line))


def draws() -> bool:
    """Whether stderr is a terminal that can erase a line."""
    with suppress(ValueError, AttributeError, OSError):  # closed, or none at all
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return False


def draw(text: str) -> None:
    """Draw the line in the place of what was drawn before."""
    _bare(sys.stderr).write(f"\r{shown(text)[: columns(sys.stderr) - 1]}\x1b[K")
    sys.stderr.flush()


def erase() -> None:
    """Erase what was drawn."""
    _bare(sys.stderr).write(ERASE)
    sys.stderr.flush()


def columns(out: Any) -> int:
    """The width of the terminal, or WIDTH."""
    try:
        return os.get_terminal_size(out.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def say(text: str) -> None:
    """Print on stderr; a value of data in a text of several lines is escaped where it is put in."""
    print(by_lines(text), file=sys.stderr, flush=True)
