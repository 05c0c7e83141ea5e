"""Detect the time format of the values of a path, if they are times."""

import re
from itertools import product
from typing import NamedTuple

import polars as pl

from pipelines.apps.mapping.profile import Seen
from transforms.mapping.functions import to_time
from transforms.records.times import EPOCH_UNITS, RFC3339

# Epoch times between 2000 and 2100: the ranges of the units do not overlap.
_PLAUSIBLE = {unit: (946_684_800 * of, 4_102_444_800 * of) for unit, of in EPOCH_UNITS.items()}
_DATES: tuple[str, ...] = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d/%m/%y",
)
_DATES += ("%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%d %B %Y")
_DATES += ("%B %d, %Y",)
_CLOCKS: tuple[str, ...] = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S%.f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    ", %H:%M:%S",
    "T%H:%M",
)
_CLOCKS += (" %H:%M:%S %z", " %H:%M:%S%.f %z", " %H:%M:%S UTC", " %H:%M:%S%.f UTC", "T%H:%M:%S%.f%z")
_CLOCKS += (" %H:%M:%S %Z", " %H:%M:%S%.f %Z", " %H:%M %Z")
PATTERNS = (
    *(date + clock for date, clock in product(_DATES, _CLOCKS)),
    *("%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y%m%d %H:%M:%S"),
    *("%d/%b/%Y:%H:%M:%S %z", "[%d/%b/%Y:%H:%M:%S %z]"),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S UTC %Y", "%a %b %d %H:%M:%S %Z %Y"),
    *("%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT"),
)
# What a text of the pattern has beside the values: not spaces and fractions, which it may be without.
LITERALS = {pattern: frozenset(re.sub(r"%[.0-9]*[a-zA-Z]", "", pattern)) - set(" ,") for pattern in PATTERNS}
NUMBER = re.compile(r"\d{1,20}(\.\d*)?")
_DIGITS_OF_A_DATE = (8, 12, 14)
_DATED = re.compile(r".{0,12}\d.*\D.*\d.*")
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?")
LOOKED_AT, COMPARED = 200, 5_000  # distinct values


class TimeForm(NamedTuple):
    """`form` is the `time` of a mapping; `share` is the share of present values that it parses."""

    form: str
    share: float
    note: str = ""

    @property
    def is_whole_day(self) -> bool:
        """Whether it has no time of day."""
        return "%" in self.form and not any(part in self.form for part in ("%H", "%I"))


def time_form(seen: Seen) -> TimeForm | None:
    """Return the format that parses most values of a path; None if no format parses any."""
    if not seen.scalar or seen.kinds["boolean"]:
        return None
    texts = list(seen.counts)[:COMPARED]
    numbers = [float(text) for text in texts if NUMBER.fullmatch(text)]
    if len(numbers) > len(texts) / 2:
        return _epoch(seen, numbers) or _formatted(seen, [text for text in texts if len(text) in _DIGITS_OF_A_DATE])
    iso = TimeForm(RFC3339, _weighed(seen, RFC3339)) if _share(texts[:LOOKED_AT], RFC3339) else None
    if iso is not None and iso.share > 0.99:
        return iso
    formatted = _formatted(seen, [text for text in texts if len(text) <= 40 and _DATED.fullmatch(text)])
    return iso if iso and (formatted is None or formatted.share <= iso.share) else formatted


def _epoch(seen: Seen, numbers: list[float]) -> TimeForm | None:
    for unit, (first, end) in _PLAUSIBLE.items():
        if sum(first <= number < end for number in numbers) > 0.9 * len(numbers):
            return TimeForm(unit, _weighed(seen, unit))
    return None


def _formatted(seen: Seen, texts: list[str]) -> TimeForm | None:
    some = texts[:LOOKED_AT]
    letters = [set(text) for text in some]
    possible = [p for p in PATTERNS if sum(map(LITERALS[p].issubset, letters)) > 0.5 * len(some)]
    likely = [pattern for pattern in possible if _share(some, pattern) > 0.5]
    if not likely:
        return None
    shares = {pattern: _share(texts, pattern) for pattern in likely}
    best = max(shares.values())
    equal = [pattern for pattern in likely if shares[pattern] == best]
    # Patterns that differ only in fractional seconds parse alike; those that differ in order do not.
    order = {_order(pattern): pattern for pattern in reversed(equal)}
    chosen = equal[0]
    note = ""
    if len(order) > 1:
        chosen = min(order.values(), key=lambda pattern: (_span(texts, pattern), equal.index(pattern)))
        other = next(pattern for key, pattern in order.items() if key != _order(chosen))
        note = f"the order of day and month is ambiguous, as no value is above 12; the alternative is {other}"
    elif _order(chosen) in ("dm", "md") and any(_order(pattern) != _order(chosen) for pattern in likely):
        note = f"{'day' if _order(chosen) == 'dm' else 'month'} first, as values above 12 show"
    return TimeForm(chosen, _weighed(seen, chosen), note)


def _order(pattern: str) -> str:
    return "".join(letter for letter in re.findall(r"%([dm])", pattern))


def _times(texts: list[str], form: str) -> pl.Series:
    return to_time(pl.Series(texts, dtype=pl.String), form)


def _share(texts: list[str], form: str) -> float:
    return 1 - _times(texts, form).null_count() / len(texts) if texts else 0.0


def _span(texts: list[str], form: str) -> float:
    seconds = _times(texts, form).drop_nulls().dt.epoch("s").to_list()
    return max(seconds) - min(seconds) if seconds else 0.0


def _weighed(seen: Seen, form: str) -> float:
    texts = list(seen.counts)
    read = _times(texts, form).is_not_null().to_list()
    found = sum(count for count, is_time in zip(seen.counts.values(), read, strict=True) if is_time)
    return found / max(len(seen.present), 1)
