"""Parse times: the strings and numbers in records, to Datetime(us, UTC).

An unreadable time is null, never an error: transforms/event_time.py decides what a record without one gets. A time
without a zone counts as UTC. Fractions finer than a microsecond are truncated. A year before 1970 or after 2200 is
unreadable: it comes from a wrong unit or an unset clock (0001-01-01, 1899-12-30, -1), and the offsets of the time zone
database are reliable from 1970 on only.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, compress
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from transforms.block import TIME

EPOCH_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # how many of it are a second
RFC3339 = "rfc3339"
_MICRO = 1_000_000
_ALIKE = [len("2026-03-01T10:00:00Z"), len("2026-03-01T10:00:00.123Z"), len("2026-03-01T10:00:00.123456Z")]
FIRST, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)  # of the times that are read
YEARS = f"{FIRST.year} to {END.year - 1}"
_MOST = int(END.timestamp()) * 1_000_000
_STAMPS = pa.timestamp("us", "UTC")
FEW, FEW_BYTES = 3, 512  # texts that no program writes ("soon", say) are often the same: their times are kept
_NAIVE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?$"
FINER = r"[.,][0-9]{6}[0-9]*[1-9]"  # a fraction that is finer than a microsecond
_find_finer = re.compile(FINER).search


class Stated(NamedTuple):
    """The times of a column, and the rows of those values that they do not hold, or hold without their last digits."""

    times: pl.Series
    lost: list[int]


def read_times(texts: pl.Series) -> pl.Series:
    """RFC 3339 texts (T or a space, any fraction, any or no zone) as Datetime(us, UTC), or null."""
    return _read(texts.to_arrow())[0].alias(texts.name)


def read_alike(texts: pa.Array) -> pl.Series:
    """Read large strings of which each is null, or a time from 1970 to 2200 in one of the forms that programs write:
    RFC 3339 to the second, milli- or microsecond, and Z."""
    return pl.Series(pc.cast(texts, _STAMPS))


def read_stated(columns: Sequence[Sequence[Any]]) -> list[Stated]:
    """Read columns of one height as `read_times` does; a value that is no text is null.

    They are read as one column, because a call costs more than the times of a small block.
    """
    height = len(columns[0])
    stated = [any(column) for column in columns]
    values = list(chain.from_iterable(compress(columns, stated)))
    all_text = True
    try:
        texts = pa.array(values, pa.large_string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        texts = pa.array([value if type(value) is str else None for value in values], pa.large_string())
        all_text = False
    times, odd = _read(texts)
    finer = [row for row in odd if _find_finer(values[row])]
    all_read = all_text and not finer and times.null_count() == texts.null_count
    nothing = pl.Series([None], dtype=TIME).new_from_index(0, height)
    starts = iter(range(0, len(values), height or 1))
    found = []
    for column, any_text in zip(columns, stated, strict=True):
        if not any_text:
            found.append(Stated(nothing, _unread(column, nothing)))
            continue
        start = next(starts)
        own = times.slice(start, height)
        lost = [row - start for row in finer if 0 <= row - start < height]
        found.append(Stated(own, [] if all_read else sorted({*lost, *_unread(column, own)})))
    return found


def _unread(column: Sequence[Any], times: pl.Series) -> list[int]:
    """The rows that state something, but no time that is read."""
    if times.null_count() == column.count(None):
        return []
    return [row for row in times.is_null().arg_true().to_list() if column[row] is not None and column[row] != ""]


def _read(texts: pa.Array) -> tuple[pl.Series, list[int]]:
    """Read an array of large strings; also return the rows of the forms that not every program writes.

    Arrow parses the formats that programs write (seconds, milli- or microseconds, and Z) ten times as fast as Polars,
    but also accepts shorter ones. A text of another form is read by Polars, so that a text is read the same whatever
    else is in its block.
    """
    alike = _are_alike(texts)
    all_alike = bool(alike.all())
    rows = np.array([], dtype=np.int64) if all_alike else np.flatnonzero(~alike)
    try:
        stamps = pc.cast(texts if all_alike else pc.if_else(pa.array(alike), texts, None), _STAMPS)
    except pa.ArrowInvalid:
        return _read_any(pl.Series(texts)), rows.tolist()
    bounds = pc.min_max(stamps.view(pa.int64())).as_py()
    inside = bounds["min"] is None or (bounds["min"] >= 0 and bounds["max"] < _MOST)
    times = pl.Series(stamps) if inside else keep_in_range(pl.Series(stamps))
    if all_alike:
        return times, []
    odd = texts.take(pa.array(rows))
    few = len(odd) <= FEW and odd.nbytes < FEW_BYTES
    return times.scatter(rows, _read_few(*odd.to_pylist()) if few else _read_any(pl.Series(odd))), rows.tolist()


@lru_cache(maxsize=256)
def _read_few(*texts: str) -> pl.Series:
    return _read_any(pl.Series(texts, dtype=pl.String))


def _are_alike(texts: pa.Array) -> np.ndarray:
    """Return which rows are null, or have a length of `_ALIKE` and end in Z."""
    buffers = texts.buffers()
    ends = np.frombuffer(buffers[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    sizes, data = np.diff(ends), np.frombuffer(buffers[2], np.uint8)
    alike = np.zeros(len(texts), dtype=bool)
    for size in _ALIKE:
        alike |= sizes == size
    if len(data):
        alike &= data[ends[1:] - 1] == ord("Z")
    if texts.null_count:
        alike |= texts.is_null().to_numpy(zero_copy_only=False)
    return alike


def _read_any(texts: pl.Series) -> pl.Series:
    times = _parse(texts, "%+")
    if times.null_count() > texts.null_count():
        naive = times.is_null() & texts.str.contains(_NAIVE).fill_null(False)
        if naive.any():
            zoned = texts.set(~naive, None) + "Z"
            times = times.zip_with(~naive, _parse(zoned, "%+"))
    return keep_in_range(times)


def read_epochs(numbers: pl.Series, unit: str) -> pl.Series:
    """Int64 or Decimal(38, 9) counts of s, ms, us or ns since 1970 as Datetime(us, UTC), null if out of range."""
    of = EPOCH_UNITS[unit]
    last = int(END.timestamp()) * of
    possible = numbers.set(~numbers.is_between(0, last, closed="left").fill_null(False), None)
    if of > _MICRO:
        return keep_in_range((possible.cast(pl.Int64) // (of // _MICRO)).cast(TIME))
    each = _MICRO // of
    if numbers.dtype == pl.Int64:
        return keep_in_range((possible * each).cast(TIME))
    whole = possible.cast(pl.Int64)
    rest = ((possible - whole) * each).cast(pl.Int64)
    return keep_in_range((whole * each + rest).cast(TIME))


def _parse(texts: pl.Series, pattern: str) -> pl.Series:
    times = texts.str.to_datetime(pattern, time_unit="us", strict=False)
    zone = getattr(times.dtype, "time_zone", None)
    return times.dt.replace_time_zone("UTC") if zone is None else times.dt.convert_time_zone("UTC")


def keep_in_range(times: pl.Series) -> pl.Series:
    """Return the times, null before 1970 and after 2200."""
    inside = times.is_between(FIRST, END, closed="left")
    return times.cast(TIME) if inside.all() else times.set(~inside.fill_null(False), None).cast(TIME)
