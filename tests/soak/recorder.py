"""An HTTP proxy in front of a collector that writes down what clients sent, and what of it was answered with success.

It reads the ids of events by itself, and imports nothing of the product: it is the proof's own book. A collector that
is killed in the middle of a request ends the client's connection too.
"""

import gzip
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SECONDS = 40  # for an answer
HOP_HEADERS = ("connection", "transfer-encoding", "content-length", "keep-alive", "host")
Key = tuple[str, str]  # (source of the event in the warehouse, its id)


def _segment(body: Any) -> list[Key]:
    return [("segment", each["messageId"]) for each in body["batch"]]


def _posthog(body: Any) -> list[Key]:
    return [("posthog", each["uuid"]) for each in body["batch"]]


def _native(body: Any) -> list[Key]:
    return [("events", each["event_id"]) for each in (body if isinstance(body, list) else [body])]


def _plausible(body: Any) -> list[Key]:
    return [("plausible", f"{urlsplit(body['u']).path.lstrip('/')} {body['n']}")]


IDS: dict[str, Callable[[Any], list[Key]]] = {
    "/v1/batch": _segment,
    "/batch/": _posthog,
    "/i/v1/analytics/events": _posthog,
    "/com.snowplowanalytics.snowplow/tp2": lambda body: [("snowplow", each["eid"]) for each in body["data"]],
    "/v1/cloudevents": lambda body: [("cloudevents", body["id"])],
    "/api/event": _plausible,
    "/v1/events": _native,
}


def keys_of(method: str, target: str, headers: Mapping[str, str], body: bytes) -> list[Key]:
    """The events of a request; none of one that is no request with events. `headers` by names in any case."""
    if (id := headers.get("ce-id")) is not None:
        return [("cloudevents", id)]
    path, _, query = target.partition("?")
    if method == "GET" and path == "/i":
        return [("snowplow", dict(parse_qsl(query))["eid"])]
    return IDS[path](json.loads(body)) if method == "POST" and path in IDS else []


class Recorder:
    """sent          how often each event was sent
    acknowledged     how often each one was answered with success
    statuses         of the answers; 0 for a request without one
    """

    def __init__(self, collector_port: int):
        self.collector_port, self.port = collector_port, 0
        self.sent, self.acknowledged = Counter[Key](), Counter[Key]()
        self.statuses = Counter[int]()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def before(self, keys: list[Key]) -> None:
        """Write down what is sent."""
        with self._lock:
            self.sent.update(keys)

    def after(self, keys: list[Key], status: int) -> None:
        """Write down an answer of the collector."""
        with self._lock:
            self.statuses[status] += 1
            if 200 <= status < 300:
                self.acknowledged.update(keys)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorder: Recorder

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        encoding = self.headers.get("content-encoding", "")
        keys = keys_of(self.command, self.path, self.headers, gzip.decompress(sent) if encoding == "gzip" else sent)
        self.recorder.before(keys)
        upstream = http.client.HTTPConnection("127.0.0.1", self.recorder.collector_port, timeout=SECONDS)
        try:
            upstream.request(self.command, self.path, sent, dict(self.headers))
            answer = upstream.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.recorder.after(keys, 0)
            self.close_connection = True
            return
        finally:
            upstream.close()
        self.recorder.after(keys, answer.status)
        self._pass_on(answer, body)

    do_GET = do_OPTIONS = do_POST

    def _pass_on(self, answer: http.client.HTTPResponse, body: bytes) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that has gone is none."""


@contextmanager
def recording(collector_port: int) -> Iterator[Recorder]:
    """A proxy in front of a collector's port, while it is needed."""
    recorder = Recorder(collector_port)
    handler = type("Handler", (_Handler,), {"recorder": recorder})
    with _Server(("127.0.0.1", 0), handler) as server:
        recorder.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
