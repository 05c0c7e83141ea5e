"""Intake: from the bytes of a request to durable entries of the log, and the dialect's answer.

Raises Refused for a request that is not kept, or kept as a body that nobody could read (400).
"""

import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from pipelines.apps.collector.bodies import Busy, NotInflated, Share, TooLarge, inflate_body
from pipelines.apps.collector.consent import ANONYMOUS, DROP, Consent
from pipelines.apps.collector.dialect import (
    ACCEPTED,
    DUPLICATE,
    REJECTED,
    Answer,
    Dialect,
    Event,
    NotSigned,
    NotThisForm,
    Request,
)
from pipelines.apps.collector.dialects.native import Native, with_source
from pipelines.apps.collector.durable import Durable
from pipelines.apps.collector.keys import KeyFile, Rates, Sender
from pipelines.apps.collector.metrics import Metrics, Reports
from pipelines.apps.collector.privacy import Privacy, client_address
from pipelines.apps.collector.recent import Recent
from pipelines.sources.log.folder import LogError
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogFull
from transforms.contract import broken_rule

ROOM = 0.9  # of the most bytes of a log: below it events are taken again
RETRY_SECONDS = 5.0  # after which a client may find room in the log
LONGEST_VALUE = 512  # characters of an attribute that a client sends
ANY = "*"
SOURCES = {"posthog-v1": "posthog", "native": "events"}  # of a dialect without a key; of the others it is their name


class Log(Protocol):
    """What the collector needs of a log: sources/log/writer.py."""

    most_bytes: int

    def append(self, entries: Sequence[Entry]) -> "Future[None]": ...
    def size(self) -> int: ...


