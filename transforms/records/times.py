"""Parse times: the strings and numbers in records, to Datetime(us, UTC).

An unreadable time is null, never an error: transforms/event_time.py decides what a record without one gets. A time
without a zone counts as UTC. Fractions finer than a microsecond are truncated. A year before 1970 or after 2200 is
unreadable: it comes from a wrong unit or an unset clock.
"""

from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from transforms.block import TIME

EPOCH_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}  # how many microseconds one of it is
RFC3339 = "rfc3339"
_ALIKE = [len("2026-03-01T10:00:00Z"), len("2026-03-01T10:00:00.123Z"), len("2026-03-01T10:00:00.123456Z")]
_FIRST, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)
_NAIVE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?$"


def read_times(texts: pl.Series) -> pl.Series:
    """RFC 3339 texts (T or a space, any fraction, any or no zone) as Datetime(us, UTC), or null."""
    alike = _read_alike(texts)
    if alike is not None:
        return _in_range(alike)
    times = _parse(texts, "%+")
    if times.null_count() > texts.null_count():
        naive = times.is_null() & texts.str.contains(_NAIVE).fill_null(False)
        if naive.any():
            zoned = texts.set(~naive, None) + "Z"
            times = times.zip_with(~naive, _parse(zoned, "%+"))
    return _in_range(times)


def _read_alike(texts: pl.Series) -> pl.Series | None:
    """Return the times if all are in a format that programs write (seconds, milli- or microseconds, and Z), else None.

    Arrow parses these seven times as fast, but also accepts shorter formats. The lengths are checked first, so that a
    text is parsed the same whatever else is in its block.
    """
    lengths = texts.str.len_bytes().drop_nulls()
    if not lengths.is_in(_ALIKE).all() or not texts.str.ends_with("Z").all():
        return None
    try:
        return pl.Series(texts.name, pc.cast(texts.to_arrow(), pa.timestamp("us", "UTC")), dtype=TIME)
    except pa.ArrowInvalid:
        return None


def read_formatted(texts: pl.Series, pattern: str) -> pl.Series:
    """Texts in a strptime pattern, such as `%m/%d/%Y %H:%M`, as Datetime(us, UTC), null if unreadable."""
    return _in_range(_parse(texts, pattern))


def read_epochs(numbers: pl.Series, unit: str) -> pl.Series:
    """Int64 or Decimal(38, 9) counts of s, ms or us since 1970 as Datetime(us, UTC), null if out of range."""
    last = int(_END.timestamp()) * 1_000_000 // EPOCH_UNITS[unit]
    possible = numbers.set(~numbers.is_between(0, last, closed="left").fill_null(False), None)
    if numbers.dtype == pl.Int64:
        return _in_range((possible * EPOCH_UNITS[unit]).cast(TIME))
    whole = possible.cast(pl.Int64)
    rest = ((possible - whole) * EPOCH_UNITS[unit]).cast(pl.Int64)
    return _in_range((whole * EPOCH_UNITS[unit] + rest).cast(TIME))


def is_readable_pattern(pattern: str) -> bool:
    """Return whether a strptime pattern contains at least a whole date, and parses what it formats."""
    sample = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    try:
        written = pl.Series([sample], dtype=TIME).dt.to_string(pattern)
        time = read_formatted(written, pattern)[0]
    except pl.exceptions.PolarsError:
        return False
    return time is not None and time.date() == sample.date()


def _parse(texts: pl.Series, pattern: str) -> pl.Series:
    times = texts.str.to_datetime(pattern, time_unit="us", strict=False)
    zone = getattr(times.dtype, "time_zone", None)
    return times.dt.replace_time_zone("UTC") if zone is None else times.dt.convert_time_zone("UTC")


def _in_range(times: pl.Series) -> pl.Series:
    inside = times.is_between(_FIRST, _END, closed="left")
    return times.cast(TIME) if inside.all() else times.set(~inside.fill_null(False), None).cast(TIME)
