"""Intake with a real log, in this process: what is answered is in the log, and no body is lost or breaks the server."""

import asyncio
import errno
import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.apps.collector.dialect import NotSigned
from pipelines.apps.collector.dialects.native import Native
from pipelines.apps.collector.dialects.segment import Segment
from pipelines.apps.collector.intake import Rules
from pipelines.apps.collector.keys import KeyFile, add_key, add_webhook
from pipelines.apps.collector.privacy import Privacy, proxies_of
from pipelines.apps.collector.server import Collector, application
from pipelines.sources.log.writer import LogWriter
from tests.servers.collector import Reply, entries_of

PEER = "203.0.113.77"


class Served:
    """A collector over a log of its own, asked as a server asks it; `said` is what it has told the operator."""

    def __init__(self, folder: Path, log: LogWriter, rules: Rules, dialects):
        self.folder, self.log, self.said = folder, log, list[str]()
        self.collector = Collector(log, dialects, rules, self.said.append)
        self._app = application(self.collector)

    def ask(
        self, body: bytes = b"", path: str = "/v1/events", method: str = "POST", peer: str = PEER, **headers
    ) -> Reply:
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return asyncio.run(self._ask(body, path, method, peer, named))

    async def _ask(self, body: bytes, path: str, method: str, peer: str, headers: list[tuple[bytes, bytes]]) -> Reply:
        path, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        sent: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self._app(scope | {"root_path": "", "client": (peer, 1)}, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], head, b"".join(each["body"] for each in sent[1:]))

    @property
    def payloads(self) -> list[bytes]:
        return [entry.payload for entry in entries_of(self.folder)]


NATIVE, RULES = (Native(),), Rules()
A, B, CANARY = (b'{"event_id":"%s","event_type":"page_view"}' % id for id in (b"a", b"b", b"canary"))
ANY = b'{"event_type":"page_view"}'


@contextmanager
def served(folder: Path, rules=RULES, dialects=NATIVE, most_bytes: int = 1 << 30, **log) -> Iterator[Served]:
    writer = LogWriter(folder / "log", most_bytes=most_bytes, **log)
    try:
        yield Served(folder / "log", writer, rules, dialects)
    finally:
        writer.close()


@pytest.fixture
def plain(tmp_path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def test_an_event_is_in_the_log_as_it_was_sent_with_what_is_known_of_the_request(plain):
    body = b' {"event_id": "e1", "event_type":"page_view", "value": 1.10}'
    reply = plain.ask(
        body,
        user_agent="Browser/1",
        referer="https://user:secret@Shop.Example/cart?email=canary@example.org",
        x_forwarded_for="9.9.9.9",
    )
    assert (reply.status, reply.json()) == (202, {"accepted": 1, "rejected": [], "duplicates": 0})
    (entry,) = entries_of(plain.folder)
    assert (entry.source, entry.payload) == ("events", body.strip())
    assert entry.attributes == {
        "dialect": "native",
        "ip": "203.0.113.0",
        "user_agent": "Browser/1",
        "referer": "shop.example",
    }


def test_each_entry_has_an_id_of_its_own_and_the_time_of_the_request(plain):
    plain.ask(b"[{},{}]")
    plain.ask(b"{}")
    entries = entries_of(plain.folder)
    assert len({entry.message_id for entry in entries}) == 3
    assert [entry.received for entry in entries] == sorted(entry.received for entry in entries)
    assert entries[0].received > 1_600_000_000_000_000


def test_a_duplicate_is_said_in_one_request_and_in_the_next_and_is_in_the_log_all_the_same(plain):
    assert plain.ask(b"[%s]" % b",".join([A, A, B, ANY])).json()["duplicates"] == 1
    assert plain.ask(b"[%s,%s]" % (B, ANY)).json() == {"accepted": 1, "rejected": [], "duplicates": 1}
    assert len(plain.payloads) == 6


def test_the_window_of_ids_is_of_one_source_and_bounded(tmp_path):
    keys = tmp_path / "keys.json"
    one, other = add_key(keys, "one", "shop"), add_key(keys, "other", "blog")
    with served(tmp_path, Rules(KeyFile(keys))) as made:
        made.collector.intake._recent._most = 2
        send = [made.ask(A, authorization=f"Bearer {key}").json()["duplicates"] for key in (one, other, one)]
        assert send == [0, 0, 1]
        for each in (B, CANARY):
            made.ask(each, authorization=f"Bearer {one}")
        assert made.ask(A, authorization=f"Bearer {one}").json()["duplicates"] == 0


def test_a_rejected_event_is_in_the_log_with_the_reason_and_the_others_count(plain):
    reply = plain.ask(b"[%s,7]" % A)
    assert reply.status == 202 and reply.json()["accepted"] == 1 and reply.json()["rejected"][0]["index"] == 1
    first, second = entries_of(plain.folder)
    assert "error" not in first.attributes and second.payload == b"7" and "number" in second.attributes["error"]


def test_a_body_of_another_form_is_400_and_in_the_log(plain):
    assert plain.ask(b"canary").status == 400
    (entry,) = entries_of(plain.folder)
    assert entry.payload == b"canary" and entry.attributes["error"]


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", b"canary"), ("br", b"canary"), ("gzip", gzip.compress(b"x", mtime=0)[:-3])]
)
def test_a_body_that_cannot_be_inflated_is_400_and_in_the_log_as_it_was_sent(plain, encoding, body):
    reply = plain.ask(body, content_encoding=encoding)
    assert reply.status == 400 and b"canary" not in reply.body and plain.payloads == [body]


