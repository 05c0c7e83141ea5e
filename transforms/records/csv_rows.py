"""Rows of CSV: the values in the text of a record, by the form that travels with it.

The form is what is needed to read a record by itself: `header`, `delimiter`, `quote`, and of `escape`, `escaped_bytes`,
`null`, `trailing` and `rest` what is stated. The column `rest` is the last of the header. It is in the attributes of a
raw block, and so in those of a quarantined record.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from transforms.records.csv_format import BLANKS, CsvFormat

_RUN_OR_ESCAPE = r"(?:{escape}x[0-9A-Fa-f]{{2}})+|{escape}."
_TAB_OR_QUOTED = r"({quote}(?:[^{quote}]|{quote}{quote})*{quote})|\t"


def form_of(layout: CsvFormat, names: Iterable[str] = ()) -> dict[str, Any]:
    """Return the form of records with these columns."""
    form: dict[str, Any] = {"format": "csv", "header": list(names)}
    form |= {"delimiter": layout.delimiter, "quote": layout.quote}
    form |= {"escape": layout.escape} if layout.escape else {}
    form |= {"escaped_bytes": True} if layout.escaped_bytes else {}
    form |= {"trailing": True} if layout.trailing else {}
    if layout.rest and form["header"]:
        form |= {"header": [*form["header"], _free(layout.rest, form["header"])], "rest": True}
    return form | ({"null": list(layout.null)} if layout.null else {})


def _free(name: str, names: list[str]) -> str:
    """The name, with as many underscores behind it as it takes to differ from all others."""
    taken = set(names)
    while name in taken:
        name += "_"
    return name


def rows_of(texts: list[str], form: dict[str, Any]) -> Iterator[list[str]]:
    """Read each text as a row. Errors: csv.Error, as it is read."""
    delimiter, quote, escape = form["delimiter"], form.get("quote") or None, form.get("escape") or None
    quoting: Any = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    is_blanks = delimiter == BLANKS
    if is_blanks:
        texts = [_with_spaces(text, quote) for text in texts]
    elif escape:
        if escaped := _escaped_nulls(escape, delimiter, tuple(form.get("null", ()))):
            texts = [escaped.sub(r"\1", text) for text in texts]
        if form.get("escaped_bytes"):
            texts = [_with_bytes(text, escape, f"{escape}{quote or ''}{delimiter}") for text in texts]
        # The csv module takes a last value with an escaped line end for one that goes on.
        texts = [f"{text}\n" if "\n" in text else text for text in texts]
    mark = " " if is_blanks else delimiter
    rows = csv.reader(
        texts,
        delimiter=mark,
        quotechar=quote,
        quoting=quoting,
        escapechar=escape,
        skipinitialspace=is_blanks,
        strict=True,
    )
    return map(partial(_fitted, width=len(form["header"]), mark=mark), rows) if form.get("rest") else rows


def _fitted(values: list[str], width: int, mark: str) -> list[str]:
    """The values with the last column for all that are behind the others, and empty ones for those that lack."""
    if len(values) > width:
        return [*values[: width - 1], mark.join(values[width - 1 :])]
    return values + [""] * (width - len(values))


def without_trailing(values: list[str], width: int) -> list[str]:
    """Return the values without an empty one that a delimiter behind the last makes."""
    return values[:width] if len(values) == width + 1 and not values[-1] else values


def _with_bytes(text: str, escape: str, special: str) -> str:
    """The text with the characters that escaped bytes are, as the csv module reads them.

    Bytes that are no UTF-8, or nothing that can be printed, stay as they are written: \\x16.
    """

    def read(found: re.Match[str]) -> str:
        run = found[0]
        if len(run) < 4:  # another escape
            return run
        characters = bytes.fromhex(run.replace(f"{escape}x", "")).decode(errors="backslashreplace")
        shown = "".join(each if each.isprintable() else _as_written(each) for each in characters)
        return "".join(f"{escape}{each}" if each in special else each for each in shown)

    return _run_or_escape(escape).sub(read, text) if f"{escape}x" in text else text


def _as_written(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


@lru_cache(maxsize=16)
def _run_or_escape(escape: str) -> re.Pattern[str]:
    return re.compile(_RUN_OR_ESCAPE.format(escape=re.escape(escape)), re.DOTALL)


def _with_spaces(text: str, quote: str | None) -> str:
    """The text with a space for each tab between values, and no blanks around them."""
    text = text.strip(" \t")
    if "\t" not in text:
        return text
    if not quote or quote not in text:
        return text.replace("\t", " ")
    return _tab_or_quoted(quote).sub(lambda found: found[1] or " ", text)


@lru_cache(maxsize=16)
def _tab_or_quoted(quote: str) -> re.Pattern[str]:
    return re.compile(_TAB_OR_QUOTED.format(quote=re.escape(quote)))


@lru_cache(maxsize=16)
def _escaped_nulls(escape: str, delimiter: str, null: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds the values that stand for none and have an escape, such as `\\N`, before that is read as an escape."""
    texts = "|".join(re.escape(text) for text in null if escape in text)
    mark = re.escape(delimiter)
    return re.compile(f"(^|{mark})(?:{texts})(?={mark}|$)") if texts else None
