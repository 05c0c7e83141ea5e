"""Malformed requests to the collector: none breaks it, none that is answered 2xx or 400 is lost, and none is quoted.

Bodies, headers and queries of official clients are mutated as transport and broken scripts do it, and go through the
application in this process into a real log; some go over a connection to a real server. Twenty seconds in CI, a few
elsewhere; `FUZZ_BODIES=1000000` runs until as many were tried.
"""

import asyncio
import contextlib
import contextvars
import gzip
import json
import os
import random
import socket
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
import zstandard

from pipelines.apps.collector.dialects import dialects_with
from pipelines.apps.collector.intake import Rules
from pipelines.apps.collector.privacy import Privacy
from pipelines.apps.collector.server import Collector, application
from pipelines.apps.simulator.simulate import simulate_lines
from pipelines.sources.log.folder import segments
from pipelines.sources.log.frames import Entry, read_frames
from pipelines.sources.log.writer import LogWriter
from tests.fuzz.test_records import TOKENS, mutated
from tests.servers.collector import collecting
from tests.servers.needed import LIMIT
from tests.support.captured import FOLDER, captured

SECONDS = 8.0 if os.environ.get("CI") else 3.0
BODIES = int(os.environ.get("FUZZ_BODIES", "0"))
SEED = int(os.environ.get("FUZZ_SEED", random.randrange(1 << 30)))
CLIENTS, AT_ONCE = 16, 2_000  # requests of a round
CANARY = "canary-7f3a"
ANSWERED = {200, 202, 204, 400}  # what is in the log
REFUSED = {401, 403, 405, 413}
BY_ID = "/i/v1/analytics/events"
VALUES = (
    *(None, True, -1, 1e308, float("nan"), float("-inf"), 10**40, "", CANARY, "\x00", "\ud800", "2026-02-30T25:61:61Z"),
    *([], {}, [[[]]], {"$ip": "203.0.113.77"}, {"batch": []}, [None] * 50, {"a" * 2_000: 1}, "x" * 5_000),
)
HEADERS = {
    "content-type": (
        "application/json",
        "text/plain",
        "application/x-ndjson",
        "application/cloudevents+json",
        "a/b;=\xff",
    ),
    "content-length": ("0", "-1", "99", "zz", "9" * 30),
    "authorization": ("Basic !!", "Bearer", "Basic " + "QQ" * 400, "\xff", CANARY),
    "dnt": ("1",),
    "x-forwarded-for": ("1.2.3.4, ::1", "\x00", "," * 100),
    "origin": ("https://shop.example", "http://[", "null"),
    "referer": ("https://[::1", f"https://shop.example/{CANARY}", "//"),
    "user-agent": ("", "\x80" * 2_000),
    "ce-specversion": ("1.0", "9"),
    "ce-id": ("", "%F0%9F", "%zz", CANARY),
    "ce-data": ("\xff",),
}


class Sent(NamedTuple):
    """A request: what a connection carries of it."""

    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes


def seeds() -> list[Sent]:
    """What official clients sent, and native events."""
    names = sorted(path.stem for path in FOLDER.glob("*.json"))
    found = [
        Sent(each["method"], each["path"], each["query"].encode(), each["headers"], each["body"].encode())
        for name in names
        for each in captured(name)["requests"]
    ]
    lines = [line for _, line in simulate_lines(events=40, seed=5)]
    found += [Sent("POST", "/v1/events", b"", {"content-type": "application/json"}, line) for line in lines]
    found.append(Sent("POST", "/v1/events", b"", {}, b"\n".join(lines)))
    return [*found, Sent("POST", "/v1/events", b"", {}, b"[" + b",".join(lines) + b"]")]


