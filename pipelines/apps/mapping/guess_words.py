"""Guess which paths hold the event type and the channel, and map their words to the well-known vocabulary.

The values of a path count as much as its name: a column of `pv, buy, cart, fav` is the event type whatever its name.
"""

import unicodedata
from typing import NamedTuple

from pipelines.apps.mapping.found import (
    ENDING,
    UNNAMED,
    Guess,
    Guesses,
    attempt,
    buried,
    join_names,
    rank,
    share_text,
    some_lack,
)
from pipelines.apps.mapping.profile import Seen, to_snake_case
from pipelines.apps.mapping.trial import trial
from pipelines.apps.mapping.words import CHANNELS, EVENT_TYPES, OUTRIGHT
from pipelines.apps.mapping.words_by_language import WORDS_BY_LANGUAGE

MOST_WORDS, LONGEST_WORD = 60, 100
ALWAYS_FEW = 25  # words that are few however few the records are
_ENOUGH_KNOWN = 0.5, 0.8  # share of values that are known words, for a name that suggests the type and for any name
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"}  # of HTTP
_OTHERWISE = ("content_id", "category", "channel", "device", "country", "text", "referrer", "content_type", "currency")


class _Typed(NamedTuple):
    """A path that may hold the event type, its words, and the share of its values that are well known."""

    seen: Seen
    texts: list[str]
    known: float
    distinct: int  # well-known words
    tier: int
    place: int

    @property
    def order(self) -> tuple:
        by_values = self.place >= UNNAMED
        words = (by_values, -self.distinct if by_values else 0, -round(self.known, 1)) if self.tier == 1 else ()
        return self.tier, self.tier == 0 and len(self.texts) < 2, words, self.place


def guess_type(found: Guesses, name: str) -> None:
    ranked = _candidates(found)
    for each in ranked:
        seen, texts = each.seen, each.texts
        if seen.kinds["boolean"] or not texts or max(map(len, texts)) > LONGEST_WORD:
            found.refused[seen.spelled] = "no event_type: no names"
        elif len(texts) <= MOST_WORDS and (len(texts) <= ALWAYS_FEW or len(texts) <= len(seen.present) / 2):
            other = _instead(each, ranked)
            if other is None and seen.share < 0.5:
                found.refused[seen.spelled] = f"no event_type: {some_lack(seen)}"
                continue
            guess = _typed(seen, texts, other.seen if other else None)
            note = () if each.place < UNNAMED else ("found by its values, not by its name",)
            found.add(guess._replace(notes=(*note, *guess.notes)), seen, *([other.seen] if other else []))
            return
        elif seen.share >= 0.5 and (tried := trial(seen.values, name, {"functions": ["snake"]})).share > 0.95:
            found.add(Guess(name, {"path": seen.spelled, "functions": ["snake"]}, tried.share), seen)
            return
        else:
            found.refused[seen.spelled] = f"no event_type: {len(texts):,} distinct values"


def _candidates(found: Guesses) -> list[_Typed]:
    """Return the paths that may hold the event type, the likeliest first.

    Tier 0: the name says it outright. 1: well-known words. 2: a name that may mean something else, such as `kind`.
    """
    made = []
    for seen in found.seen:
        if seen.spelled in found.used or not seen.scalar:
            continue
        named = rank(seen, "event_type")
        texts = [text for text, _ in seen.counts.most_common()]
        known, distinct = _known(seen, texts)
        if named < UNNAMED and OUTRIGHT & set(seen.names[:1]):
            tier = 0
        elif named < UNNAMED and known >= _ENOUGH_KNOWN[0]:
            tier = 1
        elif named < ENDING:
            tier = 2
        elif known >= _ENOUGH_KNOWN[1] and distinct >= _least_known(seen) and seen.share >= 0.5:
            tier = 1
        else:
            continue
        made.append(_Typed(seen, texts, known, distinct, tier, min(named, UNNAMED) + buried(seen)))
    return sorted(made, key=lambda each: each.order)


def hold_types(seen: list[Seen]) -> bool:
    """Return whether a path holds well-known words for what happened."""
    return any(_known(each, list(each.counts))[0] >= _ENOUGH_KNOWN[0] for each in seen if each.scalar)


def _least_known(seen: Seen) -> int:
    """Return how many known words prove a type: more if the name suggests another field, such as a page."""
    return 4 if any(rank(seen, name) < ENDING for name in _OTHERWISE) else 2


def _known(seen: Seen, texts: list[str]) -> tuple[float, int]:
    """Return the share of the values that are well-known words, and how many such words there are."""
    if len(texts) > MOST_WORDS or seen.kinds.keys() - {"text"} or {text.upper() for text in texts} <= _METHODS:
        return 0.0, 0
    forms = dict(zip(texts, to_snake_case(tuple(texts)), strict=True))
    words = [text for text in texts if well_known(forms[text])]
    return sum(seen.counts[text] for text in words) / max(len(seen.present), 1), len(words)


