"""What a person reads whose query the database refuses: the database's own words, and what they ask for next.

    refuse(said, sql, names, columns) -> QueryError

The candidates and the line with its caret are the database's. The tables and views are listed where a relation was not
found, the columns of the relations that the query names where a column was not found, near names first.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from transforms.errors import QueryError

_NO_RELATION = (
    re.compile(r"Table with name \"?([^\"\n]+?)\"? does not exist"),
    re.compile(r"Not found: Table ([^ \n]+)"),
    re.compile(r"Table \"?([^\" \n]+)\"? (?:must be qualified|was not found)"),
)
_NO_COLUMN = (
    re.compile(r"Referenced column \"([^\"\n]+)\"(?: was)? not found"),
    re.compile(r"does not have a column named \"([^\"\n]+)\""),
    re.compile(r"Column \"([^\"\n]+)\" (?:in \w+ list not found|does not exist)"),
    re.compile(r"Unrecognized name: `?([^`\s;]+)`?"),
    re.compile(r"Name (\S+) not found inside"),
)
_GUESS = re.compile(r"\n+Did you mean \"([^\"\n]*)\"\?")
_PLACE = re.compile(r"\n+LINE (\d+): (.*)")
_OWN_LINE = re.compile(r"Did you mean|Candidate|LINE \d+: |Either |\t| *\^+$|$")
_CALLED = re.compile(r"(?:Function|Type) with name \"?(\w+)\"?")
CONTEXT = 60  # characters of a long line that are shown on either side of the place


class Known(NamedTuple):
    """What may be asked: the names of tables and views, and `columns`, which says those of what the query names."""

    tables: Collection[str]
    views: Collection[str]
    columns: Callable[[], Mapping[str, list[str]]]


def refuse(said: str, sql: str, known: Known, translated: bool = False) -> QueryError:
    """The error for a query that the database refuses.

    said        the database's words
    translated  they are about another text than the person's, whose places are not those of `sql`
    """
    said = _own_lines(said.strip())
    if said.startswith("Permission Error"):
        first = said.splitlines()[0]
        return QueryError(f"query: {first}; a query reads the warehouse and nothing else (--unsafe allows more)")
    relation, column = _first(_NO_RELATION, said), _first(_NO_COLUMN, said)
    lines = []
    if relation:
        said = _GUESS.sub(lambda guess: guess[0] if guess[1] in {*known.tables, *known.views} else "", said)
        near = [each for each in (known.tables, known.views) if each]
        lines = [f"{what}: {_listed(relation, names)}" for what, names in zip(("tables", "views"), near, strict=False)]
    elif column:
        if f'"{column}"' in sql:
            lines.append(f"\"{column}\" is a column; the text is '{column}'")
        lines += [f"columns of {name}: {_listed(column, names)}" for name, names in known.columns().items()]
    if translated:
        said, place = _split(said)
        called = _CALLED.search(said)
        word = relation or column or (called[1] if called else None)
        said += (word and _place_of_word(sql, word)) or place
    else:
        said = _renumbered(said, sql)
    return QueryError("\n".join([f"query: {said}", *lines]))


def point(sql: str, line: int, start: int, width: int = 1) -> str:
    """A line of a query with a caret under a place, as DuckDB draws it; `line` and `start` count from 1."""
    lines = sql.splitlines() or [""]
    text = lines[min(line, len(lines)) - 1].replace("\t", " ")
    cut = max(0, start - 1 - CONTEXT)
    shown = ("..." if cut else "") + text[cut : start - 1 + width + CONTEXT]
    shown += "..." if len(text) > start - 1 + width + CONTEXT else ""
    head = f"LINE {line}: "
    blank = " " * (len(head) + (3 if cut else 0) + start - 1 - cut)
    return f"\n\n{head}{shown}\n{blank}{'^' * max(1, width)}"


def _own_lines(said: str) -> str:
    """The database's words without the line ends of values in them: no value begins a line."""
    first, *others = said.split("\n")
    made = [first]
    for line in others:
        if _OWN_LINE.match(line):
            made.append(line)
        else:
            made[-1] += f" {line}"
    return "\n".join(made)


def _first(patterns: Iterable[re.Pattern[str]], said: str) -> str | None:
    found = (pattern.search(said) for pattern in patterns)
    return next((each[1] for each in found if each), None)


def _listed(wrong: str, names: Collection[str]) -> str:
    """The names, those near the wrong one first."""
    by_lower = {name.lower(): name for name in sorted(names)}
    near = get_close_matches(wrong.lower().rpartition(".")[2], by_lower, n=3, cutoff=0.6)
    return ", ".join(by_lower[name] for name in [*near, *(name for name in by_lower if name not in near)])


def _split(said: str) -> tuple[str, str]:
    """What the database said, and the place in its own text, which says whose text it is."""
    found = _PLACE.search(said)
    if not found:
        return said, ""
    return said[: found.start()], "\n\nin DuckDB's SQL:\n" + said[found.start() :].lstrip("\n")


def _renumbered(said: str, sql: str) -> str:
    """The place with the number of the query's own line: rows are read by a query around it."""
    found = _PLACE.search(said)
    if not found:
        return said
    text = found[2].strip(".")
    number = next((n for n, line in enumerate(sql.splitlines(), 1) if text in line), int(found[1]))
    head = f"\n\nLINE {number}: "
    shift = len(f"LINE {number}") - len(f"LINE {found[1]}")
    line, _, caret = said[found.start(2) :].partition("\n")
    caret = caret[-shift:] if shift < 0 else " " * shift + caret
    return f"{said[: found.start()]}{head}{line}\n{caret}"


def _place_of_word(sql: str, word: str) -> str:
    word = word.rpartition(".")[2]
    for number, line in enumerate(sql.splitlines(), 1):
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line, re.IGNORECASE)
        if found:
            return point(sql, number, found.start() + 1, len(word))
    return ""
