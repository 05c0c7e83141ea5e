"""The answers about one person over HTTP.

    /v1/profiles/{person}          profile, interests, values and attributes, as of the newest refresh, and events since
    /v1/recommendations/{person}   the contents that it may like next

    /person                        a page that shows both, to whoever types a key

Order of a request: method (405), host (403), key (401), what the key may read (403), rate (429), answers that are being
read (503), a person that is unknown (404). Each refusal is JSON with a code and one line, which quotes nothing of the
request.
"""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from pipelines.apps.live.files import PERSON_FILES
from pipelines.apps.live.people.held import Current, Held
from pipelines.apps.live.people.keys import Answer, Reader, Readers
from pipelines.apps.live.replies import JSON, Call, File, Reading, Scope, is_loopback, refused, respond, token_of
from pipelines.insight.profile_tables import (
    RECOMMENDATIONS,
    USER_ATTRIBUTES,
    USER_INTERESTS,
    USER_PROFILES,
    USER_VALUES,
)

_LISTS = {"interests": USER_INTERESTS.name, "values": USER_VALUES.name, "attributes": USER_ATTRIBUTES.name}
_OF_PROFILE = (USER_PROFILES.name, *_LISTS.values())
_encode = msgspec.json.Encoder(decimal_format="number").encode


def people_endpoints(held: Held, readers: Readers, only_loopback: bool) -> dict[str, Call]:
    """Endpoints by path, or by what the path begins with; with `only_loopback` they answer requests alone that name
    this machine."""
    endpoints: dict[str, Call] = {path: File(path) for path in PERSON_FILES}
    answers: Mapping[Answer, Any] = {"profiles": profile, "recommendations": recommendations}
    for name, answer in answers.items():
        endpoints[f"/v1/{name}/"] = _Person(name, answer, held, readers, only_loopback)
    return endpoints


def profile(current: Current, person: str) -> dict[str, Any] | None:
    """What is known of a person; None: nothing.

    person, as_of      as of when `profile`, `interests`, `values` and `attributes` are, UTC
    profile            the row of `user_profiles`; None of whom nobody had seen by then
    live               since (as_of), events, last_seen, last_event_type, last_content_id, recency_seconds: of events
                       from `as_of` on up to the last commit; None where `as_of` is too long ago
    """
    rows = current.persons.rows(person, _OF_PROFILE)
    since = current.since
    done = None if since is None else since.of(person)
    if done is None and (rows is None or not rows.get(USER_PROFILES.name)):
        return None
    rows = rows or {}
    own = rows.get(USER_PROFILES.name)
    return {
        "person": person,
        "as_of": current.persons.as_of.get(USER_PROFILES.name),
        "profile": own[0] if own else None,
        **{name: rows.get(table, []) for name, table in _LISTS.items()},
        "live": None if since is None else {"since": since.time, **(done or _NOTHING), **_recency(done, own)},
    }


_NOTHING = {"events": 0, "last_seen": None, "last_event_type": None, "last_content_id": None}


def _recency(done: Mapping[str, Any] | None, own: Sequence[Mapping[str, Any]] | None) -> dict[str, float | None]:
    """Seconds from the last event that is known of to now."""
    last: datetime | None = done["last_seen"] if done else own[0]["last_seen"] if own else None
    return {"recency_seconds": None if last is None else round((datetime.now(UTC) - last).total_seconds(), 3)}


def recommendations(current: Current, person: str) -> dict[str, Any] | None:
    """What a person may like next; None for a person of whom nothing is known.

    person, as_of      as of when they are, UTC
    of                 `person`, or `everybody` where the rows are those of whoever has none
    recommendations    place, content_id, reason, because, score
    """
    rows = current.persons.rows(person, (RECOMMENDATIONS.name,))
    if rows is None and (current.since is None or current.since.of(person) is None):
        return None
    own = (rows or {}).get(RECOMMENDATIONS.name)
    return {
        "person": person,
        "as_of": current.persons.as_of.get(RECOMMENDATIONS.name),
        "of": "person" if own else "everybody",
        "recommendations": own or current.persons.others,
    }


class _Person(Reading):
    """One kind of answer about the person that the path names."""

    def __init__(self, name: Answer, answer: Any, held: Held, readers: Readers, only_loopback: bool):
        self.path = f"/v1/{name}/"
        self._name, self._answer, self._held, self._readers = name, answer, held, readers
        self._only_loopback = only_loopback

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        is_head = scope["method"] == "HEAD"
        if refusal := self._refusal(headers):
            status, why, more = refusal
            await respond(send, status, refused(why), {**JSON, **more}, is_head)
            return
        current, person = self._held.current(), self._person(scope)
        if current is None:
            why = "not_ready: the answers are being read; ask again"
            await respond(send, 503, refused(why), JSON | {"retry-after": "1"}, is_head)
            return
        found = None if person is None else self._answer(current, person)
        if found is None:
            await respond(send, 404, refused("not_found: nothing is known of this person"), JSON, is_head)
            return
        await respond(send, 200, _encode(found), JSON, is_head)

    def _refusal(self, headers: Mapping[str, str]) -> tuple[int, str, Mapping[str, str]] | None:
        """Status, code and line, and headers; None: the request may be answered."""
        if self._only_loopback and not is_loopback(headers.get("host", "")):
            return 403, "host_not_allowed: ask by 127.0.0.1, or start the page with --links", {}
        reader: Reader | None = self._readers.reader(token_of(headers))
        if reader is None:
            why = (
                "key_not_valid: send a read key as `Authorization: Bearer KEY`; this one is missing, unknown or expired"
            )
            return 401, why, {"www-authenticate": "Bearer"}
        if self._name not in reader.reads:
            return 403, f"not_allowed: this key may not read {self._name}", {}
        if seconds := self._readers.wait(reader, time.monotonic()):
            why = f"too_many_requests: this key may ask {reader.rate:g} times a second"
            return 429, why, {"retry-after": str(math.ceil(seconds))}
        return None

    def _person(self, scope: Scope) -> str | None:
        """The person that the path names; None for what no text of a warehouse can be."""
        path = scope.get("raw_path")
        try:
            text = unquote_to_bytes(path.partition(b"?")[0]).decode() if path else scope["path"]
            text.encode()
        except UnicodeError:
            return None
        return text.removeprefix(self.path)
