"""Guess which paths hold the event time, the sent time and the received time.

A text that is a date counts more than a bare number, because a counter or an id can lie between 2000 and 2100 too. A
number that contradicts the dates of the record by years is not taken while there is a date.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import available_timezones

import polars as pl

from pipelines.apps.mapping.found import ENDING, UNNAMED, Guess, Guesses, buried, join_names, rank, share_text
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.times import CLOCK, NUMBER, TimeForm
from pipelines.apps.mapping.times import time_form as detect_time_form
from pipelines.apps.mapping.trial import trial
from pipelines.apps.mapping.words import NAMES, OTHER_TIMES
from transforms.mapping.functions import to_time
from transforms.mapping.spec import TIMES
from transforms.records.times import EPOCH_UNITS

_IN_A_YEAR = {unit: 365.25 * 86_400 * of for unit, of in EPOCH_UNITS.items()}
LAST_RESORT = UNNAMED + 1  # rank of a path whose name suggests another time, or none at all
COMPARED = 1_000  # records whose times are compared
MOST_JOINED = 40  # columns, of which two neighbours may be a time together
_TOO_FAR_DAYS = 366
_ZONED = re.compile(r"(Z|[+-]\d{2}(:?\d{2})?|\b(UTC|GMT))\]?$|%[#:]*z|\[[A-Za-z/_]+\]$")
_TO_THE_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{1,2}")
_CALENDAR = ("year", "month", "day", "hour", "minute")
_BRACKETED = tuple(
    f"[%Y{mark}%m{mark}%d{clock}]" for mark in "-/" for clock in (" %H:%M:%S%.f", "T%H:%M:%S%.f", "T%H:%M:%S%.f%z")
)
_FRACTIONS = {"nanoseconds", "nanos", "nanosecond", "nsec", "nano", "microseconds", "micros", "usec", "us", "ns"}
_DAY_AND_MONTH = re.compile(r"\D*(\d{1,2})[/.-](\d{1,2})[/.-]\d{2,4}\b")


class Time(NamedTuple):
    """A path that may hold times; `parts` are those of a time that paths and constants make together."""

    seen: Seen
    form: TimeForm
    rank: int
    parts: tuple[Seen | str, ...] = ()
    contradicted: bool = False  # by the dates of the record

    @property
    def share(self) -> float:
        return self.form.share * self.seen.share

    @property
    def is_number(self) -> bool:
        return self.form.form in EPOCH_UNITS

    @property
    def order(self) -> tuple:
        group = sum(self.rank >= each for each in (ENDING, UNNAMED, LAST_RESORT))
        return (
            self.contradicted,
            self.share < 0.5,
            group == 3,
            self.form.is_whole_day,
            self.share < 0.9,
            group,
            self.rank + buried(self.seen),
            -self.share,
        )

    def read(self) -> pl.Series:
        """The times of the first records."""
        texts = [None if at is None or isinstance(at, list | dict) else str(at) for at in self.seen.values[:COMPARED]]
        return to_time(pl.Series(texts, dtype=pl.String), self.form.form)


@lru_cache(maxsize=1024)
def time_form(seen: Seen) -> TimeForm | None:
    """Return the format that parses most values of a path, found once."""
    return detect_time_form(seen)


def times_of(seen: list[Seen]) -> list[Time]:
    """Return the paths that hold times and may hold the event time, the likeliest first."""
    found, beside = [], []
    for each in seen:
        form = time_form(each)
        if form is None:
            continue
        if any(rank(each, name) < UNNAMED for name in TIMES if name != "event_time"):
            beside.append(Time(each, form, 0))
            continue
        known = rank(each, "event_time")
        if any(OTHER_TIMES & set(name.split("_")) for name in each.names[:1]):
            known = LAST_RESORT
        if form.share >= 0.3 if known < UNNAMED else form.share >= 0.95 and _is_no_other_number(each, form):
            found.append(Time(each, form, known))
    dates = [
        time.read() for time in (*found, *beside) if time.rank < ENDING and not time.is_number and time.share >= 0.5
    ]
    found = [
        time._replace(contradicted=time.is_number and any(_days_apart(time.read(), date) for date in dates))
        for time in found
    ]
    return sorted(found, key=lambda time: time.order)


def has_times(seen: list[Seen]) -> bool:
    """Return whether a path holds times that are not of another kind, such as those of a change or an end."""
    return any(time.rank < LAST_RESORT and not time.contradicted for time in times_of(seen))


def _is_no_other_number(seen: Seen, form: TimeForm) -> bool:
    """Return whether values may be times although the name does not suggest it: an id can look like epoch seconds."""
    if form.form not in EPOCH_UNITS:
        return True
    years = [float(text) / _IN_A_YEAR[form.form] + 1970 for text in seen.counts if NUMBER.fullmatch(text)]
    named = any(rank(seen, name) < UNNAMED for name in NAMES)
    return not named and len(years) > 1 and all(2000 < year < 2040 for year in years)


def _days_apart(one: pl.Series, other: pl.Series) -> int:
    """Return the days between two columns of times, by the median; 0 if they are less than about a year."""
    apart = (one - other).dt.total_days().abs().drop_nulls().median()
    return int(apart) if isinstance(apart, int | float) and apart > _TOO_FAR_DAYS else 0


def guess_times(found: Guesses) -> None:
    """Guess the times; without a readable one there is no guess of `event_time`."""
    for name in ("received_time", "sent_time"):
        for each in found.candidates(name):
            form = time_form(each)
            if form is not None and form.share >= 0.9:
                stated: dict[str, Any] = {"path": each.spelled, "time": form.form}
                notes = (form.note,) if form.note else ()
                found.add(Guess(name, stated, trial(each.values, name, {"time": form.form}).share, notes), each)
                break
    times = times_of(found.seen) or [joined for joined in [_joined(found.seen)] if joined]
    if not times:
        return
    if "received_time" not in found.made or not (times[0].contradicted or times[0].rank >= LAST_RESORT):
        _guess_event_time(found, *times)
    for time in times:
        if time.contradicted and time.seen.spelled not in found.used:
            found.refused[time.seen.spelled] = _contradiction(time)


def _contradiction(time: Time) -> str:
    moment = time.read().drop_nulls()[0]
    number = next(iter(time.seen.counts))
    return (
        f"no event_time: as {time.form.form} since 1970, {number} is {moment:%Y-%m-%d}, years away from the dates of"
        " the record; it looks like a counter"
    )


def _guess_event_time(found: Guesses, best: Time, *others: Time) -> None:
    if not best.parts and (clock := _clock_beside(best, found.seen)) is not None:
        seconds = max(text.count(":") for text in clock.counts) == 2
        form = best.form._replace(form=best.form.form + (" %H:%M:%S" if seconds else " %H:%M"))
        best = _put_together([best.seen, " ", clock], form)
        others = tuple(other for other in others if other.seen is not clock)
    used = [part for part in best.parts or [best.seen] if isinstance(part, Seen)]
    if best.parts:
        parts = [{"const": part} if isinstance(part, str) else {"path": part.spelled} for part in best.parts]
        stated: dict[str, Any] = {"concat": parts, "time": best.form.form}
    else:
        stated = {"path": best.seen.spelled, "time": best.form.form}
    zone = None if best.is_number or _has_zone(best) else next(filter(_holds_zones, found.seen), None)
    if zone is not None:
        stated["time_zone"] = {"path": zone.spelled} | ({"default": "UTC"} if zone.share < 1 else {})
        used.append(zone)
    share = trial(best.seen.values, "event_time", {"time": best.form.form}).share
    notes = [*_notes(best, others, zone), *_beside(best, found.seen, zone)]
    found.add(Guess("event_time", stated, share, tuple(notes)), *used)


def _notes(best: Time, others: tuple[Time, ...], zone: Seen | None) -> list[str]:
    notes = [note for note in (order_note(best),) if note]
    if best.rank >= LAST_RESORT:
        notes.append("the name does not say that it is the time of the event: check it")
    if not best.is_number and not _has_zone(best):
        notes.append(f"its zone is that of {zone.spelled}" if zone else "no zone is written: read as UTC")
    near = [other for other in others if other.share >= 0.5 or other.seen.depth <= best.seen.depth]
    near = [other for other in near if other.rank < (UNNAMED if other.is_number else LAST_RESORT)]
    if near:
        notes.append(f"other times: {join_names(other.seen.spelled for other in near)}")
    times = best.read()
    for other in near[:5]:
        if apart := _days_apart(times, other.read()):
            first = other.read().drop_nulls()[0]
            notes.append(
                f"{other.seen.spelled} contradicts it: {apart / 365.25:.0f} years apart, e.g. {first:%Y-%m-%d}"
            )
    return notes


def _beside(best: Time, seen: list[Seen], zone: Seen | None) -> Iterator[str]:
    """Yield what stands beside the time and belongs to it, but is not read: its fraction, another zone."""
    for each in seen:
        last = str(each.path[-1]).lower().strip("_")
        if each.path[:-1] == best.seen.path[:-1] and last in _FRACTIONS and each.kinds.keys() <= {"integer", "text"}:
            yield f"{each.spelled} holds the fraction of its second, which is left out"
        elif each is not zone and not best.is_number and _holds_zones(each):
            yield f"{each.spelled} holds a zone ({next(iter(each.counts))}), which is not used"


def _holds_zones(seen: Seen) -> bool:
    return seen.scalar and seen.share > 0.5 and all(map(_is_zone, list(seen.counts)[:50]))


def _is_zone(text: str) -> bool:
    return "/" in text and text in available_timezones()


def _has_zone(time: Time) -> bool:
    if _ZONED.search(time.form.form):
        return True
    texts = [text.strip() for text in list(time.seen.counts)[:COMPARED]]
    return sum(bool(_ZONED.search(text)) for text in texts if ":" in text) > len(texts) / 2


def order_note(time: Time) -> str:
    """Return what the values say of the order of day and month, where only they can say it."""
    note = time.form.note
    if "above 12" not in note:
        return note
    pairs = [(text, found) for text in time.seen.counts if (found := _DAY_AND_MONTH.match(text))]
    day_first = [text for text, found in pairs if int(found[1]) > 12]
    month_first = [text for text, found in pairs if int(found[2]) > 12]
    if not (day_first and month_first):
        return note
    is_day_first = time.form.form.index("%d") < time.form.form.index("%m")
    wrong = month_first if is_day_first else day_first
    count = sum(time.seen.counts[text] for text in wrong)
    return (
        f"the values contradict each other: {day_first[0]} is day first, {month_first[0]} month first; read as"
        f" {'day' if is_day_first else 'month'} first, so that {count:,} of {len(time.seen.present):,} records fail"
    )


def _clock_beside(time: Time, seen: list[Seen]) -> Seen | None:
    """Return the path with the time of day, if the time itself is a date."""
    if not time.form.is_whole_day:
        return None
    clocks = [
        each
        for each in seen
        if each is not time.seen
        and each.scalar
        and each.kinds.keys() == {"text"}
        and each.share > 0.5
        and all(CLOCK.fullmatch(text) for text in each.counts)
    ]
    return min(clocks, key=lambda each: abs(seen.index(each) - seen.index(time.seen)), default=None)


def _joined(seen: list[Seen]) -> Time | None:
    """Return a time that paths make together, such as `[06/Jan/2025:00:00:01` and `-0600]`, or year, month and day."""
    texts = [each for each in seen if each.scalar and each.kinds.keys() == {"text"}]
    ways: list[list[Seen | str]] = [[one, " ", two] for one, two in pairwise(texts[:MOST_JOINED])]
    ways += [[one, ":00"] for one in texts[:MOST_JOINED] if all(_TO_THE_HOUR.fullmatch(text) for text in one.counts)]
    named = {name: each for each in reversed(seen) if each.scalar for name in each.names[:1] if name in _CALENDAR}
    if {"year", "month", "day"} <= named.keys():
        day: list[Seen | str] = [named["year"], "-", named["month"], "-", named["day"]]
        minute: list[Seen | str] = [":", named["minute"]] if "minute" in named else [":00"]
        ways.append([*day, " ", named["hour"], *minute] if "hour" in named else day)
    for parts in ways:
        made = _put_together(parts, TimeForm("", 0.0))
        form = time_form(made.seen) or _bracketed(made.seen)
        if form is not None and form.share >= 0.9:
            return made._replace(form=form)
    return None


def _bracketed(seen: Seen) -> TimeForm | None:
    """Return the pattern of times in brackets, as logs write them."""
    texts = pl.Series(list(seen.counts)[:COMPARED], dtype=pl.String)
    if not texts.str.contains(r"^\[.{8,40}\]$").all() or texts.is_empty():
        return None
    shares = {form: 1 - to_time(texts, form).null_count() / len(texts) for form in _BRACKETED}
    best = max(shares, key=lambda form: shares[form])
    return TimeForm(best, shares[best]) if shares[best] else None


def _put_together(parts: list[Seen | str], form: TimeForm) -> Time:
    first = next(part for part in parts if isinstance(part, Seen))
    columns = [part.values if isinstance(part, Seen) else [part] * len(first.values) for part in parts]
    rows = zip(*columns, strict=True)
    values = [None if any(value is None for value in row) else "".join(map(str, row)) for row in rows]
    return Time(Seen(first.path, values), form, 0, tuple(parts))


def explain_no_time(seen: list[Seen]) -> list[str]:
    """Return a reason for each path whose name or values suggest a time that was not taken."""
    reasons = []
    for each in seen:
        if not each.scalar:
            continue
        example = next(iter(each.counts))[:40]
        numbers = all(NUMBER.fullmatch(text) for text in list(each.counts)[:200])
        form = time_form(each)
        named = rank(each, "event_time") < UNNAMED
        if form is not None and form.share < 0.3:
            texts = pl.Series(list(each.counts)[:COMPARED], dtype=pl.String)
            unread = texts.filter(to_time(texts, form.form).is_null())
            wrong = unread[0][:40] if len(unread) else example
            reasons.append(f"{each.spelled}: only {share_text(form.share)} can be read as {form.form}, not {wrong!r}")
        elif form is not None:
            what = f"could be {form.form} since 1970" if numbers else f"could be read as {form.form}"
            reasons.append(f"{each.spelled}: {example!r} {what}, but its name says that it is something else")
        elif numbers and named:
            reasons.append(f"{each.spelled}: {example!r} is no epoch in s, ms, us or ns between 2000 and 2100")
        elif named or _looks_like_a_date(list(each.counts)):
            reasons.append(f"{each.spelled}: {example!r} looks like a time of a form that is not known")
    return reasons


def _looks_like_a_date(texts: list[str]) -> bool:
    some = texts[:200]
    return (
        sum(bool(re.search(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}", text[:100])) for text in some)
        > len(some) / 2
    )