class Refused(Exception):
    """A request that is not taken: what is answered, and after how many seconds the client may send again."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None):
        super().__init__(code)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Rules(NamedTuple):
    """What an operator has decided.

    keys      None: every key is taken, and the source of an event is that of its dialect
    origins   from which pages may send, in lower case; `*` for all
    is_proxy  whether an address is that of a proxy, whose X-Forwarded-For is believed
    """

    keys: KeyFile | None = None
    origins: frozenset[str] = frozenset()
    privacy: Privacy = Privacy()
    consent: Consent = Consent()
    is_proxy: Callable[[str], bool] = lambda address: False

    def allows(self, origin: str | None) -> bool:
        """Whether a request of this origin is taken; only browsers state one."""
        return origin is None or ANY in self.origins or origin.lower() in self.origins


class _Read(NamedTuple):
    """The events of a request, and why it is not of its dialect."""

    events: Sequence[Event]
    wrong: str | None = None


class Intake:
    """Takes requests into a log."""

    def __init__(self, log: Log, rules: Rules, metrics: Metrics, say: Callable[[str], None]):
        self._log, self._rules, self._metrics, self._say = log, rules, metrics, say
        self._report, self._durable = Reports(say), Durable()
        self._rates, self._recent = Rates(), Recent()
        self._ids = (f"{start}-{number:x}" for start in (secrets.token_hex(8),) for number in itertools.count())
        self.is_ready = True  # whether the log took what came last

    async def check(self) -> bool:
        """Return whether the log takes entries; where the last ones were refused, whether it has room again."""
        if not self.is_ready and self._log.size() < ROOM * self._log.most_bytes:
            with suppress(Refused):
                await self._append([])
        return self.is_ready

    async def take(
        self, dialect: Dialect, request: Request, sent: bytes, share: Share, peer: str, parameters: Mapping[str, str]
    ) -> Answer:
        """Return the answer to a request whose entries are durable. Errors: Refused."""
        start = time.monotonic()
        request, unreadable = _inflated(request, sent, share)
        sender = self._sender(dialect, request, parameters)
        if wait := self._rates.wait(sender, start):
            raise Refused(429, "rate_limited", "too many events for this key; send again later", wait)
        read = self._read(dialect, request, sent, unreadable)
        _hold(share, sum(len(event.payload) for event in read.events))
        self._rates.take(sender, len(read.events), start)
        verdicts = await self._keep(dialect, request, sender, read.events, peer)
        self._metrics.acknowledged(time.monotonic() - start)
        if read.wrong is not None:
            raise Refused(400, "not_this_form", read.wrong)
        return dialect.accepted(request, read.events, verdicts)

    def _sender(self, dialect: Dialect, request: Request, parameters: Mapping[str, str]) -> Sender:
        keys = self._rules.keys
        if dialect.signed:
            name = parameters.get("name", "")
            webhook = None if keys is None else keys.webhooks().get(name)
            if webhook is None:
                raise Refused(401, "unknown_webhook", "no webhook has this name; see audience collect --add_webhook")
            return Sender(f"webhook.{name}", webhook.source)
        if keys is None:
            return Sender("", SOURCES.get(dialect.name, dialect.name))
        if (key := dialect.key_of(request)) is None:
            raise Refused(401, "missing_key", "the request has no write key")
        if (sender := keys.sender(key)) is None:
            raise Refused(401, "unknown_key", "the write key is unknown or has expired")
        return sender

    def _read(self, dialect: Dialect, request: Request, sent: bytes, unreadable: str | None) -> _Read:
        body = request.body if unreadable is None else sent
        try:
            if unreadable is None:
                return _Read(dialect.read(request))
            wrong = unreadable
        except NotSigned as error:
            raise Refused(401, "not_signed", str(error)) from None
        except NotThisForm as error:
            wrong = str(error)
        except Exception as error:  # the event is worth more than the reason
            self._metrics.errors["dialect"] += 1
            self._report(
                f"unforeseen: {type(error).__name__} while a body of {dialect.name} was read; it is in the log"
            )
            wrong = "the body cannot be read"
        return _Read([Event(body, None, wrong)], wrong)

    async def _keep(
        self, dialect: Dialect, request: Request, sender: Sender, events: Sequence[Event], peer: str
    ) -> list[str]:
        """Make the events durable and return a verdict for each."""
        signals = self._signals(dialect, request, events)
        known = self._recent.duplicates(sender.source, [event.id for event in events])
        attributes = {each: self._attributes(dialect, request, sender, peer, each) for each in {*signals} - {DROP}}
        received, clean = time.time_ns() // 1000, self._rules.privacy.payload
        entries, judged = list[Entry](), list[Event]()
        for event, signal in zip(events, signals, strict=True):
            if signal == DROP:
                judged.append(event._replace(id=None))
                continue
            payload = clean(self._named(dialect, sender, event), signal)
            of_entry = attributes[signal] if event.error is None else attributes[signal] | {"error": event.error}
            entries.append(Entry(next(self._ids), received, sender.source, payload, of_entry))
            judged.append(_judged(dialect, sender, event, payload))
        if entries:
            await self._append(entries)
        self._recent.add(sender.source, [event.id for event in judged if event.error is None])
        self._metrics.bytes_logged += sum(len(entry.payload) for entry in entries)
        return self._verdicts(dialect, judged, known, signals)

    def _signals(self, dialect: Dialect, request: Request, events: Sequence[Event]) -> list[str | None]:
        """What becomes of each event by the signal of the request and its consent: `drop`, `anonymous`, or None.

        Webhooks are asked for no consent: a server sends them.
        """
        signal, rule = self._rules.privacy.signal(request.headers), self._rules.consent
        if signal == DROP or dialect.signed or not rule.needed:
            return [signal] * len(events)
        found = [rule.of(event.payload) for event in events]
        for each in found:
            self._metrics.consent[dialect.name, {ANONYMOUS: "anonymous", DROP: "dropped"}.get(each or "", "given")] += 1
        return [each or signal for each in found]

    def _named(self, dialect: Dialect, sender: Sender, event: Event) -> bytes:
        """The payload of an event; a native one says its source, since no mapping does."""
        is_native = dialect.name == Native.name and sender.name and event.error is None
        return with_source(event.payload, sender.source) if is_native else event.payload

    async def _append(self, entries: Sequence[Entry]) -> None:
        try:
            await self._durable.wait(self._log.append(entries))
        except ValueError:
            raise Refused(413, "too_large", "an event is too large") from None
        except LogError as error:
            self._metrics.errors["log_full" if isinstance(error, LogFull) else "log"] += 1
            if self.is_ready:
                self.is_ready = False
                self._say(f"events are refused: {error}")
            raise Refused(503, "log_full", "no event can be stored now; send again later", RETRY_SECONDS) from None
        if not self.is_ready:
            self.is_ready = True
            self._say("events are taken again")

    def _verdicts(
        self, dialect: Dialect, events: Sequence[Event], known: Sequence[bool], signals: Sequence[str | None]
    ) -> list[str]:
        verdicts = []
        for event, is_known, signal in zip(events, known, signals, strict=True):
            if signal == DROP:  # the client need not send it again
                self._metrics.events[dialect.name, "dropped"] += 1
                verdicts.append(ACCEPTED)
                continue
            verdict = ACCEPTED if event.error is None else "rejected"
            verdict = DUPLICATE if is_known and event.error is None else verdict
            self._metrics.events[dialect.name, verdict] += 1
            verdicts.append(verdict if event.error is None else f"{REJECTED}{event.error}")
        return verdicts

    def _attributes(
        self, dialect: Dialect, request: Request, sender: Sender, peer: str, signal: str | None
    ) -> dict[str, str]:
        """What the log keeps of a request beside its payload; what is empty is left out."""
        headers = request.headers
        address = client_address(peer, headers.get("x-forwarded-for", ""), self._rules.is_proxy)
        found = {
            "dialect": dialect.name,
            "key": sender.name,
            "origin": _host(headers.get("origin")),
            "referer": _host(headers.get("referer")),
            "ip": self._rules.privacy.address(address) if signal is None else None,
            "user_agent": headers.get("user-agent", "")[:LONGEST_VALUE] if signal is None else None,
            "privacy": signal,
        }
        return {name: value for name, value in found.items() if value}


def _judged(dialect: Dialect, sender: Sender, event: Event, payload: bytes) -> Event:
    """A native event with the rule of the contract that it breaks as it is stored, for which the graph will put it into
    quarantine; of other dialects only a mapping can say."""
    if dialect.name != Native.name or event.error is not None:
        return event
    broken = broken_rule(payload, sender.source)
    return event if broken is None else event._replace(error=f"{broken.path}: {broken.message} ({broken.code})")


def _inflated(request: Request, sent: bytes, share: Share) -> tuple[Request, str | None]:
    """The request with its body inflated, and why it cannot be; then its body is empty."""
    if not (encoding := request.headers.get("content-encoding")):
        return request._replace(body=sent), None
    try:
        body = inflate_body(sent, encoding)
    except NotInflated as error:
        return request, str(error)
    except TooLarge:
        raise Refused(413, "too_large", "the inflated body is too large; send smaller batches") from None
    _hold(share, len(body))
    return request._replace(body=body), None


def _hold(share: Share, size: int) -> None:
    """Count bytes that a request holds. Errors: Refused where there is no room."""
    try:
        share.add(size)
    except Busy:
        raise Refused(503, "busy", "too many requests at once; send again later", 1.0) from None


def _host(url: str | None) -> str | None:
    """The host of a URL, without its path and what else may tell of a person."""
    try:
        return (urlsplit(url).hostname or "")[:LONGEST_VALUE] if url else None
    except ValueError:
        return None
