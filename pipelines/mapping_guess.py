"""Guesses: which path of a sample tells which field of an event, and how many records that satisfies.

A name proposes, the values decide: each guess is tried with the mapping's own functions and the rules of the contract.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.mapping_profile import Seen, snaked
from pipelines.mapping_times import CLOCK, TimeForm, counts_nanoseconds, time_form
from pipelines.mapping_trial import Trial, trial
from pipelines.mapping_words import CHANNELS, ENDS, EVENT_TYPES, NAMES, OTHER_TIMES
from transforms.mapping_spec import TIMES
from transforms.times import EPOCH_UNITS

FAILING = 0.05  # share of records; a guess that sends more of them to quarantine is not made
MOST_TYPES, LONGEST_TYPE = 60, 100
LEAST_TO_COMPARE = 20  # values; among fewer, one that never changes or never repeats says nothing
_UNNAMED, _ENDING = 200, 100  # ranks of a path by its name; below these the place of the name in the list
_IN_A_YEAR = {unit: 365.25 * 86_400 * 1_000_000 / of for unit, of in EPOCH_UNITS.items()}
_ORDER = ("event_id", "user_id", "anonymous_id", "session_id", "event_type", "content_id", "content_type", "is_bot")
_ORDER += ("country", "channel", "device", "category", "campaign", "referrer", "value", "currency", "quantity")
_ORDER += ("rating", "text")


class Guess(NamedTuple):
    """A field as the mapping would state it. Shares are of records: `share` those that get a value."""

    field: str
    stated: dict[str, Any]
    share: float
    notes: tuple[str, ...] = ()
    comments: dict[str, str] = {}  # beside the keys of a map


@dataclass
class Guesses:
    """What was found, in the order in which it was decided."""

    seen: list[Seen]
    made: dict[str, Guess] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # path: why it is not used for what its name says
    used: set[str] = field(default_factory=set)

    def add(self, guess: Guess, *paths: Seen) -> None:
        self.made[guess.field] = guess
        self.used.update(seen.spelled for seen in paths)

    def candidates(self, name: str) -> list[Seen]:
        """The paths not used yet whose name tells the field, the best name first."""
        ranked = [(rank(seen, name), at) for at, seen in enumerate(self.seen) if seen.spelled not in self.used]
        return [self.seen[at] for found, at in sorted(ranked) if found < _UNNAMED and self.seen[at].scalar]


def guesses(seen: list[Seen]) -> Guesses:
    """Guess every field; without a time there is no guess of `event_time`."""
    found = Guesses(seen)
    _guess_times(found)
    for name in _ORDER:
        guess = _GUESSERS.get(name, _guess_text)
        guess(found, name)
    _stand_in(found)
    return found


def rank(seen: Seen, name: str) -> int:
    """How well a path's name tells a field: the lower the better, _UNNAMED for not at all."""
    squeezed = {hint.replace("_", ""): at for at, hint in reversed(list(enumerate(NAMES[name])))}
    found = [squeezed[each.replace("_", "")] for each in seen.names if each.replace("_", "") in squeezed]
    if found:
        return min(found)
    ends = (end for end in ENDS.get(name, ()) for each in seen.names if f"_{each}".endswith(f"_{end}"))
    return _ENDING if next(ends, None) else _UNNAMED


# Times.


class _Time(NamedTuple):
    seen: Seen
    form: TimeForm
    rank: int

    @property
    def share(self) -> float:
        return self.form.share * self.seen.share

    @property
    def order(self) -> tuple:
        group = sum(self.rank >= each for each in (_ENDING, _UNNAMED))
        return self.share < 0.9, self.form.is_whole_day, group, self.rank, -self.share


def times_of(seen: list[Seen]) -> list[_Time]:
    """The paths that state the time of an event, the likeliest first."""
    found = []
    for each in seen:
        form = time_form(each)
        if form is None or any(rank(each, name) < _UNNAMED for name in TIMES if name != "event_time"):
            continue
        if any(OTHER_TIMES & set(name.split("_")) for name in each.names[:1]):
            continue
        known = rank(each, "event_time")
        if form.share >= 0.5 if known < _UNNAMED else form.share >= 0.95 and _is_no_other_number(each, form):
            found.append(_Time(each, form, known))
    return sorted(found, key=lambda time: time.order)


def _is_no_other_number(seen: Seen, form: TimeForm) -> bool:
    """Whether values under a name that tells no time may be one: an id is as large as a count of seconds."""
    if form.form not in EPOCH_UNITS:
        return True
    years = [int(float(text)) / _IN_A_YEAR[form.form] + 1970 for text in seen.counts]
    named = any(rank(seen, name) < _UNNAMED for name in NAMES)
    return not named and len(years) > 1 and all(2005 < year < 2040 for year in years)


