"""Times of ISO 8601 as programs write them, beyond RFC 3339 (times.py), for the records of a mapping.

2026-03-01T10:00Z                          no seconds
2026-03-01 10:00:00,123                    a comma before the fraction, of any number of digits
2026-03-01 10:00:00+01, +0100, UTC         an offset without minutes or colon, also behind a blank; UTC or GMT
2026-03-01 10:00:00-00:44:30               an offset with seconds
2026-03-01T10:00:00+01:00[Europe/Berlin]   a zone by name; the offset counts if there is one
2026-03-01 10:00:00                        none: the zone that the mapping states, else UTC
"""

import polars as pl

from transforms.records.times import keep_in_range, read_times
from transforms.records.zones import NAIVE, localize

_CLOCK = r"(\d{2}:\d{2})(:\d{2})?(?:[.,](\d+))?"
_ZONE = r"(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2}){0,2})"
_ISO = rf"^(\d{{4}}-\d{{2}}-\d{{2}})(?:[Tt]| +){_CLOCK} ?{_ZONE}?(?:\[([A-Za-z0-9_+/-]+)\])?$"
_LOCAL = rf"^\d{{4}}-\d{{2}}-\d{{2}}(?:[Tt]| +){_CLOCK}$"


def read_iso_times(texts: pl.Series, zones: str | pl.Series | None = None) -> pl.Series:
    """Return texts as Datetime(us, UTC), null if unreadable.

    zones  of the texts that state none, an IANA name or an offset, or one a row (String)
    """
    times = read_times(texts)
    odd = times.is_null() & texts.is_not_null()
    odd = odd if zones is None else odd | are_local(texts)
    if not odd.any():
        return times
    rows = odd.arg_true()
    own = zones[rows] if isinstance(zones, pl.Series) else zones
    return times.scatter(rows, keep_in_range(_read(texts[rows], own)))


def are_local(texts: pl.Series) -> pl.Series:
    """Return which texts are times that state no zone, as Boolean."""
    return texts.str.contains(_LOCAL).fill_null(False)


def _read(texts: pl.Series, zones: str | pl.Series | None) -> pl.Series:
    names = ("day", "minute", "second", "fraction", "offset", "zone")
    text = pl.col("text")
    found = texts.to_frame("text").select(text.str.extract(_ISO, at + 1).alias(name) for at, name in enumerate(names))
    second, fraction = pl.col("second").fill_null(":00"), pl.col("fraction").fill_null("0").str.slice(0, 9)
    naive = found.select(
        pl.concat_str("day", pl.lit("T"), "minute", second, pl.lit("."), fraction)
        .str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        .cast(NAIVE)
    ).to_series()
    stated = found.select(pl.coalesce("offset", "zone")).to_series()
    has_zone = stated.is_not_null()
    local = naive.dt.replace_time_zone("UTC") if zones is None else localize(naive, zones)
    return localize(naive, stated).zip_with(has_zone, local) if has_zone.any() else local
