"""Which newlines end a record of CSV: those outside of quotes, and those of a quote that is a mistake.

A record of several lines counts as one only if all of it can be read: each quote is closed, a delimiter or the end of
the line follows the quote that closes, it has as many fields as there are columns, and at most RECORD_LIMIT bytes.
Otherwise its first line alone is a record, and reading goes on with the next line, so that one stray quote costs one
record and not those that follow. The bytes from the beginning of a record to its end decide, so that it is the same
wherever blocks and ranges are cut.

    newlines_of(data, layout, at_end)    all newlines, those that end records, and how far that is decided

Where no newline stands inside quotes, arrays decide; otherwise patterns without backtracking find the lines with a
quote that stays open, and `_Walk` reads on from each. It remembers the fields that it has read, so that no bytes,
whatever they are, are read more than a few times.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from transforms.records.csv_format import BLANKS, CsvFormat
from transforms.records.payloads import RECORD_LIMIT

NEWLINE = ord("\n")
SEARCH_BYTES = 256 << 10
FEW_COLUMNS, NO_LIMIT = 8, 1 << 62
REMEMBERED = 8  # one in so many of the fields that run over a line end
_ENDS, _FAILS, _OPEN = "ends", "fails", "open"


class Newlines(NamedTuple):
    """Offsets of all newlines and of those that end a record, Int64, and the offset up to which that is decided.

    decided  all of the data, or the first byte of a record whose end the data do not show
    """

    all: np.ndarray
    ends: np.ndarray
    decided: int


def newlines_of(data: bytes, layout: CsvFormat | None, at_end: bool) -> Newlines:
    """The newlines of bytes that begin at a record; `at_end` if no more follow."""
    array = np.frombuffer(data, np.uint8)
    newlines = offsets_of(NEWLINE, array)
    ends = newlines if layout is None else _ends_without_mistakes(data, array, newlines, layout, at_end)
    if ends is not None:
        return Newlines(newlines, ends, len(data) if at_end else int(ends[-1]) + 1 if ends.size else 0)
    assert layout is not None
    spans, decided = _spans(data, layout, at_end)
    if decided < len(data):
        newlines = newlines[: np.searchsorted(newlines, decided)]
    if not spans:
        return Newlines(newlines, newlines, decided)
    firsts, lasts = np.array(spans).T
    at = np.searchsorted(firsts, newlines, "right") - 1
    inside = (at >= 0) & (newlines < lasts[at])
    return Newlines(newlines, newlines[~inside], decided)


def offsets_of(byte: int, data: np.ndarray) -> np.ndarray:
    """Where a byte stands in an array of bytes, ascending, Int64."""
    # In steps: the mask of a whole block leaves the processor's cache and costs as much as the search itself.
    steps = range(0, max(data.size, 1), SEARCH_BYTES)
    return np.concatenate([np.flatnonzero(data[at : at + SEARCH_BYTES] == byte) + at for at in steps])


def _ends_without_mistakes(
    data: bytes, array: np.ndarray, newlines: np.ndarray, layout: CsvFormat, at_end: bool
) -> np.ndarray | None:
    """The newlines that end records of data without escapes whose quotes are all as they should be; None for others."""
    if not layout.multiline:
        return newlines
    if layout.escape and layout.escape.encode() in data:
        return None
    if not layout.quote or layout.quote.encode() not in data:
        return newlines
    if len(layout.delimiter) != 1:
        return None
    mark, quote = ord(layout.delimiter), ord(layout.quote)
    quotes = offsets_of(quote, array)
    # A quote opens a field at the field's start, and right behind another quote it is a character.
    opening = quotes[0::2]
    before = np.where(opening > 0, array[opening - 1], NEWLINE)
    if not ((before == NEWLINE) | (before == mark) | (before == quote)).all():
        return None
    outside = np.searchsorted(quotes, newlines) % 2 == 0
    if outside.all():
        return newlines
    ends = newlines[outside]
    closing = quotes[1::2]
    after = array[np.minimum(closing + 1, array.size - 1)]
    is_right = (after == mark) | (after == NEWLINE) | (after == quote) | (closing + 1 == array.size)
    if not is_right.all() or b"\r" in data or (quotes.size % 2 and at_end):
        return None
    bounds = np.concatenate(([-1], ends, [array.size] if at_end else []))
    return ends if _have_all_fields(array, newlines, bounds.astype(np.int64), quotes, layout) else None


def _have_all_fields(
    array: np.ndarray, newlines: np.ndarray, bounds: np.ndarray, quotes: np.ndarray, layout: CsvFormat
) -> bool:
    """Whether each record of several lines between bounds has a field for each column, and none is too long."""
    if array.size - int(bounds[-1]) > RECORD_LIMIT or (np.diff(bounds) > RECORD_LIMIT).any():
        return False
    if not layout.columns:
        return True
    marks = offsets_of(ord(layout.delimiter), array)
    marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    fields = np.diff(np.searchsorted(marks, bounds)) + 1
    several = np.searchsorted(newlines, bounds[1:]) > np.searchsorted(newlines, bounds[:-1], "right")
    return bool((fields[several] == len(layout.columns)).all())


class _Patterns(NamedTuple):
    lines: re.Pattern[bytes]  # as many lines as are records by themselves
    field: re.Pattern[bytes]  # a field and what ends it: a delimiter, or the end of the record as group 1
    last: re.Pattern[bytes]  # the last field of all data
    open: re.Pattern[bytes]  # a field that more data may end


@lru_cache(maxsize=16)
def _patterns(layout: CsvFormat) -> _Patterns:
    quote, escape = (re.escape(each.encode()) for each in (layout.quote, layout.escape))
    mark = rb"[ \t]++" if layout.delimiter == BLANKS else re.escape(layout.delimiter.encode())
    no_mark = rb"(?![ \t])" if layout.delimiter == BLANKS else b"(?!" + mark + b")"
    opens = quote or b"(?!)"  # what nothing matches

    def quoted(escaped: bytes, but: bytes) -> bytes:
        """From a quote that opens a field to before the one that closes it."""
        one = b"[^" + quote + escape + but + b"]" if quote + escape + but else b"."
        more = b"|".join([opens + opens, *([escape + escaped] if escape else ())])
        return opens + one + b"*+(?:(?:" + more + b")" + one + b"*+)*+"

    def plain(escaped: bytes) -> bytes:
        single = len(layout.delimiter) == 1
        one = b"[^" + mark + escape + rb"\r\n]" if single else no_mark + b"[^" + escape + rb"\r\n]"
        return b"(?!" + opens + b")(?:" + one + (b"|" + escape + escaped if escape else b"") + b")*+"

    on_line, anywhere = rb"[^\n]", b"."
    whole = b"(?:" + quoted(on_line, rb"\n") + opens + b"|" + plain(on_line) + b")" + mark
    escaped_end = escape and escape + b"?"
    runs_on = b"|".join([quoted(on_line, rb"\n") + escaped_end, *([plain(on_line) + escape] if escape else ())])
    closed = quoted(anywhere, b"") + opens
    unended = plain(anywhere) + rb"\r?" + escaped_end
    return _Patterns(
        *(
            re.compile(pattern, re.DOTALL)
            for pattern in (
                b"(?:(?:" + whole + b")*+(?!(?:" + runs_on + rb")(?:\n|\Z))[^\n]*+\n)*+",
                b"(?:" + closed + b"|" + plain(anywhere) + b")(?:" + mark + rb"|\r?(\n))",
                b"(?:" + closed + b"|" + plain(anywhere) + rb")\r?\Z",
                b"(?:" + closed + rb"\r?|" + quoted(anywhere, b"") + escaped_end + b"|" + unended + rb")\Z",
            )
        )
    )


def _spans(data: bytes, layout: CsvFormat, at_end: bool) -> tuple[list[tuple[int, int]], int]:
    """([(first byte, last byte)] of the records of several lines, the offset up to which that is decided)"""
    patterns, walk = _patterns(layout), _Walk(data, layout)
    spans: list[tuple[int, int]] = []
    start = 0
    while True:
        start = patterns.lines.match(data, start).end()  # type: ignore[union-attr]  # it matches nothing, too
        newline = data.find(b"\n", start)
        if newline < 0:
            return spans, len(data) if at_end else start
        outcome, end, fields = walk.from_line(start, at_end)
        if outcome == _OPEN and not at_end and len(data) - start <= RECORD_LIMIT:
            return spans, start
        right = outcome == _ENDS and end - start <= RECORD_LIMIT and _fits(fields, data[start:end], layout)
        if right:
            spans.append((start, end))
        start = (end if right else newline) + 1


def _fits(fields: int, record: bytes, layout: CsvFormat) -> bool:
    """Whether a record has a field for each column."""
    width = len(layout.columns)
    if not width or layout.delimiter == BLANKS or fields == width:
        return True
    return layout.trailing and fields == width + 1 and record.removesuffix(b"\r").endswith(layout.delimiter.encode())


class _Walk:
    """Reads records field by field, and remembers where the fields that run over a line end lead to."""

    def __init__(self, data: bytes, layout: CsvFormat):
        self.data, self.patterns = data, _patterns(layout)
        width = len(layout.columns)
        # Of few columns, what has more fields is not read to its end.
        self.most = width + 1 if 0 < width <= FEW_COLUMNS and layout.delimiter != BLANKS else NO_LIMIT
        self._known: dict[int, tuple[str, int, int]] = {}  # field -> (outcome, where, fields from there)

    def from_line(self, start: int, at_end: bool) -> tuple[str, int, int]:
        """(outcome, the newline that ends the record, or where the outcome was found, the number of its fields)"""
        at, fields, crossed = start, 0, 0
        passed: list[tuple[int, int]] = []
        match, find = self.patterns.field.match, self.data.find
        line_end = find(b"\n", start)
        while True:
            if fields > self.most:
                return _FAILS, at, fields
            if at in self._known:
                outcome, where, more = self._known[at]
                fields += more
                break
            found = match(self.data, at)
            if found is None:
                outcome, where = self._unended(at, at_end)
                fields += 1
                break
            fields += 1
            if found.end() > line_end + 1 and found[1] is None:
                if crossed % REMEMBERED == 0:
                    passed.append((at, fields - 1))
                crossed += 1
                line_end = find(b"\n", found.end())
            at = found.end()
            if found[1] is not None:
                outcome, where = _ENDS, at - 1
                break
        self._known.update((place, (outcome, where, fields - before)) for place, before in passed)
        return outcome, where, fields

    def _unended(self, at: int, at_end: bool) -> tuple[str, int]:
        if at_end and self.patterns.last.match(self.data, at):
            return _ENDS, len(self.data)
        return (_OPEN if self.patterns.open.match(self.data, at) else _FAILS), at