def _guess_times(found: Guesses) -> None:
    times = times_of(found.seen)
    for name in ("received_time", "sent_time"):
        for each in found.candidates(name):
            form = time_form(each)
            if form is not None and form.share >= 0.9:
                share = trial(each.values, name, {"time": form.form}).share
                stated = {"path": each.spelled, "time": form.form}
                found.add(Guess(name, stated, share, (form.note,) if form.note else ()), each)
                break
    if not times:
        for each in found.seen:
            if each.scalar and counts_nanoseconds(each):
                found.refused[each.spelled] = "nanoseconds since 1970, which a mapping cannot read: s, ms, us"
        return
    best, *others = times
    notes = [f"also a time: {_listed(other.seen.spelled for other in others)}"] if others else []
    clock = _clock_beside(best, found.seen)
    if best.form.note:
        notes.insert(0, best.form.note)
    if clock is None:
        stated: dict[str, Any] = {"path": best.seen.spelled, "time": best.form.form}
        share = trial(best.seen.values, "event_time", stated).share
        found.add(Guess("event_time", stated, share, tuple(notes)), best.seen)
        return
    seconds = max(text.count(":") for text in clock.counts) == 2
    pattern = best.form.form + (" %H:%M:%S" if seconds else " %H:%M")
    parts = [{"path": best.seen.spelled}, {"const": " "}, {"path": clock.spelled}]
    joined = [
        None if day is None or at is None else f"{day} {at}"
        for day, at in zip(best.seen.values, clock.values, strict=True)
    ]
    share = trial(joined, "event_time", {"time": pattern}).share
    found.add(Guess("event_time", {"concat": parts, "time": pattern}, share, tuple(notes)), best.seen, clock)


def _clock_beside(time: _Time, seen: list[Seen]) -> Seen | None:
    """The path that tells the time of day, where the time itself is a whole day in text."""
    if not time.form.is_whole_day:
        return None
    for each in seen:
        words = {word for name in each.names for word in name.split("_")}
        clocks = each is not time.seen and each.kinds.keys() == {"text"} and words & {"time", "hour", "clock"}
        if clocks and all(CLOCK.fullmatch(text) for text in each.counts):
            return each
    return None


# Fields of one value.