def test_an_empty_list_is_answered_and_nothing_is_written(plain):
    assert plain.ask(b"[]").status == 202 and plain.payloads == []


def test_a_signal_leaves_the_person_out_or_drops_the_event(tmp_path):
    body = b'{"event_id":"e","event_type":"a","user_id":"canary","x":1}'
    with served(tmp_path / "a") as made:
        assert made.ask(body, dnt="1", user_agent="canary").json()["accepted"] == 1
        (entry,) = entries_of(made.folder)
        assert entry.payload == b'{"event_id":"e","event_type":"a","x":1}'
        assert entry.attributes == {"dialect": "native", "privacy": "anonymous"}
    with served(tmp_path / "b", Rules(privacy=Privacy("cut", "drop"))) as made:
        assert made.ask(body, sec_gpc="1").json()["accepted"] == 1 and made.payloads == []
        assert made.collector.metrics.events == {("native", "dropped"): 1}
    with served(tmp_path / "c", Rules(privacy=Privacy("keep", "ignore"))) as made:
        made.ask(body, dnt="1")
        assert made.payloads == [body] and entries_of(made.folder)[0].attributes["ip"] == PEER


def test_a_proxy_that_is_named_says_who_asks(tmp_path):
    with served(tmp_path, Rules(privacy=Privacy("keep"), is_proxy=proxies_of(["10.0.0.0/8"]))) as made:
        made.ask(b"{}", peer="10.0.0.3", x_forwarded_for="6.6.6.6, 198.51.100.5")
        made.ask(b"{}", peer="198.51.100.9", x_forwarded_for="6.6.6.6")
        assert [entry.attributes["ip"] for entry in entries_of(made.folder)] == ["198.51.100.5", "198.51.100.9"]


def test_a_key_decides_the_source_and_without_one_nothing_is_kept(tmp_path):
    keys = tmp_path / "keys.json"
    key = add_key(keys, "web", "shop")
    with served(tmp_path, Rules(KeyFile(keys))) as made:
        assert made.ask(b"{}").json()["code"] == "missing_key"
        refused = made.ask(b"{}", authorization="Bearer canary")
        assert (refused.status, refused.json()["code"]) == (401, "unknown_key") and b"canary" not in refused.body
        assert made.ask(b"nonsense", authorization="Bearer canary").status == 401 and made.payloads == []
        assert made.ask(b"{}", authorization=f"Bearer {key}").status == 202
        (entry,) = entries_of(made.folder)
        assert (entry.source, entry.attributes["key"]) == ("shop", "web") and key not in str(entry)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'{"event_type":"click"}', b'{"source":"shop","event_type":"click"}'),
        (b" { } ", b'{"source":"shop"}'),
        (b'{"event_type":"click","source":"till"}', None),
        (b'{"source":null}', None),
        (b'{"a":{"source":"x"},"n":1.0}', b'{"source":"shop","a":{"source":"x"},"n":1.0}'),
    ],
)
def test_a_native_event_has_the_source_of_its_key_unless_it_states_one(tmp_path, sent, kept):
    keys = tmp_path / "keys.json"
    key = add_key(keys, "web", "shop")
    with served(tmp_path, Rules(KeyFile(keys))) as made:
        assert made.ask(sent, authorization=f"Bearer {key}").status == 202
        assert made.payloads == [kept or sent]


def test_a_key_that_sends_too_much_waits_and_is_told_how_long(tmp_path):
    keys = tmp_path / "keys.json"
    key = f"Bearer {add_key(keys, 'web', 'shop', rate=1)}"
    with served(tmp_path, Rules(KeyFile(keys))) as made:
        assert made.ask(b"[%s]" % b",".join([b"{}"] * 110), authorization=key).status == 202
        refused = made.ask(b"{}", authorization=key)
        assert (refused.status, refused.json()["code"]) == (429, "rate_limited")
        assert 95 <= int(refused.headers["retry-after"]) <= 100 and len(made.payloads) == 110


