"""The collector: an ASGI application that takes events of all dialects into a log.

    Collector(log, dialects, rules)   counts, limits and keys of a process
    application(collector)            its routes: those of the dialects, /a.js, /healthz, /readyz and /metrics

Order of a request: origin (403), size (413), a whole body in time (408), inflating, key (401), rate (429), the dialect,
privacy, the log (503), the dialect's answer. An event is acknowledged only when it is durable. A body that is not of
its dialect is answered with 400 and is in the log all the same. No line on the terminal quotes what a client sent, and
of the answers one: that of PostHog's protocol v1 names events by their ids.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.routing import Route

from pipelines.apps.collector.bodies import MOST_BYTES, Busy, Gone, Held, TooLarge, TooSlow, read_body
from pipelines.apps.collector.dialect import Answer, Dialect, Request
from pipelines.apps.collector.intake import Intake, Log, Refused, Rules
from pipelines.apps.collector.metrics import CONTENT_TYPE, Metrics, Reports
from pipelines.apps.collector.script import Script

MOST_FIELDS = 1_000  # of a query
PREFLIGHT_SECONDS = 3_600
_LONGEST_HEADERS = 2_000  # characters of Access-Control-Request-Headers
_TOKENS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ")
_FIXED = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Scope = Mapping[str, Any]
Call = Callable[..., Awaitable[Any]]
Header = tuple[str, str]


class Collector:
    """What all requests of a process share."""

    def __init__(self, log: Log, dialects: Sequence[Dialect], rules: Rules, say: Callable[[str], None]):
        self.log, self.dialects, self.rules, self._report = log, dialects, rules, Reports(say)
        self.metrics, self.held = Metrics(), Held()
        self.intake = Intake(log, rules, self.metrics, say)
        self.further: Callable[[], dict[str, float]] = dict  # gauges of what runs beside it

    async def answer(self, dialect: Dialect, scope: Scope, receive: Call, headers: Mapping[str, str]) -> Answer:
        """Return the answer to a request, also to one that was cut off: granian answers 500 where nothing is sent."""
        request = Request(scope["method"], scope["path"], _query(scope), headers, b"")
        try:
            with self.held.share() as share:
                if not self.rules.allows(headers.get("origin")):
                    raise Refused(403, "origin_not_allowed", "events of this origin are not taken; see --allow_origins")
                sent = await _sent(receive, headers, share)
                self.metrics.bytes_sent += len(sent)
                peer = (scope.get("client") or ("",))[0]
                answer = await self.intake.take(dialect, request, sent, share, peer, scope.get("path_params", {}))
        except Gone:
            self.metrics.errors["client_gone"] += 1
            cut_off = Refused(408, "cut_off", "the connection ended before the body was complete; send it again")
            answer = _refused(dialect, request, cut_off)
        except Refused as refused:
            answer = _refused(dialect, request, refused)
        except Exception as error:  # a traceback shows values of records, and a server logs it
            self.metrics.errors["unforeseen"] += 1
            self._report(f"unforeseen: {type(error).__name__} at {_place(error)} in a request of {dialect.name}")
            answer = Answer(500, b'{"code":"internal","message":"the collector failed; send again"}', _JSON)
        self.metrics.requests[dialect.name, answer.status] += 1
        return answer

    def gauges(self) -> dict[str, float]:
        """Return what is measured when it is asked for."""
        try:
            unread = self.log.size()
        except OSError:
            unread = -1
        own = {"log_unread_bytes": unread, "held_bytes": self.held.bytes, "ready": float(self.intake.is_ready)}
        return own | self.further()


_JSON = (("Content-Type", "application/json"),)


def _refused(dialect: Dialect, request: Request, refused: Refused) -> Answer:
    answer = dialect.refused(request, refused.status, refused.code, refused.message)
    if refused.retry_after is None:
        return answer
    return answer._replace(headers=(*answer.headers, ("Retry-After", str(math.ceil(refused.retry_after)))))


async def _sent(receive: Call, headers: Mapping[str, str], share: Any) -> bytes:
    try:
        return await read_body(receive, headers.get("content-length"), share)
    except TooLarge:
        allowed = f"allowed: {MOST_BYTES:,} bytes, also when inflated; send smaller batches"
        raise Refused(413, "too_large", f"the body is too large; {allowed}") from None
    except TooSlow:
        raise Refused(408, "too_slow", "the body was not complete in time; send it again") from None
    except Busy:
        raise Refused(503, "busy", "too many requests at once; send again later", 1.0) from None


def _place(error: BaseException) -> str:
    """The module and line that raised an error; its text may quote a value, so it is left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"


