"""A Dataflow service that starts nothing: it takes jobs over REST on this machine, and keeps what it was asked.

The name `localhost` matters: by it Beam chooses REST, and looks for no credentials.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_PLACE = re.compile(r"/projects/([^/]+)/locations/([^/]+)/")
_JOBS = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/]+))?")


class Asked(NamedTuple):
    """A request, and its body if it had one."""

    method: str
    path: str
    body: dict[str, Any] | None


class Dataflow:
    """`jobs` are those that it has, by id; `asked` what it was asked."""

    def __init__(self, server: ThreadingHTTPServer):
        self.endpoint = f"http://localhost:{server.server_port}"
        self.asked: list[Asked] = []
        self.jobs: dict[str, dict[str, Any]] = {}

    def created(self) -> dict[str, Any]:
        """The body of the one job that was created."""
        (body,) = (asked.body for asked in self.asked if asked.method == "POST")
        assert body is not None
        return body

    def launched(self) -> dict[str, Any]:
        """The parameters of the one template that was launched."""
        (body,) = (asked.body for asked in self.asked if asked.path.endswith("flexTemplates:launch"))
        assert body is not None
        return body["launchParameter"]

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        """Take a request."""
        self.asked.append(asked)
        if asked.path.endswith("flexTemplates:launch") and asked.body is not None:
            return 200, {
                "job": self._add(*_PLACE.findall(asked.path)[0], {"name": asked.body["launchParameter"]["jobName"]})
            }
        found = _JOBS.match(asked.path)
        if not found:
            return 404, {"error": {"code": 404, "message": asked.path}}
        project, region, id = found.groups()
        if asked.method == "POST" and asked.body is not None:
            told = {name: asked.body[name] for name in ("name", "type", "clientRequestId") if name in asked.body}
            return 200, self._add(project, region, told)
        if id is None:
            return 200, {"jobs": list(self.jobs.values())}
        if asked.method == "PUT" and asked.body is not None:
            self.jobs[id]["currentState"] = asked.body["requestedState"]
        return 200, self.jobs[id]

    def _add(self, project: str, region: str, told: dict[str, Any]) -> dict[str, Any]:
        id = f"2026-03-01_{len(self.jobs)}"
        place = {"id": id, "projectId": project, "location": region, "currentState": "JOB_STATE_RUNNING"}
        times = dict.fromkeys(("createTime", "currentStateTime"), "2026-03-01T00:00:00Z")
        self.jobs[id] = {"type": "JOB_TYPE_STREAMING"} | told | place | times
        return self.jobs[id]


@contextmanager
def dataflow_service() -> Iterator[Dataflow]:
    """Run it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = service.answer(Asked(self.command, self.path.partition("?")[0], body))
            told = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_POST = do_PUT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Dataflow(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
