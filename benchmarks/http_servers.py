"""Servers beside which the collector is measured, each a Granian of its own process with the collector's settings.

python -m benchmarks.http_servers echo --port N               reads a body and answers 202: no event, no disk
python -m benchmarks.http_servers sync --port N --file FILE   appends a body to a file and syncs it, then answers
"""

import argparse
import os
from collections.abc import Callable

from pipelines.apps.collector.bodies import Held, read_body
from pipelines.apps.collector.serve import leave, serve

ANSWER = b'{"accepted":1}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


class Taking:
    """An ASGI application that gives each body to a function before it answers 202."""

    def __init__(self, take: Callable[[bytes], None]):
        self._take, self._held = take, Held()

    async def __call__(self, scope, receive, send) -> None:
        with self._held.share() as share:
            if scope["method"] == "POST":
                self._take(await read_body(receive, None, share))
        await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})


def synced(path: str) -> Callable[[bytes], None]:
    """A function that appends a body to a file, durably: one sync for each request."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def take(body: bytes) -> None:
        os.write(file, body)
        os.fdatasync(file)

    return take


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("echo", "sync"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file")
    asked = parser.parse_args()
    take = synced(asked.file) if asked.kind == "sync" else lambda body: None
    serve(Taking(take), "127.0.0.1", asked.port, lambda: None, "granian")
    leave()


if __name__ == "__main__":
    main()
