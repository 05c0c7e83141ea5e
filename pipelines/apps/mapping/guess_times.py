"""Guess which paths hold the event time, the sent time and the received time."""

from typing import Any, NamedTuple

from pipelines.apps.mapping.found import ENDING, UNNAMED, Guess, Guesses, join_names, rank
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.times import CLOCK, NUMBER, TimeForm, counts_nanoseconds, time_form
from pipelines.apps.mapping.trial import trial
from pipelines.apps.mapping.words import NAMES, OTHER_TIMES
from transforms.mapping.spec import TIMES
from transforms.records.times import EPOCH_UNITS

_IN_A_YEAR = {unit: 365.25 * 86_400 * of for unit, of in EPOCH_UNITS.items()}


class _Time(NamedTuple):
    seen: Seen
    form: TimeForm
    rank: int

    @property
    def share(self) -> float:
        return self.form.share * self.seen.share

    @property
    def order(self) -> tuple:
        group = sum(self.rank >= each for each in (ENDING, UNNAMED))
        return self.share < 0.9, self.form.is_whole_day, group, self.rank, -self.share


def times_of(seen: list[Seen]) -> list[_Time]:
    """Return the paths that may hold the event time, the likeliest first."""
    found = []
    for each in seen:
        form = time_form(each)
        if form is None or any(rank(each, name) < UNNAMED for name in TIMES if name != "event_time"):
            continue
        if any(OTHER_TIMES & set(name.split("_")) for name in each.names[:1]):
            continue
        known = rank(each, "event_time")
        if form.share >= 0.5 if known < UNNAMED else form.share >= 0.95 and _is_no_other_number(each, form):
            found.append(_Time(each, form, known))
    return sorted(found, key=lambda time: time.order)


def _is_no_other_number(seen: Seen, form: TimeForm) -> bool:
    """Return whether values may be times although the name does not suggest it: an id can look like epoch seconds."""
    if form.form not in EPOCH_UNITS:
        return True
    years = [float(text) / _IN_A_YEAR[form.form] + 1970 for text in seen.counts if NUMBER.fullmatch(text)]
    named = any(rank(seen, name) < UNNAMED for name in NAMES)
    return not named and len(years) > 1 and all(2005 < year < 2040 for year in years)


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
    times = times_of(found.seen)
    if times:
        _guess_event_time(found, *times)
    for each in () if times else found.seen:
        if each.scalar and counts_nanoseconds(each):
            found.refused[each.spelled] = "epoch nanoseconds, which a mapping cannot read; allowed: s, ms, us"


def _guess_event_time(found: Guesses, best: _Time, *others: _Time) -> None:
    notes = [best.form.note] if best.form.note else []
    if others:
        notes.append(f"other times: {join_names(other.seen.spelled for other in others)}")
    clock = _clock_beside(best, found.seen)
    if clock is None:
        stated: dict[str, Any] = {"path": best.seen.spelled, "time": best.form.form}
        values = best.seen.values
    else:
        seconds = max(text.count(":") for text in clock.counts) == 2
        parts = [{"path": best.seen.spelled}, {"const": " "}, {"path": clock.spelled}]
        stated = {"concat": parts, "time": best.form.form + (" %H:%M:%S" if seconds else " %H:%M")}
        pairs = zip(best.seen.values, clock.values, strict=True)
        values = [None if day is None or at is None else f"{day} {at}" for day, at in pairs]
    share = trial(values, "event_time", {"time": stated["time"]}).share
    found.add(Guess("event_time", stated, share, tuple(notes)), best.seen, *([clock] if clock else []))


def _clock_beside(time: _Time, seen: list[Seen]) -> Seen | None:
    """Return the path with the time of day, if the time itself is a date."""
    if not time.form.is_whole_day:
        return None
    for each in seen:
        words = {word for name in each.names for word in name.split("_")}
        clocks = each is not time.seen and each.kinds.keys() == {"text"} and words & {"time", "hour", "clock"}
        if clocks and all(CLOCK.fullmatch(text) for text in each.counts):
            return each
    return None
