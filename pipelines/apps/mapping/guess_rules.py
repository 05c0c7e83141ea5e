"""Guess the rules of `events` where no path holds the event type: flags such as `click: 1`, and amounts taken back."""

import re
from typing import Any

from pipelines.apps.mapping.found import Guesses
from pipelines.apps.mapping.guess_words import well_known
from pipelines.apps.mapping.profile import Seen

_TRUE = {"true": True, "True": "True", "1": 1, "Y": "Y", "yes": "yes"}
_FALSE = {"false", "False", "0", "N", "no"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NEGATIVE = re.compile(r"-\d.*")
_MOST_NEGATIVE = 0.4  # share of records; more are no exceptions


def is_flag(seen: Seen) -> bool:
    """Return whether a path says yes or no."""
    return seen.scalar and len(seen.counts) == 2 and seen.counts.keys() <= _TRUE.keys() | _FALSE


def rules_of_flags(found: Guesses, base: str) -> dict[str, dict[str, Any]]:
    """Return a rule for every record, and one for each flag whose name is a well-known event, such as `click`."""
    rules: dict[str, dict[str, Any]] = {base: {}}
    for seen in found.unused():
        word = well_known(seen.names[0].removeprefix("is_").removeprefix("has_"))
        if word is None or word in rules or not is_flag(seen) or not _NAME.fullmatch(word):
            continue
        yes = next(value for text, value in _TRUE.items() if text in seen.counts)
        rules[word] = {"match": {seen.spelled: yes}, "fields": {"event_type": {"const": word}}}
    return rules if len(rules) > 1 else {}


def rules_of_signs(found: Guesses, base: str) -> dict[str, dict[str, Any]]:
    """Return rules that tell refunds from purchases by a quantity or an amount below 0."""
    if base != "purchase":
        return {}
    for name in ("quantity", "value"):
        stated = found.made[name].stated if name in found.made else {}
        seen = next((each for each in found.seen if each.spelled == stated.get("path")), None)
        if seen is None:
            continue
        negative = sum(count for text, count in seen.counts.items() if _NEGATIVE.fullmatch(text))
        if 0 < negative < _MOST_NEGATIVE * len(seen.values):
            return {
                "purchase": {"match": {seen.spelled: {"not": {"below": 0}}}},
                "refund": {"match": {seen.spelled: {"below": 0}}, "fields": {"event_type": {"const": "refund"}}},
            }
    return {}
