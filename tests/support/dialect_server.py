"""An HTTP server on loopback that answers by the dialects and keeps what it acknowledged: a collector without a log."""

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from pipelines.apps.collector.dialect import ACCEPTED, Answer, Event, Request
from tests.support.captured import dialect_of

INFLATE: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}


class Answers:
    """refusals  (status, code, message) of the requests to come, which are not kept
    verdicts  of the events of a request
    tried     the ids of each request, refused or not, in their order
    kept      the events that were acknowledged
    """

    def __init__(self) -> None:
        self.address = ""
        self.refusals: list[tuple[int, str, str]] = []
        self.verdicts: Callable[[Sequence[Event]], list[str]] = lambda events: [ACCEPTED] * len(events)
        self.tried: list[list[str | None]] = []
        self.kept: list[Event] = []

    def answer(self, request: Request) -> Answer:
        """The answer to a request."""
        dialect = dialect_of(request)
        events = dialect.read(request)
        self.tried.append([event.id for event in events])
        if self.refusals:
            return dialect.refused(request, *self.refusals.pop(0))
        self.kept += events
        return dialect.accepted(request, events, self.verdicts(events))


@contextmanager
def dialect_server() -> Iterator[Answers]:
    """A server while it is needed."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            sent = self.rfile.read(int(headers.get("content-length", 0)))
            body = INFLATE[headers.get("content-encoding", "")](sent)
            path, _, query = self.path.partition("?")
            made = answers.answer(Request(self.command, path, dict(parse_qsl(query)), headers, body))
            self.send_response(made.status)
            for name, value in made.headers:
                self.send_header(name, value)
            if made.status in (429, 503):
                self.send_header("retry-after", "1")
            self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()