def _instead(best: _Typed, ranked: list[_Typed]) -> _Typed | None:
    """Return the path that says what happened where the best one is empty, such as `type: page` beside `event`."""
    if best.seen.share == 1:
        return None
    empty = [at for at, value in enumerate(best.seen.values) if value is None]
    for other in ranked:
        if other.seen is best.seen or len(other.texts) > MOST_WORDS or other.place >= UNNAMED:
            continue
        texts = tuple(value for at in empty if isinstance(value := other.seen.values[at], str))
        known = sum(well_known(form) is not None for form in to_snake_case(texts)) if texts else 0
        if known >= len(empty) / 2 or (best.seen.share < 0.5 and len(texts) > len(empty) * 0.9):
            return other
    return None


def _typed(seen: Seen, texts: list[str], other: Seen | None) -> Guess:
    """Guess an event type: as is if the values are valid names, in snake case if that makes them valid, else a map."""
    values, counts = seen.values, seen.counts
    stated: dict = {"path": seen.spelled}
    notes: tuple[str, ...] = ()
    if other is not None:
        stated = {"coalesce": [{"path": seen.spelled}, {"path": other.spelled}]}
        values = [two if one is None else one for one, two in zip(seen.values, other.values, strict=True)]
        merged = Seen(seen.path, values)
        texts, counts = [text for text, _ in merged.counts.most_common()], merged.counts
        notes = (f"{other.spelled} where {seen.spelled} is empty",)
    forms = dict(zip(texts, to_snake_case(tuple(texts)), strict=True))
    made = {text: well_known(form) or form for text, form in forms.items()}
    share = sum(value is not None for value in values) / max(len(values), 1)
    lacking = {"default": "other"} if share < 1 else {}
    notes += (f"{share_text(1 - share)} of the records have none: other",) if lacking else ()
    for how in ({}, {"functions": ["snake"]}):
        names = texts if not how else [forms[text] for text in texts]
        tried = trial(values, "event_type", {**how, **lacking})
        if not tried.failed and list(made.values()) == names:
            return Guess("event_type", {**stated, **how, **lacking}, tried.share, notes)
    made, unreadable = _valid_names(made)
    named = [made[text] for text in texts if text in unreadable]
    notes += (f"rename {join_names(named)} to what they mean",) if named else ()
    comments = {
        text: f"{counts[text]:,}{'' if well_known(forms[text]) or text in unreadable else ', unchanged'}"
        for text in texts
    }
    tried = trial(values, "event_type", {"map": made, "else": "other", **lacking})
    stated |= {"map": made, "else": "other", **lacking}
    return Guess("event_type", stated, tried.share, notes, comments)


def _valid_names(made: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """Return a valid name for each text, so that no two become one, and the texts that got a number for a name."""
    valid, unreadable = {}, set()
    for at, (text, name) in enumerate(made.items(), 1):
        latin = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip("_")
        tries = [name, *([latin, f"event_{latin}"] if latin else [])]
        fitting = [each for each in tries if each and not trial([each], "event_type", {}).failed]
        if name.isdigit() or not fitting or (fitting[0] != name and fitting[0] in made.values()):
            unreadable.add(text)
            fitting = [f"code_{name}" if name.isascii() and name.isdigit() else f"event_{at}"]
        valid[text] = fitting[0]
    return valid, unreadable


def well_known(word: str) -> str | None:
    """Return the well-known event type for a word in snake case."""
    bare = word.removeprefix("e_commerce_").removeprefix("ecommerce_").removeprefix("user_").removeprefix("ga_")
    words = (word, word.removesuffix("_event"), word.removesuffix("_clicked"), bare, bare.removesuffix("_event"))
    known = next((EVENT_TYPES[at.replace("_", "")] for at in words if at.replace("_", "") in EVENT_TYPES), None)
    return known or WORDS_BY_LANGUAGE.get(word)


def guess_channel(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        words = {text: CHANNELS.get(to_snake_case((text,))[0]) for text in list(each.counts)[: MOST_WORDS + 1]}
        known = sum(each.counts[text] for text, made in words.items() if made)
        if known < len(each.present) / 2 or len(words) > MOST_WORDS:
            found.refused[each.spelled] = "no channel: its values are not channels such as web, mobile, email"
        elif all(text == made for text, made in words.items()):
            if attempt(found, name, each, {}, []):
                return
        else:
            table = {text: made or "other" for text, made in words.items()}
            if attempt(found, name, each, {"map": table, "else": "other"}, []):
                return
