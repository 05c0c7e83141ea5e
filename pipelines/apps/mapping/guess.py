"""Guess which path of a sample holds which field of an event, and how many records that satisfies.

The name proposes, the values decide: each guess is tried with the mapping's own functions and the contract's rules.
"""

import re
from collections.abc import Callable
from typing import Any

from pipelines.apps.mapping.found import FAILING, Guess, Guesses, attempt, because, rank, some_lack
from pipelines.apps.mapping.guess_looks import guess_by_looks
from pipelines.apps.mapping.guess_money import guess_currency, guess_value, number_form, settle_money
from pipelines.apps.mapping.guess_times import guess_times
from pipelines.apps.mapping.guess_words import guess_channel, guess_type
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.trial import trial

LEAST_RANK = 5  # an empty path with a better rank is mentioned
_TWO_LETTERS = re.compile(r"[A-Za-z]{2}")
LEAST_TO_COMPARE = 20  # values; with fewer, a constant or a unique value means nothing
_ORDER: tuple[str, ...] = (
    "event_id",
    "user_id",
    "anonymous_id",
    "session_id",
    "event_type",
    "content_id",
    "content_type",
    "is_bot",
)
_ORDER += ("country", "channel", "device", "category", "campaign", "referrer", "value", "currency", "quantity")
_ORDER += ("rating", "text")


def guesses(seen: list[Seen]) -> Guesses:
    """Guess every field; without a time there is no guess of `event_time`."""
    found = Guesses(seen)
    guess_times(found)
    for name in _ORDER:
        guess = _GUESSERS.get(name, _guess_text)
        guess(found, name)
    guess_by_looks(found)
    settle_money(found)
    _stand_in(found)
    _tell_empty(found)
    return found


def _guess_id(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        distinct, stated = len(each.counts), len(each.present)
        tried = trial(each.values, name, {})
        if each.kinds["boolean"] or tried.failing > FAILING or each.share < 0.9:
            found.refused[each.spelled] = because(tried, "no event_id: " + some_lack(each))
        elif distinct < 0.99 * stated:
            found.refused[each.spelled] = f"no event_id: only {distinct:,} distinct values in {stated:,} records"
        else:
            repeats = stated - distinct
            notes = [f"{repeats:,} repeat an earlier id, and count as duplicates"] if repeats else []
            notes += [f"{some_lack(each)}: theirs is derived from their content"] if each.share < 1 else []
            found.add(Guess(name, {"path": each.spelled}, tried.share, tuple(notes)), each)
            return


def _guess_identity(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if each.kinds["boolean"] or (len(each.counts) < 2 and len(each.values) >= LEAST_TO_COMPARE):
            found.refused[each.spelled] = f"no {name}: it is constant"
            continue
        if attempt(found, name, each, {}, candidates[at + 1 :]):
            return


def _guess_text(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if each.kinds.keys() == {"text"} or (name in ("category", "campaign") and not each.kinds["boolean"]):
            unique = len(each.present) >= LEAST_TO_COMPARE and len(each.counts) > 0.9 * len(each.present)
            if unique and name not in ("referrer", "text"):
                found.refused[each.spelled] = f"no {name}: nearly every record has a different value"
            elif name == "text" and sum(" " in text for text in each.counts) < 0.3 * len(each.counts):
                found.refused[each.spelled] = "no text: single words"
            elif attempt(found, name, each, _letters(each) if name == "country" else {}, candidates[at + 1 :]):
                return


def _letters(seen: Seen) -> dict[str, Any]:
    """Return that codes of two letters are put in capitals, if they are not."""
    are_codes = all(_TWO_LETTERS.fullmatch(text) for text in seen.counts)
    return {"functions": ["upper"]} if are_codes and any(text != text.upper() for text in seen.counts) else {}


def _guess_number(found: Guesses, name: str) -> None:
    for at, each in enumerate(candidates := found.candidates(name)):
        if not each.kinds["boolean"] and attempt(found, name, each, number_form(each, name), candidates[at + 1 :]):
            return


def _guess_flag(found: Guesses, name: str) -> None:
    for each in found.candidates(name):
        if attempt(found, name, each, {}, []):
            return


def _stand_in(found: Guesses) -> None:
    """Use a session as the person if no path identifies people."""
    session = found.made.get("session_id")
    if session and "user_id" not in found.made and "anonymous_id" not in found.made:
        note = "no path identifies people: the session is used instead"
        found.made["user_id"] = session._replace(field="user_id", notes=(note,))


def _tell_empty(found: Guesses) -> None:
    """Mention paths that are named like a missing field but are empty in the sample."""
    for name in _ORDER:
        for each in found.seen if name not in found.made else ():
            if not each.present and rank(each, name) < LEAST_RANK:
                found.refused.setdefault(each.spelled, f"no {name}: empty in all records of the sample")


_GUESSERS: dict[str, Callable[[Guesses, str], None]] = {
    "event_id": _guess_id,
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "content_id"), _guess_identity),
    "event_type": guess_type,
    "value": guess_value,
    "currency": guess_currency,
    **dict.fromkeys(("quantity", "rating"), _guess_number),
    "is_bot": _guess_flag,
    "channel": guess_channel,
}
