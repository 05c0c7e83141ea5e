"""Detect the layout of a CSV from its beginning: what cuts its lines evenly, its header, what stands for no value."""

import csv as csv_module
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from transforms.records.csv_format import BLANKS, CsvFormat

COMPARED = 300  # records
_COMMON = (",", ";", "\t", "|")
_OTHERS = (*"~^\x01\x02\x1e\x1f:!*&%$#+= ", BLANKS)
_EVEN = 0.9  # share of the records that have as many fields as most
_MOST_SKIPPED = 20  # lines above the header
_NULLS = ("-", "\\N", "NULL", "(null)", "NaN", "nan", "N/A", "#N/A", "None")
_VALUE = re.compile(
    r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?%?|\[?\d{4}[-/]\d{2}[-/]\d{2}.*|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}.*|\d{1,2}:\d{2}(:\d{2}\S*)?"
    r"|\[\d{1,2}/[A-Za-z]{3}/\d{4}.*|\d{1,3}(\.\d{1,3}){3}(:\d+)?|https?://.*|[0-9a-f]{8}-[0-9a-f]{4}-.*",
    re.DOTALL,
)
_FIELDS = re.compile(r"^#\s*Fields:\s*(.+)$", re.MULTILINE)  # W3C extended log format
_ACCESS_LOG: tuple[str, ...] = (
    "client_ip",
    "identity",
    "remote_user",
    "time",
    "zone",
    "request",
    "status",
    "bytes",
    "referrer",
)
_ACCESS_LOG += ("user_agent",)


class _Cut(NamedTuple):
    """A way to cut lines into fields, and how well it does."""

    delimiter: str
    quote: str
    escape: str
    rows: list[list[str]]
    width: int
    even: float
    used: bool  # whether the quote encloses fields

    @property
    def score(self) -> tuple:
        # The first record names the columns; of two equal ones, the common quote, and no escape.
        first = len(self.rows[0]) == self.width
        quoted = self.quote == '"' or self.used
        return self.width > 1, round(self.even, 1), first, quoted, self.width + self.used, not self.escape


class Layout(NamedTuple):
    """The layout of a CSV, and whether its values hold line ends, so that no line can be read by itself."""

    csv: CsvFormat
    multiline: bool


def detect_layout(head: bytes, by_name: str, delimiter: str = "") -> Layout | None:
    """Return the layout of a CSV that begins with these bytes of UTF-8, None if there is no record.

    by_name    the delimiter that the name of the file says; it is not stated
    delimiter  the delimiter, if it is known
    """
    text = head.decode("utf-8", errors="replace")
    comment = "#" if _has_comments(text) else ""
    fields = _FIELDS.search(text) if comment else None
    body = "".join(line for line in text.splitlines(True) if not comment or not line.startswith(comment))
    cut = _best_cut(body, delimiter)
    if cut is None:
        return None
    skip = 0 if comment else _lines_above(body, cut)
    rows = cut.rows[next(at for at, row in enumerate(cut.rows) if not skip or len(row) == cut.width) :]
    columns = _columns(rows, cut, fields[1].split() if fields else [])
    trailing = bool(columns) is False and len(rows) > 1 and len(rows[0]) == cut.width - 1
    trailing = trailing and all(not row[-1] for row in rows[1:] if len(row) == cut.width)
    csv = CsvFormat(
        delimiter="" if cut.delimiter == by_name else cut.delimiter,
        quote=cut.quote,
        header=not columns,
        columns=columns,
        escape=cut.escape,
        comment=comment,
        skip=skip,
        null=_nulls(rows[0 if columns else 1 :]),
        trailing=trailing,
    )
    return Layout(csv, any("\n" in cell for row in rows for cell in row))


def _has_comments(text: str) -> bool:
    """Return whether lines that begin with # are none: several do, or one that does not look like the header."""
    lines = [line for line in text.splitlines()[:COMPARED] if line.strip()]
    marked = [line for line in lines if line.startswith("#")]
    if not marked or len(marked) == len(lines) or not lines[0].startswith("#"):
        return False
    after = next(line for line in lines if not line.startswith("#"))
    marks = [Counter(re.findall(r"[,;\t|]", line)) for line in (marked[0], after)]
    return len(marked) > 1 or not marks[0] or marks[0] != marks[1]