class Signed(Native):
    """A dialect that checks a signature."""

    name, signed, routes = "hooks", True, (("POST", "/hooks/{name}"),)

    def read(self, request):
        if request.headers.get("signature") != "good":
            raise NotSigned("the signature is wrong")
        return super().read(request)


def test_a_signature_stands_in_place_of_the_key_and_without_it_nothing_is_kept(tmp_path):
    keys = tmp_path / "keys.json"
    add_webhook(keys, "stripe", "payments", "whsec_canary")
    with served(tmp_path, Rules(KeyFile(keys)), (Signed(),)) as made:
        assert made.ask(b"{}", "/hooks/github", signature="good").json()["code"] == "unknown_webhook"
        assert made.ask(b"{}", "/hooks/stripe").json()["code"] == "not_signed" and made.payloads == []
        assert made.ask(b"{}", "/hooks/stripe", signature="good").status == 202
        (entry,) = entries_of(made.folder)
        assert (entry.source, entry.attributes["key"]) == ("payments", "webhook.stripe")


def test_without_a_file_of_keys_no_webhook_is_known(tmp_path):
    with served(tmp_path, dialects=(Signed(),)) as made:
        assert made.ask(b"{}", "/hooks/stripe", signature="good").status == 401


ORIGIN = "https://shop.example"


def test_a_page_may_send_where_its_origin_is_allowed(tmp_path):
    with served(tmp_path, Rules(origins=frozenset({ORIGIN}))) as made:
        reply = made.ask(b"{}", origin="https://SHOP.example")
        assert reply.status == 202 and entries_of(made.folder)[0].attributes["origin"] == "shop.example"
        assert (
            reply.headers["access-control-allow-origin"] == "https://SHOP.example" and reply.headers["vary"] == "Origin"
        )
        assert made.ask(b"nonsense", origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN
        preflight = made.ask(method="OPTIONS", origin=ORIGIN, access_control_request_headers="content-type, x-a")
        assert preflight.status == 204 and preflight.body == b""
        assert preflight.headers["access-control-allow-methods"] == "POST"
        assert preflight.headers["access-control-allow-headers"] == "content-type, x-a"
        assert preflight.headers["access-control-max-age"] == "3600"
        assert "access-control-allow-credentials" not in {**reply.headers, **preflight.headers}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://shop.example.evil", "http://shop.example"])
def test_another_page_may_not_send_and_reads_nothing(tmp_path, origin):
    with served(tmp_path, Rules(origins=frozenset({ORIGIN}))) as made:
        reply, preflight = made.ask(b"{}", origin=origin), made.ask(method="OPTIONS", origin=origin)
        assert reply.status == 403 and made.payloads == []
        assert not [name for name in {**reply.headers, **preflight.headers} if name.startswith("access-control")]


def test_all_pages_may_send_where_that_is_said_and_odd_headers_are_not_echoed(tmp_path):
    with served(tmp_path, Rules(origins=frozenset({"*"}))) as made:
        assert made.ask(b"{}", origin="https://any.example").status == 202
        asked = made.ask(method="OPTIONS", origin=ORIGIN, access_control_request_headers='x"; y')
        assert asked.headers["access-control-allow-headers"] == "content-type"


def test_a_method_or_path_that_is_none_is_refused(plain):
    assert plain.ask(method="GET").status == 405 and plain.ask(method="DELETE").headers["allow"] == "POST, OPTIONS"
    assert plain.ask(b"{}", "/v1/events/").status == 404 and plain.ask(b"{}", "/metrics").status == 405
    assert plain.payloads == []


def test_a_body_that_is_too_large_is_refused(plain):
    assert plain.ask(b"[" + b" " * 9_000_000).status == 413
    reply = plain.ask(gzip.compress(b"[" + b" " * 9_000_000), content_encoding="gzip")
    assert (reply.status, reply.json()["code"]) == (413, "too_large") and plain.payloads == []


class Disk:
    """Syncs until it is broken."""

    def __init__(self):
        self.error: OSError | None = None

    def __call__(self, descriptor: int) -> None:
        if self.error is not None:
            raise self.error
        os.fdatasync(descriptor)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_is_not_durable_is_not_answered_and_may_be_sent_again(tmp_path, number):
    disk = Disk()
    with served(tmp_path, sync=disk) as made:
        disk.error = OSError(number, os.strerror(number))
        refused = made.ask(A)
        assert (refused.status, refused.json()["code"], refused.headers["retry-after"]) == (503, "log_full", "5")
        assert made.payloads == [] and made.ask(path="/readyz", method="GET").status == 503
        made.ask(A)
        disk.error = None
        assert made.ask(path="/readyz", method="GET").status == 200
        assert made.ask(A).json() == {"accepted": 1, "rejected": [], "duplicates": 0}
        assert len(made.payloads) == 1 and [line.partition(":")[0] for line in made.said] == [
            "events are refused",
            "events are taken again",
        ]
        assert str(tmp_path) not in refused.body.decode()


def test_a_log_that_is_full_refuses_until_it_was_read(tmp_path):
    with served(tmp_path, most_bytes=4_000) as made:
        statuses = [made.ask(b'{"x":"%s"}' % (b"y" * 50)).status for _ in range(40)]
        taken = statuses.count(202)
        assert 10 < taken < 40 and set(statuses[taken:]) == {503} and len(made.payloads) == taken
        assert made.ask(path="/readyz", method="GET").status == 503
        for path in sorted(made.folder.glob("*.log"))[:-1]:
            path.unlink()  # as its reader does
        assert made.ask(path="/readyz", method="GET").status == 200 and made.ask(b"{}").status == 202


class Broken(Native):
    """A dialect with a bug."""

    def read(self, request):
        raise KeyError(request.body.decode())


class Worse(Native):
    """A dialect whose answer has a bug."""

    def accepted(self, request, events, verdicts):
        raise KeyError(request.body.decode())


def test_a_bug_of_a_dialect_loses_no_body_and_shows_no_value(tmp_path):
    with served(tmp_path / "a", dialects=(Broken(),)) as made:
        reply, again = made.ask(b"canary"), made.ask(b"canary")
        assert reply == again and reply.status == 400 and made.payloads == [b"canary"] * 2
        assert len(made.said) == 1 and "KeyError" in made.said[0], "it is said once"
        assert made.collector.metrics.errors == {"dialect": 2}
        assert "canary" not in f"{reply}{made.said}"
    with served(tmp_path / "b", dialects=(Worse(),)) as made:
        reply = made.ask(b'{"a":"canary"}')
        assert reply.status == 500 and len(made.payloads) == 1 and "test_intake:" in made.said[0]
        assert "canary" not in f"{reply}{made.said}"


NAMES = (
    "content_encoding",
    "content_type",
    "content_length",
    "authorization",
    "user_agent",
    "referer",
    "dnt",
    "origin",
)
VALUES = ("gzip", "zstd", "deflate", "application/json", "application/x-ndjson", "1", "-1", "Bearer ", "Basic x")
PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
ODD_HEADERS = st.dictionaries(
    st.sampled_from((*NAMES, "origin")), st.sampled_from(VALUES) | st.text(PRINTABLE, max_size=20), max_size=3
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(("event_id", "a", "")), inner),
    max_leaves=10,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=200, deadline=None)