def _query(scope: Scope) -> dict[str, str]:
    try:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def _headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


class _Endpoint:
    """The application of one path: its dialects by method, and CORS."""

    def __init__(self, collector: Collector, dialects: Mapping[str, Dialect]):
        self._collector, self._dialects = collector, dialects

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        headers = _headers(scope)
        cors = self._cors(headers.get("origin"))
        if (method := scope["method"]) == "OPTIONS":
            await _respond(send, Answer(204, b"", (*cors, *self._preflight(headers))))
        elif (dialect := self._dialects.get(method)) is None:
            allowed = ", ".join([*sorted(self._dialects), "OPTIONS"])
            await _respond(send, Answer(405, b"", (("Allow", allowed),)))
        else:
            answer = await self._collector.answer(dialect, scope, receive, headers)
            await _respond(send, answer._replace(headers=(*answer.headers, *cors)))

    def _cors(self, origin: str | None) -> tuple[Header, ...]:
        """What lets a page of an allowed origin read the answer. Never with credentials: no cookie is read here."""
        if origin is None or not self._collector.rules.allows(origin):
            return ()
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))

    def _preflight(self, headers: Mapping[str, str]) -> tuple[Header, ...]:
        if not self._cors(headers.get("origin")):
            return ()
        asked = headers.get("access-control-request-headers", "")
        allowed = asked if len(asked) <= _LONGEST_HEADERS and _TOKENS.issuperset(asked) else ""
        return (
            ("Access-Control-Allow-Methods", ", ".join(sorted(self._dialects))),
            ("Access-Control-Allow-Headers", allowed or "content-type"),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        )


class _Page:
    """The application of a page for operators."""

    def __init__(self, answer: Callable[[], Awaitable[Answer]]):
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        is_read = scope["method"] in ("GET", "HEAD")
        answer = await self._answer() if is_read else Answer(405, b"", (("Allow", "GET"),))
        await _respond(send, answer, scope["method"] == "HEAD")


async def _respond(send: Call, answer: Answer, head: bool = False) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": [*headers, *_FIXED]})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


class _Routes:
    """The application: paths without a parameter are found at once, the others by Starlette, which tries one route
    after the other."""

    def __init__(self, fixed: Mapping[str, Call], rest: Call):
        self._fixed, self._rest = fixed, rest

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        endpoint = self._fixed.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or self._rest)(scope, receive, send)


def application(collector: Collector) -> Call:
    """Return the ASGI application of a collector."""
    paths: dict[str, dict[str, Dialect]] = {}
    for dialect in collector.dialects:
        for method, path in dialect.routes:
            paths.setdefault(path, {})[method] = dialect
    text = (("Content-Type", "text/plain; charset=utf-8"),)

    async def healthy() -> Answer:
        return Answer(200, b"ok\n", text)

    async def ready() -> Answer:
        is_ready = await collector.intake.check()
        return Answer(200, b"ready\n", text) if is_ready else Answer(503, b"the log takes no entries\n", text)

    async def metrics() -> Answer:
        return Answer(200, collector.metrics.text(collector.gauges()).encode(), (("Content-Type", CONTENT_TYPE),))

    pages = {"/healthz": healthy, "/readyz": ready, "/metrics": metrics}
    endpoints: dict[str, Call] = {path: _Endpoint(collector, dialects) for path, dialects in paths.items()}
    endpoints |= {path: _Page(answer) for path, answer in pages.items()} | {"/a.js": Script()}
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])
    app.router.redirect_slashes = False  # a client that posts does not follow, and its event is lost
    return _Routes({path: endpoint for path, endpoint in endpoints.items() if "{" not in path}, app)
