"""Patterns of times: the directives of Python's strptime, and those of chrono that it lacks, read by Polars.

    %f, behind a point or a comma   any number of digits of a fraction; elsewhere %3f, %6f and %9f count them
    %z                              +0200, +02:00, and at the end of a pattern also +02 and Z
    %Z                              a name of zones.ABBREVIATIONS, CEST for example; any other is unreadable
    %y                              1970 to 2068: 69 is 1969 to Python and 2069 to chrono, so it is unreadable

All others are those of chrono, of which Python's are a part. A pattern is accepted if it holds a whole date and reads
two times, which differ in every part, as what they were written from.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Literal, NamedTuple

import polars as pl

from transforms.block import TIME
from transforms.records.zones import ABBREVIATIONS, localize

# They differ in fraction and zone, and in each part of a date and a clock.
SAMPLES = (
    datetime(2001, 2, 3, 4, 5, 6, 789_012, UTC),
    datetime(2019, 11, 23, 17, 48, 59, 500_000, timezone(timedelta(hours=5, minutes=30))),
)
_DIRECTIVE = re.compile(r"%(?:%|[-_0]?:{0,3}#?\.?[0-9]?[A-Za-z+])")
_NAME = "%Z"
_ZONES = {"%z", "%:z", "%::z", "%#z", "%+", "%s", _NAME}
_HOURS = {"%H", "%I", "%k", "%l", "%T", "%R", "%r", "%X", "%c", "%s", "%+"}
_SECONDS = {"%S", "%T", "%r", "%X", "%c", "%s", "%+"}
_SHORT_YEARS = {"%y", "%D", "%x"}
_PIVOT = datetime(2068, 12, 31, tzinfo=UTC)  # a day before the first time that is in doubt: an offset is less than that
_FRACTION = re.compile(r"%(?:\.[0-9]?|[0-9])f|%\+")
_TO_NANOS = {"%.f", "%9f", "%.9f", "%+"}
_BEHIND_NANOS = "[.,][0-9]{9}[0-9]*[1-9]"  # chrono reads over them
_NAMES = rf"(?i)(^|[^A-Z])({'|'.join(sorted(ABBREVIATIONS, key=len, reverse=True))})([^A-Z]|$)"


class Pattern(NamedTuple):
    """A pattern as chrono reads it, and what a text needs before."""

    chrono: str
    comma: bool  # a fraction behind a comma, which chrono does not read
    named: bool  # a name of a zone, which chrono reads over

    @property
    def states_zone(self) -> bool:
        """Whether each text states its zone."""
        return self.named or not _ZONES.isdisjoint(_DIRECTIVE.findall(self.chrono)) or _ends_in_utc(self.chrono)


@lru_cache(maxsize=1024)
def pattern_of(text: str) -> Pattern:
    """Return a pattern. Errors: ValueError, why it is none."""
    chrono = text.replace(".%f", "%.f")
    comma = bool(re.search(r",%(?:f|[369]f)", chrono))
    chrono = re.sub(r",%(?:f|[369]f)", "%.f", chrono)
    found = _DIRECTIVE.findall(chrono)
    if "%f" in found:
        raise ValueError("%f has no point before it; write %3f, %6f or %9f for as many digits of a fraction")
    named = _NAME in found
    chrono = chrono.replace(_NAME, "%z")
    if named and ("%z" in found or found.count(_NAME) > 1):
        raise ValueError("it states two zones; write one of %z and %Z")
    if chrono.endswith("%z"):
        chrono = chrono[:-2] + "%#z"
    return Pattern(chrono, comma, named)


def read_formatted(texts: pl.Series, pattern: str, zones: str | pl.Series | None = None) -> pl.Series:
    """Return texts in a pattern as Datetime(us, UTC), null if unreadable.

    zones  of texts whose pattern states none; UTC without
    """
    chrono = pattern_of(pattern).chrono
    times = _parse(texts, pattern, "us")
    if getattr(times.dtype, "time_zone", None) is not None:
        times = times.dt.convert_time_zone("UTC")
    elif zones is None or _ends_in_utc(chrono):
        times = times.dt.replace_time_zone("UTC")
    else:
        times = localize(times, zones)
    if _SHORT_YEARS.isdisjoint(_DIRECTIVE.findall(chrono)):
        return times
    return times.set(times >= _PIVOT, None)


def are_finer(texts: pl.Series, pattern: str) -> pl.Series | None:
    """Return which texts have digits behind the microseconds that are not zero, as Boolean; None if none can have."""
    long = _TO_NANOS.intersection(_DIRECTIVE.findall(pattern_of(pattern).chrono))
    if not long or not texts.str.contains("[0-9]{7}").any():
        return None
    nanos = _parse(texts, pattern, "ns").dt.timestamp("ns") % 1_000 != 0
    return nanos.fill_null(False) | texts.str.contains(_BEHIND_NANOS).fill_null(False)


def _parse(texts: pl.Series, pattern: str, unit: Literal["us", "ns"]) -> pl.Series:
    chrono, comma, named = pattern_of(pattern)
    if comma:
        texts = texts.str.replace(r",([0-9]+)", ".$1")
    if named:
        texts = _with_offsets(texts)
    return texts.str.to_datetime(chrono, time_unit=unit, strict=False)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that does not read what it says. Errors: ValueError, why."""
    chrono = pattern_of(pattern).chrono
    found = _DIRECTIVE.findall(chrono)
    writes = chrono.replace("%#z", "%:z")
    for sample in SAMPLES:
        zone = f"Etc/GMT{0:+d}" if sample.tzinfo is UTC else "Asia/Kolkata"
        try:
            written = pl.Series([sample], dtype=TIME).dt.convert_time_zone(zone).dt.to_string(writes)
            read = written.str.to_datetime(chrono, time_unit="us", strict=False)
        except pl.exceptions.PolarsError as problem:
            raise ValueError(str(problem).partition("\n")[0].removeprefix("Invalid format string: ")) from None
        zoned = getattr(read.dtype, "time_zone", None) is not None
        time = read.dt.convert_time_zone("UTC") if zoned else read.dt.replace_time_zone("UTC")
        if time[0] != _expected(sample, found, zoned or "%s" in found):
            raise ValueError(f"it reads {written[0]!r} as {time[0].isoformat() if time[0] else 'nothing'}")