def _best_cut(text: str, delimiter: str) -> _Cut | None:
    if delimiter:
        cuts = _cuts(text, [delimiter])
        return max(cuts, key=lambda cut: cut.score, default=None)
    common = max(_cuts(text, list(_COMMON)), key=lambda cut: cut.score, default=None)
    if common is None or (common.width > 3 and common.even >= _EVEN):
        return common
    others = [mark for mark in _OTHERS if mark == BLANKS or all(mark in line for line in text.splitlines()[:5] if line)]
    even = [cut for cut in _cuts(text, others) if cut.width > 1 and cut.even >= _EVEN]
    if any(cut.delimiter == " " and _has_empty_columns(cut) for cut in even):  # aligned by blanks
        even = [cut for cut in even if cut.delimiter != " "]
    best = max(even, key=lambda cut: cut.score, default=None)
    if common.width > 1 and common.even >= _EVEN and (best is None or best.width < 2 * common.width):
        return common
    return best or common


def _has_empty_columns(cut: _Cut) -> bool:
    return any(not any(cells) for cells in zip(*(row for row in cut.rows if len(row) == cut.width), strict=True))


def _cuts(text: str, delimiters: list[str]) -> list[_Cut]:
    escapes = ("", "\\") if "\\" in text else ("",)
    marks = [(each, quote, escape) for each in delimiters for quote in ('"', "'") for escape in escapes]
    return [cut for mark in marks if (cut := _cut(text, *mark)) is not None]


def _cut(text: str, delimiter: str, quote: str, escape: str) -> _Cut | None:
    rows = [row for row in islice(_rows(text, delimiter, quote, escape), COMPARED) if row]
    if not rows:
        return None
    [(width, _)] = Counter(map(len, rows)).most_common(1)
    above = next(at for at, row in enumerate(rows) if len(row) == width)
    counted = rows[above if above <= min(_MOST_SKIPPED, len(rows) // 2) else 0 :]
    even = sum(len(row) == width for row in counted) / len(counted)
    between = " " if delimiter == BLANKS else delimiter
    used = any(f"{quote}{between}{quote}" in line for line in text.splitlines()[:COMPARED])
    return _Cut(delimiter, quote, escape, rows, width, even, used)


def _rows(text: str, delimiter: str, quote: str, escape: str) -> Iterator[list[str]]:
    whole = text.rpartition("\n")[0] or text  # the last record may be cut
    is_blanks = delimiter == BLANKS
    if is_blanks:
        whole = "\n".join(line.strip(" \t").replace("\t", " ") for line in whole.splitlines())
    try:
        yield from csv_module.reader(
            io.StringIO(whole, newline=""),
            delimiter=" " if is_blanks else delimiter,
            quotechar=quote,
            escapechar=escape or None,
            skipinitialspace=is_blanks,
        )
    except csv_module.Error:
        return


def _lines_above(text: str, cut: _Cut) -> int:
    """Return how many lines stand above the header, such as a title: they have fewer fields than all that follow."""
    above = next(at for at, row in enumerate(cut.rows) if len(row) == cut.width)
    if not 0 < above <= _MOST_SKIPPED or cut.width < 3 or len(cut.rows) < 2 * above + 2:
        return 0
    if above == 1 and len(cut.rows[0]) == cut.width - 1:  # the header of records with a delimiter behind the last value
        return 0
    first = cut.rows[above]
    lines = text.splitlines()
    return next((at for at, line in enumerate(lines) if next(_rows(f"{line}\n", *cut[:3]), []) == first), 0)


def _columns(rows: list[list[str]], cut: _Cut, fields: list[str]) -> tuple[str, ...]:
    """Return the names of the columns if the first record does not hold them."""
    if len(fields) == cut.width:
        return tuple(fields)
    cells = [cell.strip() for cell in rows[0]]
    if not any(_VALUE.fullmatch(cell) for cell in cells) and cells.count("-") < 2:
        return ()
    if cut.width >= 7 and re.match(r"\[\d{1,2}/[A-Za-z]{3}/\d{4}:", cells[3]):
        names = _ACCESS_LOG[: cut.width]
        return (*names, *(f"column_{at}" for at in range(len(names) + 1, cut.width + 1)))
    return tuple(f"column_{at}" for at in range(1, len(cells) + 1))


def _nulls(rows: list[list[str]]) -> tuple[str, ...]:
    found = {cell for row in rows for cell in row}
    return tuple(text for text in _NULLS if text in found)
