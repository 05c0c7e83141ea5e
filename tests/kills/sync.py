"""python -m tests.kills.sync FOLDER [POINTS]: kills a sync to a webhook at operations on files of its state, and
before and after its requests.

Prints one JSON object: how many points there are, how many were met (POINTS, spread evenly; all without it), how many
changes came again after a kill, and what should not be. The receiver is a process of its own that keeps what it is
sent. This process begins children and nothing else: Polars has threads, which do not outlive a fork.
"""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from pipelines.cli import main as audience
from pipelines.insight.alerts import channels
from pipelines.insight.sync import run as syncing
from pipelines.insight.sync.state import State
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.kills.places import done
from tests.kills.points import Operations

BEFORE = {"p0": 1, "p1": 1, "p2": 1}
AFTER = {"p0": 1, "p1": 2, "p3": 1, "p4": 1, "p5": 1, "p6": 1}
CHANGES = {("change", "p1"), ("remove", "p2"), ("add", "p3"), ("add", "p4"), ("add", "p5"), ("add", "p6")}
syncing.BATCH = 2  # changes: three batches


@contextmanager
def receiving(got: Path) -> Iterator[str]:
    """The address of a process that takes all it is sent, and writes each body to a file as a line."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with open(got, "ab") as file:
                file.write(body + b"\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    end, kept = os.pipe()
    if (process := os.fork()) == 0:
        os.close(kept)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.read(end, 1)  # until this process is gone, however it ends
        os._exit(0)
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def count_requests(operations: Operations) -> None:
    """Before and after each request of this process there is a point, too."""
    post = channels.post_signed

    def counted(target, id: str, body: bytes) -> bytes:
        operations.point(f"send {id}")
        answer = post(target, id, body)
        operations.point(f"sent {id}")
        return answer

    channels.post_signed = counted


class Syncing:
    """A segment of a warehouse in a folder, synced to a receiver."""

    def __init__(self, folder: Path, url: str):
        self.folder, self.url, self.got = folder, url, folder / "got"
        self.states, self.log = folder / "states", folder / "points"
        LocalWarehouse.open(folder / "warehouse", create=True)

    def sync(self, members: dict[str, int], kill_at: int | None = None, counted: bool = False) -> int:
        """The exit status of a child that syncs these members; negative for one that was killed."""
        rows = ", ".join(f"('{person}', {number})" for person, number in members.items())
        target = {"kind": "webhook", "url": self.url, "secret": {"env": "SYNC_SECRET"}}
        segment = {"query": f"SELECT * FROM (VALUES {rows}) AS found (person, n)", "to": ["there"]}
        config = self.folder / "audience.yaml"
        config.write_text(json.dumps({"sync": {"targets": {"there": target}, "segments": {"some": segment}}}))
        words = ["sync", "--warehouse", str(self.folder / "warehouse"), "--config", str(config)]

        def work() -> int:
            if counted:
                count_requests(Operations(self.states, self.log, kill_at))
            return audience([*words, "--state", str(self.states)])

        return done(self.folder, work)

    def begin(self) -> None:
        """The state after a first sync, and a receiver that was sent nothing yet."""
        shutil.rmtree(self.states, ignore_errors=True)
        shutil.copytree(self.folder / "base", self.states)
        self.got.write_bytes(b"")

    def changes(self) -> list[tuple[str, str, str]]:
        """(id, action, person) of each change that was received, in order."""
        bodies = map(json.loads, self.got.read_text().splitlines())
        return [(each["id"], each["action"], each["person"]) for body in bodies for each in body["data"]["changes"]]

    def wrong(self) -> list[str]:
        """What should not be, now that the sync has ended."""
        into = self.folder / "wrong.json"
        status = done(self.folder, lambda: into.write_text(json.dumps(self._wrong())) and 0)
        return json.loads(into.read_text()) if status == 0 else ["the state cannot be read"]

    def _wrong(self) -> list[str]:
        received, state = self.changes(), State(self.states / "some.there")
        once = {id: (action, person) for id, action, person in received}
        found = []
        if len(set(received)) != len(once):
            found.append(f"one id for several changes: {received}")
        if sorted(once.values()) != sorted(CHANGES):
            found.append(f"by their ids came {sorted(once.values())}")
        names = [
            path.name for path in state.folder.iterdir() if not path.name.startswith(("id", "members", "log", "lock"))
        ]
        if names or state.members()["person"].to_list() != sorted(AFTER):
            found.append(f"the state has {names} and {state.members()['person'].to_list()}")
        return found


def main(folder: Path, count: int | None) -> None:
    """Kill at the points."""
    os.environ["SYNC_SECRET"] = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
    with receiving(folder / "got") as url:
        place = Syncing(folder, url)
        statuses = [place.sync(BEFORE)]
        shutil.copytree(place.states, folder / "base")
        place.begin()
        statuses.append(place.sync(AFTER, counted=True))
        points = place.log.read_text().splitlines()
        wrong = place.wrong() if statuses == [0, 0] else [f"undisturbed runs end with {statuses}"]
        step = 1 if count is None else max(len(points) // count, 1)
        killed = again = 0
        for at in range(0, len(points), step):
            place.begin()
            killed += place.sync(AFTER, at, counted=True) == -signal.SIGKILL
            status = place.sync(AFTER)
            again += len(place.changes()) > len(CHANGES)
            wrong += [f"killed at {points[at]}: {what}" for what in place.wrong()]
            wrong += [f"killed at {points[at]}: run again ends with {status}"] if status else []
        sent = len(place.changes())
        if place.sync(AFTER) or len(place.changes()) != sent:
            wrong.append("a sync of nothing sends something")
    met = len(range(0, len(points), step))
    print(json.dumps({"points": len(points), "met": met, "killed": killed, "again": again, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
