"""What `audience doctor` says of a project: against a server in the place of Google's two services."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.apps.doctor.check import FOUND, MISSING, WRONG
from pipelines.apps.doctor.project import APIS, ROLES, project
from pipelines.cli import main


class Google:
    """`off` are the interfaces that are not on, `denied` the permissions that nobody has; `refuses` a status of all."""

    def __init__(self):
        self.off: set[str] = set()
        self.denied: set[str] = set()
        self.refuses: int | None = None
        self.tokens: set[str] = set()

    def answer(self, path: str, body: dict | None) -> dict:
        if body is not None:
            assert urlsplit(path).path == "/v3/projects/my-project:testIamPermissions"
            return {"permissions": [each for each in body["permissions"] if each not in self.denied]}
        assert urlsplit(path).path == "/v1/projects/my-project/services:batchGet"
        names = parse_qs(urlsplit(path).query)["names"]
        off = {f"projects/my-project/services/{api}.googleapis.com" for api in self.off}
        assert off <= {*names}
        return {"services": [{"name": name, "state": "DISABLED" if name in off else "ENABLED"} for name in names]}


@pytest.fixture
def google(credentials, monkeypatch) -> Iterator[Google]:
    told = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            size = int(self.headers.get("Content-Length") or 0)
            told.tokens.add(self.headers["Authorization"])
            body = json.loads(self.rfile.read(size)) if size else None
            refused = {"error": {"message": "Cloud says no"}}
            answer = json.dumps(refused if told.refuses else told.answer(self.path, body)).encode()
            self.send_response(told.refuses or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for api in ("SERVICEUSAGE", "CLOUDRESOURCEMANAGER"):
        monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{credentials}")
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_project_that_has_all_is_two_rows(google):
    rows = project("my-project")
    assert [(row.name, row.state) for row in rows] == [
        ("APIs of my-project", FOUND),
        ("permissions in my-project", FOUND),
    ]
    assert rows[0].detail == ", ".join(APIS)
    assert google.tokens == {"Bearer of-nobody"}


def test_each_interface_that_is_off_and_each_permission_that_is_missing_has_the_command_that_mends_it(google):
    google.off, google.denied = {"dataflow", "pubsub"}, {"dataflow.jobs.create"}
    told = {row.name: row for row in project("my-project") if row.state == MISSING}
    assert {name: row.get for name, row in told.items()} == {
        "dataflow.googleapis.com": "gcloud services enable dataflow.googleapis.com --project=my-project",
        "pubsub.googleapis.com": "gcloud services enable pubsub.googleapis.com --project=my-project",
        "dataflow.jobs.create": "gcloud projects add-iam-policy-binding my-project --member=WHO "
        f"--role={ROLES['dataflow.jobs.create']}",
    }


def test_a_project_that_does_not_tell_is_said_in_its_own_words(google):
    google.refuses = 403
    rows = project("my-project")
    said = ["cannot list them: 403 Cloud says no", "cannot test them: 403 Cloud says no"]
    assert [(row.state, row.detail) for row in rows] == [(WRONG, each) for each in said]


def test_the_command_asks_for_the_project_that_is_named_and_ends_with_2(google, capsys):
    google.off = {"compute"}
    assert main(["doctor", "--json", "--project", "my-project"]) == 2
    told = capsys.readouterr()
    rows = {row["name"]: row for row in map(json.loads, told.out.splitlines())}
    assert rows["compute.googleapis.com"]["state"] == MISSING
    assert "compute.googleapis.com (missing); see above for what to do" in told.err