def _guess_id(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        distinct, stated = len(each.counts), len(each.present)
        tried = trial(each.values, name, {})
        if each.kinds["boolean"] or tried.failing > FAILING or each.share < 0.9:
            found.refused[each.spelled] = _because(tried, "no event_id: " + _some_lack(each))
        elif distinct < 0.99 * stated:
            found.refused[each.spelled] = f"no event_id: only {distinct:,} different values in {stated:,} records"
        else:
            repeats = stated - distinct
            notes = [f"{repeats:,} repeat another's, which makes duplicates of them"] if repeats else []
            notes += [f"{_some_lack(each)}: theirs is derived from what they say"] if each.share < 1 else []
            found.add(Guess(name, {"path": each.spelled}, tried.share, tuple(notes)), each)
            return


def _guess_identity(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if each.kinds["boolean"] or (len(each.counts) < 2 and len(each.values) >= LEAST_TO_COMPARE):
            found.refused[each.spelled] = f"no {name}: it never changes"
            continue
        if _try(found, name, each, {}, candidates[at + 1 :]):
            return


def _guess_text(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if each.kinds.keys() == {"text"} or (name in ("category", "campaign") and not each.kinds["boolean"]):
            unique = len(each.present) >= LEAST_TO_COMPARE and len(each.counts) > 0.9 * len(each.present)
            if unique and name not in ("referrer", "text"):
                found.refused[each.spelled] = f"no {name}: nearly every record has another value"
            elif name == "text" and sum(" " in text for text in each.counts) < 0.3 * len(each.counts):
                found.refused[each.spelled] = "no text: single words"
            elif _try(found, name, each, {}, candidates[at + 1 :]):
                return


def _guess_number(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if not each.kinds["boolean"]:
            plain = trial(each.values, name, {})
            stated = {"functions": ["number"]} if plain.failed else {}
            if _try(found, name, each, stated, candidates[at + 1 :]):
                return


def _guess_flag(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        if _try(found, name, each, {}, []):
            return


def _guess_channel(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        words = {text: CHANNELS.get(snaked((text,))[0]) for text in list(each.counts)[: MOST_TYPES + 1]}
        known = sum(each.counts[text] for text, made in words.items() if made)
        if known < len(each.present) / 2 or len(words) > MOST_TYPES:
            found.refused[each.spelled] = "no channel: its values are none, such as web, mobile, email"
        elif all(text == made for text, made in words.items()):
            if _try(found, name, each, {}, []):
                return
        else:
            table = {text: made or "other" for text, made in words.items()}
            if _try(found, name, each, {"map": table, "else": "other"}, []):
                return


def _try(found: Guesses, name: str, seen: Seen, how: dict[str, Any], others: list[Seen]) -> bool:
    """Make the guess if it holds, and say whether it was made."""
    tried = trial(seen.values, name, how)
    if tried.failing > FAILING or not tried.filled:
        found.refused[seen.spelled] = _because(tried, f"no {name}")
        return False
    notes = [_because(tried, "")] if tried.failed else []
    if named := [each.spelled for each in others[:3]]:
        notes.append(f"or {_listed(named)}")
    found.add(Guess(name, {"path": seen.spelled, **how}, tried.share, tuple(notes)), seen)
    return True


# What happened.


def _guess_type(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        texts = [text for text, _ in each.counts.most_common()]
        few = len(texts) <= MOST_TYPES and (len(texts) <= 10 or len(texts) <= len(each.present) / 2)
        if each.kinds["boolean"] or each.share < 0.5 or max(map(len, texts)) > LONGEST_TYPE:
            found.refused[each.spelled] = f"no event_type: {_some_lack(each) if each.share < 0.5 else 'no names'}"
        elif few:
            found.add(_typed(each, texts), each)
            return
        elif (tried := trial(each.values, name, {"functions": ["snake"]})).share > 0.95:
            found.add(Guess(name, {"path": each.spelled, "functions": ["snake"]}, tried.share), each)
            return
        else:
            found.refused[each.spelled] = f"no event_type: {len(texts):,} different values"


def _typed(seen: Seen, texts: list[str]) -> Guess:
    """Plain where the values are names already, in snake case where that makes them so, else by a map."""
    forms = dict(zip(texts, snaked(tuple(texts)), strict=True))
    made = {text: well_known(form) or form for text, form in forms.items()}
    lacking = {"default": "other"} if seen.share < 1 else {}
    notes = (f"{_some_lack(seen)}: other",) if lacking else ()
    for how in ({}, {"functions": ["snake"]}):
        told = texts if not how else [forms[text] for text in texts]
        tried = trial(seen.values, "event_type", {**how, **lacking})
        if not tried.failed and list(made.values()) == told:
            return Guess("event_type", {"path": seen.spelled, **how, **lacking}, tried.share, notes)
    valid = trial(list(made.values()), "event_type", {})
    if valid.failed:  # a name in no Latin letters, or a code
        made = {text: to if not trial([to], "event_type", {}).failed else "other" for text, to in made.items()}
    stated = {"path": seen.spelled, "map": made, "else": "other", **lacking}
    comments = {text: f"{seen.counts[text]:,}{'' if well_known(forms[text]) else ', as it stands'}" for text in texts}
    return Guess("event_type", stated, trial(seen.values, "event_type", stated).share, notes, comments)


def well_known(word: str) -> str | None:
    """The well-known event type that a word in snake case stands for."""
    words = (word, word.removesuffix("_event"), word.removesuffix("_clicked"), word.removeprefix("ga_"))
    return next((EVENT_TYPES[at.replace("_", "")] for at in words if at.replace("_", "") in EVENT_TYPES), None)


def _stand_in(found: Guesses) -> None:
    """Where nothing tells a person, a session stands for one."""
    session = found.made.get("session_id")
    if session and "user_id" not in found.made and "anonymous_id" not in found.made:
        note = "no path tells a person: a session stands for one"
        found.made["user_id"] = session._replace(field="user_id", notes=(note,))


def _some_lack(seen: Seen) -> str:
    return f"{share_text(1 - seen.share)} of the records have none"


def _because(tried: Trial, what: str) -> str:
    told = ", ".join(f"{code} in {count:,}" for code, count in tried.codes.items())
    return ": ".join(filter(None, (what, f"{told} of {tried.records:,} records" if told else "")))


def _listed(names: Iterator[str] | list[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def share_text(share: float) -> str:
    """A share in words: never 100 % or 0 % for one that is a little less or more."""
    percent = round(share * 100, 1)
    if percent in (0, 100) and share not in (0, 1):
        return "over 99.9 %" if share > 0.5 else "under 0.1 %"
    return f"{percent:g} %"


_GUESSERS: dict[str, Callable[[Guesses, str], None]] = {
    "event_id": _guess_id,
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "content_id"), _guess_identity),
    "event_type": _guess_type,
    **dict.fromkeys(("value", "quantity", "rating"), _guess_number),
    "is_bot": _guess_flag,
    "channel": _guess_channel,
}
