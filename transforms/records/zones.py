"""Time zones: local times to UTC.

A zone is an IANA name (Europe/Berlin), an offset (+02:00, +0200, +02, UTC+2, Z) or, in texts, one of the names of
RFC 2822 and their European relatives (EST, CEST). A local time that an hour of summer time repeats is its first
occurrence; one that it skips counts by the offset before it, so that 02:30 in the hour that is missing is 03:30: the
rule of `fold=0` in Python (PEP 495). A local time of a name from 2100 on is unreadable: the table of Polars has no
summer time there.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import available_timezones

import polars as pl

from transforms.block import TIME

NAIVE = pl.Datetime("us")
# Hours ahead of UTC: RFC 2822, section 4.3, and names of Europe, Japan, Korea, Australia and New Zealand that are used
# for one zone alone. IST, CST of China and the like are not among them: they name several.
ABBREVIATIONS: Mapping[str, float] = {
    **{"UTC": 0, "GMT": 0, "UT": 0, "Z": 0},
    **{"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7},
    **{"WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3},
    **{"JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13},
}
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?", re.IGNORECASE)
_TABLE_END = datetime(2100, 1, 1)
_SKIPPED = timedelta(hours=3), timedelta(hours=25)  # before a gap: of an hour or two, and of a day (Samoa, 2011)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


@lru_cache(maxsize=4096)
def zone_of(text: str) -> str | timedelta | None:
    """Return the IANA name or the offset that a text states; None if it states none."""
    text = text.strip()
    if stated := _OFFSET.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in stated.group(2, 3, 4))
        offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if hours > 23 or minutes > 59 or seconds > 59:
            return None
        return -offset if stated[1] == "-" else offset
    if text.upper() in ("Z", "UTC", "GMT"):
        return timedelta()
    name = _names().get(text.lower())
    return name if name is not None and _is_known(name) else None


def _is_known(name: str) -> bool:
    """Whether Polars has this zone: Python also lists what a machine has, such as `localtime`."""
    try:
        pl.Series([0]).cast(TIME).dt.convert_time_zone(name)
    except pl.exceptions.PolarsError:
        return False
    return True


def localize(naive: pl.Series, zones: str | pl.Series) -> pl.Series:
    """Return local times (Datetime(us)) of a zone, or of one a row (String), as Datetime(us, UTC).

    Null where the zone is null or none.
    """
    if isinstance(zones, str):
        return _in_zone(naive, zone_of(zones))
    times = pl.Series([None], dtype=TIME).new_from_index(0, len(naive))
    for text in zones.drop_nulls().unique().to_list():
        zone = zone_of(text)
        if zone is not None:
            times = _in_zone(naive, zone).zip_with(zones == text, times)
    return times


def _in_zone(naive: pl.Series, zone: str | timedelta | None) -> pl.Series:
    if zone is None:
        return pl.Series([None], dtype=TIME).new_from_index(0, len(naive))
    if isinstance(zone, timedelta):
        return (naive - zone).dt.replace_time_zone("UTC")
    beyond = naive >= _TABLE_END
    naive = naive.set(beyond, None) if beyond.any() else naive
    times = _by_name(naive, zone)
    if times.null_count() == naive.null_count():
        return times
    for before in _SKIPPED:
        skipped = times.is_null() & naive.is_not_null()
        earlier = naive.set(~skipped, None) - before
        offset = earlier - _by_name(earlier, zone).dt.replace_time_zone(None)
        times = times.fill_null((naive - offset).dt.replace_time_zone("UTC"))
    return times


def _by_name(naive: pl.Series, zone: str) -> pl.Series:
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
