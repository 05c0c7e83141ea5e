"""Guess which paths hold the event type and the channel, and map their words to the well-known vocabulary."""

from pipelines.apps.mapping.found import Guess, Guesses, attempt, some_lack
from pipelines.apps.mapping.profile import Seen, to_snake_case
from pipelines.apps.mapping.trial import trial
from pipelines.apps.mapping.words import CHANNELS, EVENT_TYPES

MOST_WORDS, LONGEST_WORD = 60, 100


def guess_type(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        texts = [text for text, _ in each.counts.most_common()]
        few = len(texts) <= MOST_WORDS and (len(texts) <= 10 or len(texts) <= len(each.present) / 2)
        if each.kinds["boolean"] or each.share < 0.5 or max(map(len, texts)) > LONGEST_WORD:
            found.refused[each.spelled] = f"no event_type: {some_lack(each) if each.share < 0.5 else 'no names'}"
        elif few:
            found.add(_typed(each, texts), each)
            return
        elif (tried := trial(each.values, name, {"functions": ["snake"]})).share > 0.95:
            found.add(Guess(name, {"path": each.spelled, "functions": ["snake"]}, tried.share), each)
            return
        else:
            found.refused[each.spelled] = f"no event_type: {len(texts):,} distinct values"


def _typed(seen: Seen, texts: list[str]) -> Guess:
    """Guess an event type: as is if the values are valid names, in snake case if that makes them valid, else a map."""
    forms = dict(zip(texts, to_snake_case(tuple(texts)), strict=True))
    made = {text: well_known(form) or form for text, form in forms.items()}
    lacking = {"default": "other"} if seen.share < 1 else {}
    notes = (f"{some_lack(seen)}: other",) if lacking else ()
    for how in ({}, {"functions": ["snake"]}):
        names = texts if not how else [forms[text] for text in texts]
        tried = trial(seen.values, "event_type", {**how, **lacking})
        if not tried.failed and list(made.values()) == names:
            return Guess("event_type", {"path": seen.spelled, **how, **lacking}, tried.share, notes)
    valid = trial(list(made.values()), "event_type", {})
    if valid.failed:  # a name in other than Latin letters, or a code
        made = {text: to if not trial([to], "event_type", {}).failed else "other" for text, to in made.items()}
    stated = {"path": seen.spelled, "map": made, "else": "other", **lacking}
    comments = {text: f"{seen.counts[text]:,}{'' if well_known(forms[text]) else ', unchanged'}" for text in texts}
    return Guess("event_type", stated, trial(seen.values, "event_type", stated).share, notes, comments)


def well_known(word: str) -> str | None:
    """Return the well-known event type for a word in snake case."""
    words = (word, word.removesuffix("_event"), word.removesuffix("_clicked"), word.removeprefix("ga_"))
    return next((EVENT_TYPES[at.replace("_", "")] for at in words if at.replace("_", "") in EVENT_TYPES), None)


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
