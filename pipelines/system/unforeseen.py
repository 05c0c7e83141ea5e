"""Report an unforeseen error in one line: what happened, in which command, step and file, and what to do.

Errors of the graph have their step in their text, and those of a worker process are only a traceback; readers add the
file as a note (`inputs.naming`). A panic in a Rust library is not an `Exception`, but is handled like one here.
"""

import re
from collections.abc import Iterator

from transforms.errors import first_line

READING = "while reading "  # start of a reader's note
_STEP = re.compile(r"\[while running '([^'\n]*)'")
_FILE = re.compile(rf"^{READING}(.*)$", re.MULTILINE)
_LAST = re.compile(
    r"^(?!Traceback )([A-Za-z_][\w.]*?(?:Error|Exception|Warning|Interrupt|Exit)?)(?:: (.*))?$", re.MULTILINE
)
_TRACEBACK = "Traceback (most recent call last)"
LONGEST = 300


def unforeseen_line(problem: BaseException, command: str) -> str:
    """Return the line of text, without `error: `."""
    text = "\n".join(f"{each}\n" + "\n".join(getattr(each, "__notes__", ())) for each in _chain(problem))
    where = [f"audience {command}"]
    if step := _STEP.search(text):
        where.append(f"step {step[1]!r}")
    if file := _FILE.search(text):
        where.append(file[1])
    return (
        f"unforeseen: {_what(problem)} (in {', '.join(where)}); what was not committed has been undone; "
        "use --debug for the traceback, and report it"
    )


def _what(problem: BaseException) -> str:
    """Return the type and message of an error in one line, extracted from a worker's traceback if there is one."""
    kind, message = type(problem).__name__, first_line(problem)
    if _TRACEBACK in f"{problem}" and (raised := _LAST.findall(f"{problem}")):
        kind, message = raised[-1][0].rpartition(".")[2], raised[-1][1]
    message = message.partition(" [while running")[0]
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in f"{message}"[:LONGEST])
    if kind.endswith("MemoryError"):
        shown = shown.removeprefix(kind) or "not enough memory"
    return f"{kind}: {shown}" if shown and shown != kind else kind


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and its causes."""
    seen: list[BaseException] = []
    each: BaseException | None = problem
    while each is not None and each not in seen:
        seen.append(each)
        each = each.__cause__ or each.__context__
    return iter(seen)
