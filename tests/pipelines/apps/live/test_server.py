"""The server as a viewer meets it: a real process, its headers, streams, refusals and end."""

import json
import re
import signal
from datetime import timedelta
from hashlib import sha256
from importlib.resources import files

import pytest

from pipelines.apps.live.files import FILES
from pipelines.apps.live.links import add_link
from pipelines.apps.live.replies import is_loopback
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.apps.live.rows import AT, CANARIES, ZONE, events, fill
from tests.pipelines.warehouse.test_metric_views import write
from tests.servers.live import serving
from tests.servers.needed import wait_until

MOST_BYTES = 150_000  # of all that a first paint loads


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    made = LocalWarehouse.open(tmp_path_factory.mktemp("served") / "w", ZONE, create=True)
    fill(made)
    return made


@pytest.fixture(scope="module")
def server(warehouse, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("said"), "--warehouse", str(warehouse.folder), "--every", "0.2") as made:
        yield made


def until(stream, kind: str):
    """The next event of a kind."""
    return next(event for event in stream if event.kind == kind)


def test_every_answer_forbids_what_the_page_does_not_need(server):
    for path in (*FILES, "/events", "/state", "/healthz", "/none"):
        reply = server.ask(path, "HEAD" if path == "/events" else "GET")
        if path != "/none":
            policy = dict(rule.strip().split(" ", 1) for rule in reply.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert reply.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in reply.headers


def test_a_first_paint_loads_little_and_a_second_one_less(server):
    loaded = [server.ask(path, Accept_Encoding="identity") for path in FILES if "LICENSE" not in path]
    assert sum(len(reply.body) for reply in loaded) < MOST_BYTES
    for path in FILES:
        reply = server.ask(path)
        again = server.ask(path, If_None_Match=reply.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert server.ask(path, Accept_Encoding="gzip").headers["content-encoding"] == "gzip"
    assert b"MIT" in server.ask("/uplot/LICENSE").body


def test_the_chart_library_is_that_of_the_package():
    folder = files("templates") / "live/uplot"
    stated = dict(re.findall(r"SHA-256 of (\S+): (\w{64})", (folder / "NOTICE").read_text()))
    names = ("uPlot.iife.min.js", "uPlot.min.css")
    assert {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}.items() <= stated.items()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server, method):
    assert {server.ask(path, method).status for path in (*FILES, "/events", "/state", "/healthz")} == {405}


FOREIGN = ("evil.example", "evil.example:8091", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]")


@pytest.mark.parametrize("host", FOREIGN)
def test_a_page_of_elsewhere_that_leads_here_reads_nothing(server, host):
    for path in ("/events", "/state"):
        reply = server.ask(path, Host=host)
        assert reply.status == 403 and reply.json()["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8091"])
def test_loopback_names_are_this_machine(host):
    assert is_loopback(host)


def test_a_stream_begins_with_the_page_and_all_keys(server):
    with server.stream() as stream:
        page, whole = until(stream, "page"), until(stream, "whole")
    assert page.id == whole.id and whole.value["state.is_past"] == 1
    assert {"now", "minutes", "books"} <= {each["name"] for each in page.value["questions"]}
    assert server.ask("/state").json()["keys"]["now.people"] == whole.value["now.people"] > 0


def test_all_viewers_get_what_a_commit_changes_and_one_that_was_away_what_it_missed(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(warehouse, (EVENTS, events(AT, 0, 9)))
    with serving(tmp_path, "--warehouse", str(warehouse.folder), "--every", "0.2") as server:
        with server.stream() as one, server.stream() as other:
            first, _ = until(one, "whole"), until(other, "whole")
            write(warehouse, (EVENTS, events(AT + timedelta(minutes=1), 0, 30, seed=3)))
            changed = [until(one, "change"), until(other, "change")]
            assert changed[0].value == changed[1].value and changed[0].id == changed[1].id
            assert changed[0].value["now.people"] > first.value["now.people"]
            assert "state.warehouse" not in changed[0].value
        with server.stream(Last_Event_ID=first.id) as stream:
            missed = until(stream, "change").value
        numbers = {key: value for key, value in changed[0].value.items() if not key.startswith("state.")}
        assert "now.people" in numbers and missed.items() >= numbers.items()
        with server.stream(Last_Event_ID="none-1") as stream:
            assert until(stream, "whole").value["state.warehouse"] == warehouse.folder.name


def test_with_links_only_a_valid_token_reads(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    for minutes in range(2):
        write(warehouse, (EVENTS, events(AT + timedelta(minutes=minutes), 0, 9, seed=minutes)))
    links = tmp_path / "links.json"
    token, _ = add_link(links, "board", timedelta(days=1))
    with serving(tmp_path, "--warehouse", str(warehouse.folder), "--links", str(links)) as server:
        assert {server.ask(path).status for path in FILES} == {200}
        for headers in ({}, {"Authorization": "Bearer al_wrong"}, {"Authorization": token}, {"Cookie": token}):
            for path in ("/state", "/events", f"/state?token={token}"):
                reply = server.ask(path, **headers)
                assert reply.status == 403 and reply.json()["code"] == "link_not_valid"
        reader = {"Authorization": f"Bearer {token}", "Host": "live.example"}
        assert server.ask("/state", **reader).json()["keys"]["now.people"] > 0
        with server.stream(**reader) as stream:
            until(stream, "whole")
            stored = json.loads(links.read_text())
            stored["links"][0]["until"] = "2026-01-01T00:00:00Z"
            links.write_text(json.dumps(stored))
            wait_until(lambda: server.ask("/state", **reader).status == 403, what="the link ends")
            write(warehouse, (EVENTS, events(AT + timedelta(minutes=3), 0, 9, seed=3)))
            assert until(stream, "end").value == {"reason": "link"}
        assert token not in server.said()


@pytest.mark.parametrize("without", ["none", "granian"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_and_process(warehouse, tmp_path, without, number):
    with (
        serving(tmp_path, "--warehouse", str(warehouse.folder), without=without) as server,
        server.stream() as stream,
    ):
        until(stream, "whole")
        assert server.end(number) == 0
        assert until(stream, "end").value == {"reason": "stopped"}
        assert server.said().splitlines()[-1] == "stopped"


def test_nothing_personal_is_in_an_answer_or_on_the_terminal(server):
    texts = [
        json.dumps(server.ask("/state").json()),
        server.said(),
        *(server.ask(path).body.decode() for path in FILES),
    ]
    assert [(canary, text[:99]) for text in texts for canary in CANARIES if canary in text] == []


def test_nothing_of_a_request_is_printed(server):
    for canary in CANARIES:
        server.ask(f"/{canary}?q={canary}", Authorization=f"Bearer {canary}", Host=canary)
    assert [canary for canary in CANARIES if canary in server.said()] == []
