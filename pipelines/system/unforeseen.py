"""What nobody foresaw, as one line: what happened, in which command, step and file, and what to do.

Errors of the graph come with their step in their text, those of a worker process as a traceback alone; readers note the
file (`inputs.naming`). A panic of a library in Rust is no `Exception`, and is treated as one here.
"""

import re
from collections.abc import Iterator

from transforms.errors import first_line

READING = "while reading "  # begins the note of a reader
_STEP = re.compile(r"\[while running '([^'\n]*)'")
_FILE = re.compile(rf"^{READING}(.*)$", re.MULTILINE)
_LAST = re.compile(
    r"^(?!Traceback )([A-Za-z_][\w.]*?(?:Error|Exception|Warning|Interrupt|Exit)?)(?:: (.*))?$", re.MULTILINE
)
_TRACEBACK = "Traceback (most recent call last)"
LONGEST = 300


def unforeseen_line(problem: BaseException, command: str) -> str:
    """The line for a person, without `error: `."""
    told = "\n".join(f"{each}\n" + "\n".join(getattr(each, "__notes__", ())) for each in _chain(problem))
    where = [f"audience {command}"]
    if step := _STEP.search(told):
        where.append(f"step {step[1]!r}")
    if file := _FILE.search(told):
        where.append(file[1])
    return (
        f"unforeseen: {_what(problem)} (in {', '.join(where)}); what the run had not committed is undone; "
        "give --debug for the traceback, and report it"
    )


def _what(problem: BaseException) -> str:
    """The kind of an error and what it says, in one line; out of the traceback that a worker process sent."""
    kind, said = type(problem).__name__, first_line(problem)
    if _TRACEBACK in f"{problem}" and (raised := _LAST.findall(f"{problem}")):
        kind, said = raised[-1][0].rpartition(".")[2], raised[-1][1]
    said = said.partition(" [while running")[0]
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in f"{said}"[:LONGEST])
    if kind.endswith("MemoryError"):
        shown = shown.removeprefix(kind) or "not enough memory"
    return f"{kind}: {shown}" if shown and shown != kind else kind


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    seen: list[BaseException] = []
    each: BaseException | None = problem
    while each is not None and each not in seen:
        seen.append(each)
        each = each.__cause__ or each.__context__
    return iter(seen)
