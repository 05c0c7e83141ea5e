"""Webhooks: POST /webhooks/{name}, believed for their signature.

What a sender says in headers and not in the body (Shopify its topic, GitHub the kind of event) is beside the body in
`metadata`, as Shopify itself delivers to a bus: {"metadata": {"X-Shopify-Topic": ...}, "payload": body}.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

from pipelines.apps.collector.dialect import Answer, Event, NotSigned, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import Members, event_of, members_of, object_of, text_json, value_of
from pipelines.apps.collector.dialects.headers import answer, counts, media_type
from pipelines.apps.collector.dialects.signatures import check_signature

_PATH = "/webhooks/"
_METADATA = {
    "shopify": (
        "X-Shopify-Topic",
        "X-Shopify-Shop-Domain",
        "X-Shopify-Event-Id",
        "X-Shopify-Webhook-Id",
        "X-Shopify-Triggered-At",
        "X-Shopify-API-Version",
    ),
    "github": ("X-GitHub-Event", "X-GitHub-Delivery"),
}
# The same in each try of a delivery.
_ID_HEADERS = {"standard": "webhook-id", "shopify": "x-shopify-webhook-id", "github": "x-github-delivery"}


class Webhooks:
    """`secrets`: name -> the secrets of a webhook as `check_signature` takes them; it may change at any time. A name
    that it lacks is refused like a wrong signature. `now`: the clock, in seconds since 1970."""

    name = "webhooks"
    routes = (("POST", f"{_PATH}{{name}}"),)
    signed = True

    def __init__(self, secrets: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        self._secrets, self._now = secrets, now

    def key_of(self, request: Request) -> str | None:
        return None

    def read(self, request: Request) -> list[Event]:
        secrets = self._secrets.get(request.path.removeprefix(_PATH))
        if secrets is None:
            raise NotSigned("got the name of no webhook")
        scheme = check_signature(request, secrets, self._now())
        value = _body(request)
        members_of(value)
        id = request.headers.get(_ID_HEADERS.get(scheme, ""), "").strip() or None
        if scheme in _METADATA:
            said = {name: request.headers.get(name.lower()) for name in _METADATA[scheme]}
            metadata: Members = {name: text_json(text) for name, text in said.items() if text is not None}
            return [Event(object_of({"metadata": object_of(metadata), "payload": value}), id)]
        event = event_of(value, ("id",), {} if id is None else {"webhook-id": text_json(id)})
        return [event if id is None else event._replace(id=id)]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return answer(200, counts(verdicts))

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})


def _body(request: Request) -> bytes:
    """The JSON of a delivery; GitHub may put it into a form. Errors: NotThisForm."""
    if media_type(request) != "application/x-www-form-urlencoded":
        return value_of(request.body)
    try:
        return value_of(parse_qs(request.body.decode("ascii"), max_num_fields=9)["payload"][0].encode())
    except (ValueError, KeyError):
        raise NotThisForm("got a form without a payload") from None