@given(BODIES, ODD_HEADERS, st.text(PRINTABLE, max_size=20))
def test_no_body_and_no_header_gives_an_error_of_the_server_or_is_lost(tmp_path_factory, body, headers, query):
    with served(tmp_path_factory.mktemp("odd")) as made:
        reply = made.ask(body, f"/v1/events?{query}", **headers)
        assert reply.status in (202, 400, 403, 413) and made.said == []
        counted = 0 if reply.status != 202 else reply.json()["accepted"] + len(reply.json()["rejected"])
        kept = made.payloads
        if reply.status == 400 and headers.get("dnt") != "1":
            assert len(kept) == 1 and (kept[0] in body or body in kept[0] or headers.get("content_encoding"))
        elif reply.status == 202:
            assert len(kept) == counted + reply.json()["duplicates"]


def test_metrics_count_and_hold_nothing_that_a_client_sent(plain):
    plain.ask(b"[%s,%s,1]" % (CANARY, CANARY), user_agent="canary", authorization="Bearer canary")
    plain.ask(b"canary")
    page = plain.ask(path="/metrics", method="GET")
    text = page.body.decode()
    assert page.status == 200 and page.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'requests_total{dialect="native",status="202"} 1',
        'requests_total{dialect="native",status="400"} 1',
        'events_total{dialect="native",verdict="accepted"} 1',
        'events_total{dialect="native",verdict="duplicate"} 1',
        'events_total{dialect="native",verdict="rejected"} 2',
        'ack_seconds_bucket{le="+Inf"} 2',
        "ack_seconds_count 2",
        f"received_bytes_total {2 * len(CANARY) + 5 + 6}",
        "ready 1",
    ):
        assert f"audience_collector_{line}\n" in text
    assert "canary" not in text and "203.0.113" not in text and "held_bytes 0\n" in text


def test_a_batch_that_says_too_much_of_all_its_events_is_400_and_is_in_the_log_once(tmp_path):
    with served(tmp_path, dialects=(Segment(),)) as made:
        body = b'{"context":{"a":"%s"},"batch":[%s]}' % (b"x" * 100_000, b",".join([b"{}"] * 10_000))
        reply = made.ask(body, "/v1/batch")
        assert reply.status == 400 and made.payloads == [body]
