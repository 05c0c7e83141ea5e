"""Consent: whether an event states that its person agreed to the purposes that an operator needs.

    Consent(needed, without, unstated).of(payload) -> None, `anonymous` or `drop`

Clients state consent in these places of an event; a purpose that one of them denies is denied:

    consent, properties.consent, properties.$consent, props.consent, p.consent, data.consent, context.consent
    context.consent.categoryPreferences      Segment
    context.consentManagement                RudderStack: allowedConsentIds, deniedConsentIds
    co, ue_pr: the schema consent_preferences of Snowplow, with its consentScopes

and in these forms: an object of purposes, whose values are true or false, or texts such as `granted` and `DENIED`; a
list of the purposes that are granted; one value for all purposes.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

ANONYMOUS, DROP = "anonymous", "drop"
OUTCOMES = (ANONYMOUS, DROP)
DENIED, GRANTED = "denied", "granted"
ALL = "*"  # what is stated of every purpose
_YES = frozenset(("true", "granted", "grant", "yes", "allow", "allowed", "accepted", "opt-in", "optin", "1"))
_NO = frozenset(("false", "denied", "deny", "no", "disallowed", "rejected", "withdrawn", "opt-out", "optout", "0", ""))
_PLACES = (
    ("consent",),
    ("properties", "consent"),
    ("properties", "$consent"),
    ("props", "consent"),
    ("p", "consent"),
    ("data", "consent"),
    ("context", "consent"),
    ("context", "consentManagement"),
)
_SNOWPLOW_TEXTS = ("co", "ue_pr")
_SNOWPLOW = "/consent_preferences/"
_DEEPEST = 8  # of self-describing JSON in another
_MARKS = (b"onsent", b"ONSENT")  # no place is without one of them
_decode = msgspec.json.Decoder().decode

Stated = dict[str, bool]  # purpose in lower case -> whether it is granted


class Consent(NamedTuple):
    """The rule of an operator.

    needed    the purposes that a person must have agreed to, all of them; none: the rule is off
    without   what becomes of an event without consent: it is kept without the person, or dropped
    unstated  what holds for a purpose of which an event says nothing
    """

    needed: frozenset[str] = frozenset()
    without: str = ANONYMOUS
    unstated: str = DENIED

    def of(self, payload: bytes) -> str | None:
        """Return what becomes of an event; None: it is kept as it is."""
        if not self.needed:
            return None
        stated = stated_in(payload)
        otherwise = stated.get(ALL, self.unstated == GRANTED)
        given = all(stated.get(purpose, otherwise) for purpose in self.needed)
        return None if given and stated.get(ALL, True) else self.without


def needing(purposes: Iterable[str], without: str | None = None, unstated: str | None = None) -> Consent:
    """The rule of these purposes, whatever their case."""
    return Consent(frozenset(each.casefold() for each in purposes), without or ANONYMOUS, unstated or DENIED)


def stated_in(payload: bytes) -> Stated:
    """What an event states; of what is no JSON nothing."""
    if not any(mark in payload for mark in _MARKS):
        return {}
    try:
        event = _decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return {}
    found: Stated = {}
    for value in _values(event):
        for purpose, granted in _read(value).items():
            found[purpose] = found.get(purpose, True) and granted
    return found


def _values(event: Any) -> Iterator[Any]:
    for place in _PLACES:
        value = event
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        yield value
    for key in _SNOWPLOW_TEXTS:
        text = event.get(key) if isinstance(event, dict) else None
        if isinstance(text, str) and _SNOWPLOW in text:
            yield from _preferences(_json(text), _DEEPEST)


def _json(text: str) -> Any:
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None


def _preferences(value: Any, depth: int) -> Iterator[Any]:
    """What consent_preferences states, in whatever self-describing JSON it is."""
    if isinstance(value, list):
        for each in value:
            yield from _preferences(each, depth)
    elif isinstance(value, dict) and depth:
        data = value.get("data")
        if _SNOWPLOW in str(value.get("schema")) and isinstance(data, dict):
            kind = str(data.get("eventType", ""))
            scopes = data.get("consentScopes")
            yield "denied" if kind in ("deny_all", "withdrawn", "expired", "pending") else None
            yield "granted" if kind == "allow_all" else scopes if isinstance(scopes, list) else None
        else:
            yield from _preferences(data, depth - 1)


def _read(value: Any) -> Stated:
    if isinstance(value, list):
        return {each.casefold(): True for each in value if isinstance(each, str)}
    if not isinstance(value, dict):
        word = _word(value)
        return {} if word is None else {ALL: word}
    if isinstance(value.get("categoryPreferences"), dict):
        value = value["categoryPreferences"]
    allowed, denied = value.get("allowedConsentIds"), value.get("deniedConsentIds")
    if isinstance(allowed, list) or isinstance(denied, list):
        return _read(allowed or []) | dict.fromkeys(_read(denied or []), False)
    # A value that nobody can read is no consent.
    return {key.casefold(): bool(_word(each)) for key, each in value.items()}


def _word(value: Any) -> bool | None:
    """Whether one value grants; None for one that says neither."""
    if isinstance(value, bool | int):
        return bool(value)
    text = value.strip().casefold() if isinstance(value, str) else None
    return True if text in _YES else False if text in _NO else None