def other_value(value: Any, draw: random.Random) -> Any:
    """JSON of which one part, at any depth, is another value, is gone, or is there again."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: other_value(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        at = draw.randrange(len(value))
        inner = [other_value(value[at], draw)] * draw.choice((1, 1, 1, 2, 30))
        return value[:at] + inner + value[at + 1 :]
    return draw.choice(VALUES)


def malformed(seed: Sent, others: Sequence[Sent], draw: random.Random) -> Sent:
    """A request of which something is wrong, or several things."""
    body = seed.body
    if draw.random() < 0.4 and body[:1] in (b"{", b"["):
        with contextlib.suppress(ValueError):
            body = json.dumps(other_value(json.loads(body), draw), ensure_ascii=draw.random() < 0.5).encode(
                "utf-8", "surrogatepass"
            )
    else:
        body = mutated(body, [other.body for other in draw.sample(others, 2)], draw)
    headers = dict(seed.headers)
    while draw.random() < 0.3:
        name = draw.choice(list(HEADERS))
        headers[name] = draw.choice(HEADERS[name])
    if draw.random() < 0.15:
        name = draw.choice(("gzip", "deflate", "zstd", "br", "gzip, gzip", "identity", ""))
        headers["content-encoding"] = name
        packed = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}.get(name)
        body = packed(body) if packed is not None and draw.random() < 0.7 else body
        body = mutated(body, [body], draw) if draw.random() < 0.5 else body
    query = seed.query
    if draw.random() < 0.1:
        query = mutated(query, list(TOKENS), draw) if query else urlencode({"key": CANARY}).encode()
    path = seed.path if draw.random() < 0.95 else draw.choice(others).path
    return Sent(seed.method, path, query, headers, body)


class RememberingLog(LogWriter):
    """A log that notes what each request appended: `asked` is the list of the task that appends."""

    asked: contextvars.ContextVar[list[Entry]] = contextvars.ContextVar("asked")

    def append(self, entries):
        self.asked.get().extend(entries)
        return super().append(entries)


class Fuzzed:
    """A collector in this process, over a log without a disk's syncs."""

    def __init__(self, folder):
        self.log = RememberingLog(folder / "log", most_bytes=1 << 40, sync=lambda file: None)
        self.said: list[str] = []
        self.collector = Collector(self.log, dialects_with({}), Rules(privacy=Privacy("keep")), self.said.append)
        self.app = application(self.collector)
        self.kept = self.checksum = 0

    async def check(self, sent: Sent) -> None:
        """Send one request, and check what became of it."""
        entries: list[Entry] = []
        self.log.asked.set(entries)
        status, body = await self._ask(sent)
        assert status in ANSWERED | REFUSED, (status, sent)
        if sent.path != BY_ID or status != 200:  # that protocol answers by the ids that it was sent
            assert CANARY.encode() not in body, sent
        if status in REFUSED:
            assert entries == [], sent
        elif status == 400:
            (entry,) = entries
            assert entry.attributes["error"], sent
            if "content-encoding" not in sent.headers and sent.headers.get("dnt") != "1":
                assert entry.payload == sent.body, sent
        self.kept += len(entries)
        for entry in entries:
            self.checksum ^= hash(entry.payload)

    async def _ask(self, sent: Sent) -> tuple[int, bytes]:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.headers.items()]
        scope = {"type": "http", "method": sent.method, "path": sent.path, "query_string": sent.query}
        scope |= {"headers": headers, "root_path": "", "client": ("203.0.113.9", 1)}
        messages: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": sent.body, "more_body": False}

        async def send(message: dict) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        return messages[0]["status"], b"".join(each["body"] for each in messages[1:])

    def assert_all_is_in_the_log(self) -> None:
        """The log on disk has what was appended, and nothing else."""
        self.log.close()
        kept = checksum = 0
        for path in segments(self.log.directory).values():
            frames = read_frames(path.read_bytes())
            assert frames.problem is None
            kept += len(frames.entries)
            for entry in frames.entries:
                checksum ^= hash(entry.payload)
        assert (kept, checksum) == (self.kept, self.checksum)


def rounds() -> Iterator[int]:
    """Seeds of rounds, until the time is over or enough was tried."""
    end, at = time.monotonic() + SECONDS, 0
    while at * AT_ONCE < BODIES or (not BODIES and time.monotonic() < end):
        yield SEED + at
        at += 1


def test_no_malformed_request_breaks_the_collector_or_is_lost_or_quoted(tmp_path):
    fuzzed, known, tried = Fuzzed(tmp_path), seeds(), 0

    async def clients(requests: Iterator[Sent]) -> None:
        async def client() -> None:
            for sent in requests:
                await fuzzed.check(sent)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    for seed in rounds():
        draw = random.Random(seed)
        requests = [malformed(draw.choice(known), known, draw) for _ in range(AT_ONCE)]
        try:
            asyncio.run(clients(iter(requests)))
        except BaseException:
            print(f"FUZZ_SEED={seed}")
            raise
        tried += len(requests)
    print(f"{tried:,} requests, {fuzzed.kept:,} entries, answers {dict(fuzzed.collector.metrics.requests)}")
    fuzzed.assert_all_is_in_the_log()
    metrics = fuzzed.collector.metrics
    assert tried > 0 and fuzzed.kept > tried / 2
    assert metrics.errors == {} and fuzzed.said == []
    assert {status for _, status in metrics.requests} >= {200, 202, 400}
    assert sum(count for (_, verdict), count in metrics.events.items() if verdict != "dropped") == fuzzed.kept
    assert CANARY not in metrics.text(fuzzed.collector.gauges())


def raw(sent: Sent) -> bytes:
    """The bytes of a request."""
    path = sent.path + ("?" + sent.query.decode("latin-1") if sent.query else "")
    headers = {"host": "x", "content-length": str(len(sent.body))} | sent.headers
    lines = [f"{sent.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + sent.body


@pytest.mark.parametrize("without", ["", "granian"], ids=["granian", "uvicorn"])
def test_no_bytes_over_a_connection_break_the_server(tmp_path, without):
    draw, known = random.Random(SEED), seeds()
    print(f"FUZZ_SEED={SEED}")
    end = time.monotonic() + SECONDS / 4
    with collecting(tmp_path, without=without) as served:
        begun = served.said()
        while time.monotonic() < end:
            sent = raw(malformed(draw.choice(known), known, draw))
            if draw.random() < 0.5:
                sent = mutated(sent, [sent], draw)
            one = socket.create_connection(("127.0.0.1", served.port), timeout=LIMIT)
            with one, contextlib.suppress(ConnectionError):
                one.sendall(sent)
                with contextlib.suppress(OSError):  # the server has closed it
                    one.shutdown(socket.SHUT_WR)
                assert not one.recv(4_096).startswith(b"HTTP/1.1 5")
        assert served.ask(body=b'{"event_id":"after"}').status == 202
        assert not [name for name in served.metrics() if "unforeseen" in name or 'status="500"' in name]
        assert served.said() == begun