def _expected(sample: datetime, found: list[str], zoned: bool) -> datetime:
    """The sample without the parts that the pattern does not hold."""
    time = sample if zoned else sample.replace(tzinfo=UTC)
    if _HOURS.isdisjoint(found):
        return time.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    if not ({"%M", "%T", "%R", "%r", "%X", "%c", "%s", "%+"} & set(found)):
        time = time.replace(minute=0)
    if _SECONDS.isdisjoint(found):
        time = time.replace(second=0)
    fraction = next((each for each in found if _FRACTION.fullmatch(each)), None)
    if fraction is None:
        time = time.replace(microsecond=0)
    elif fraction in ("%3f", "%.3f"):
        time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    return time.astimezone(UTC)


def _with_offsets(texts: pl.Series) -> pl.Series:
    """The texts with the offset in place of the name of their zone."""
    names = texts.str.extract(_NAMES, 2).str.to_uppercase()
    table = {name: f"${{1}}{int(hours):+03d}00${{3}}" for name, hours in ABBREVIATIONS.items()}
    offsets = names.replace_strict(list(table), list(table.values()), default=None, return_dtype=pl.String)
    both = pl.DataFrame({"text": texts, "offset": offsets})
    return both.select(pl.col("text").str.replace(_NAMES, pl.col("offset"))).to_series()


def _ends_in_utc(chrono: str) -> bool:
    """Whether the pattern itself says UTC behind its clock."""
    return bool(re.search(r"[SMRTf ](?:Z|UTC|GMT)\W*(?:%Y)?$", chrono))
