"""`audience collect` as a process, asked over HTTP: what is answered is durable, whatever ends the process."""

import http.client
import itertools
import json
import os
import random
import socket
import threading
from contextlib import ExitStack, closing, suppress
from itertools import product
from pathlib import Path

import pytest

from pipelines.apps.collector.keys import add_key
from pipelines.cli import main
from tests.servers.collector import ask, collecting, entries_of, free_port
from tests.servers.needed import LIMIT, wait_until
from tests.servers.sockets import listening

SERVERS = {"granian": "", "uvicorn": "granian"}  # name -> what cannot be imported
CANARIES = ("canary@example.org", "203.0.113.77", "canary-agent", "canary-path")


@pytest.fixture(scope="module", params=SERVERS)
def plain(request, tmp_path_factory):
    with collecting(tmp_path_factory.mktemp(request.param), without=SERVERS[request.param]) as made:
        yield made


def test_an_event_is_answered_and_is_in_the_log(plain):
    reply = plain.ask(body=b'{"event_id":"first","event_type":"page_view"}')
    assert (reply.status, reply.json()["accepted"]) == (202, 1)
    assert b'{"event_id":"first","event_type":"page_view"}' in [entry.payload for entry in entries_of(plain.log)]
    assert entries_of(plain.log)[0].attributes["ip"] == "127.0.0.0"
    assert plain.log.stat().st_mode & 0o777 == 0o700


def test_a_connection_is_kept_and_takes_one_request_after_the_other(plain):
    before = len(entries_of(plain.log))
    with plain.connect() as connection:
        for number in range(20):
            assert ask(connection, "/v1/events", b'{"event_id":"kept-%d"}' % number).status == 202
        local = connection.sock.getsockname()
        assert ask(connection, "/healthz", None).status == 200 and connection.sock.getsockname() == local
    assert len(entries_of(plain.log)) == before + 20


def test_a_body_of_chunks_is_read(plain):
    with plain.connect() as connection:
        connection.request("POST", "/v1/events", iter([b'[{"event_id":', b'"chunk"}', b"]"]), encode_chunked=True)
        assert connection.getresponse().status == 202


def test_a_body_that_states_too_much_is_413_and_one_that_is_not_of_the_form_is_400(plain):
    assert plain.ask(body=b" " * 9_000_001).status == 413
    assert plain.ask(body=b"canary").status == 400
    assert b"canary" in [entry.payload for entry in entries_of(plain.log)]


def test_headers_have_a_bound(plain):
    with socket.create_connection(("127.0.0.1", plain.port), timeout=LIMIT) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 4 << 20:
                sent += one.send(b"x-%d: %s\r\n" % (sent, b"y" * 8_000))
            answer = one.recv(4_000)
        except (ConnectionError, TimeoutError):
            answer = b""
        assert answer == b"" or answer.split()[1].startswith(b"4")
    assert plain.ask("/healthz").status == 200


NO_HTTP = {
    "bytes": b"\x00\xff\r\n\r\n",
    "a length": b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: zz\r\n\r\n",
    "a version": b"GET / HTTP/9\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_ends_one_connection_and_not_the_server(plain, sent):
    with socket.create_connection(("127.0.0.1", plain.port), timeout=LIMIT) as one:
        one.sendall(sent)
        one.shutdown(socket.SHUT_WR)
        assert b"500" not in one.recv(100)
    assert plain.ask("/healthz").status == 200


def test_a_client_that_goes_in_the_middle_of_a_body_leaves_nothing(plain):
    before = len(entries_of(plain.log))
    with socket.create_connection(("127.0.0.1", plain.port)) as one:
        one.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n[{}")
    gone = 'audience_collector_errors_total{kind="client_gone"}'
    wait_until(lambda: plain.metrics().get(gone, 0) == 1, what="it has gone")
    assert len(entries_of(plain.log)) == before


def test_it_listens_on_loopback_alone(plain):
    found = [each for each in listening(plain.process.pid) if each.kind == "tcp"]
    assert [each.address for each in found] == [f"127.0.0.1:{plain.port}"]


def test_pages_for_operators(plain):
    assert plain.ask("/healthz").body == b"ok\n" and plain.ask("/readyz").body == b"ready\n"
    metrics = plain.metrics()
    assert metrics["audience_collector_log_unread_bytes"] >= sum(len(each.payload) for each in entries_of(plain.log))
    assert metrics['audience_collector_requests_total{dialect="native",status="202"}'] >= 1


PATHS = (
    *("/v1/events?key={}", "/canary-path", "/v1/batch", "/batch/", "/mp/collect?api_secret={}", "/api/event"),
    *("/com.snowplowanalytics.snowplow/tp2", "/v1/cloudevents", "/webhooks/canary-path"),
)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_of_a_client_is_on_the_terminal_in_a_metric_or_in_an_error(tmp_path, server):
    keys = tmp_path / "keys.json"
    key, other = add_key(keys, "web", "shop"), add_key(keys, "app", "shop")
    person = CANARIES[0].encode()
    bodies = (b'{"email":"%s","x":"%s"}' % (person, other.encode()), person, b'["%s\xff' % person)
    with collecting(tmp_path, "--keys", str(keys), "--proxies", "127.0.0.1", without=SERVERS[server]) as made:
        shown = ""
        for path, sent, body in product(PATHS, (key, "wrong" + key), bodies):
            named = {"user_agent": CANARIES[2], "x_forwarded_for": CANARIES[1], "authorization": f"Bearer {sent}"}
            reply = made.ask(path.format(sent), body, **named)
            assert reply.status < 500
            shown += f"{reply}" if reply.status >= 400 else ""
        shown += made.ask("/metrics").body.decode()
        assert made.end() == 0
        shown += made.said()
    assert [canary for canary in (*CANARIES, key, other) if canary in shown] == []
    entries = entries_of(made.log)
    assert {entry.attributes["ip"] for entry in entries} == {"203.0.113.0"}
    stored = "".join(f"{entry.attributes}{entry.source}" for entry in entries)
    assert [canary for canary in (CANARIES[0], CANARIES[1], key, other) if canary in stored] == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_stop_answers_what_is_in_flight(tmp_path, server):
    body = b'{"event_id":"late"}'
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        collecting(tmp_path, without=SERVERS[server]) as made,
        socket.create_connection(("127.0.0.1", made.port), timeout=LIMIT) as one,
    ):
        one.sendall(head + body[:5])
        wait_until(lambda: made.metrics()["audience_collector_held_bytes"] == 5, what="the body begins")
        made.process.terminate()
        wait_until(lambda: not _accepts(made.port), what="no new connection is taken")
        one.sendall(body[5:])
        assert b" 202 " in one.recv(4_000).partition(b"\r\n")[0]
        one.close()
        assert made.process.wait(LIMIT) == 0
        assert made.said().rstrip().endswith("stopped: what was answered is in the log")
    assert [entry.payload for entry in entries_of(made.log)] == [body]


@pytest.mark.parametrize("server", SERVERS)
def test_no_client_holds_up_a_stop(tmp_path, server):
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n"
    with collecting(tmp_path, without=SERVERS[server]) as made, made.connect() as kept, ExitStack() as opened:
        assert ask(kept, "/v1/events", b"{}").status == 202
        for sent in (b"", head, head + b"\r\n{"):
            one = opened.enter_context(socket.create_connection(("127.0.0.1", made.port), timeout=LIMIT))
            one.sendall(sent)
        wait_until(lambda: made.metrics()["audience_collector_held_bytes"] == 1, what="the body begins")
        assert made.end() == 0
    assert len(entries_of(made.log)) == 1


def test_a_client_that_waits_for_100_continue_is_answered(plain):
    with socket.create_connection(("127.0.0.1", plain.port), timeout=LIMIT) as one:
        one.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 100 ")
        one.sendall(b"{}")
        assert one.recv(500).startswith(b"HTTP/1.1 202 ")


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Sender(threading.Thread):
    """Sends batches without end, and keeps the ids of those that were answered."""

    def __init__(self, port: int, name: str, answered: list[str]):
        super().__init__(daemon=True)
        self._port, self._prefix, self._answered = port, name, answered

    def run(self) -> None:
        with (
            suppress(OSError, http.client.HTTPException),  # it was killed
            closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT)) as connection,
        ):
            for number in itertools.count(step=7):
                ids = [f"{self._prefix}-{number + at}" for at in range(7)]
                body = json.dumps([{"event_id": id} for id in ids]).encode()
                if ask(connection, "/v1/events", body).status == 202:
                    self._answered += ids


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_answered_survives_a_kill_at_any_moment(tmp_path, server):
    answered: list[str] = []
    chance = random.Random(7)
    for life in range(3):
        with collecting(tmp_path, without=SERVERS[server]) as made:
            senders = [Sender(made.port, f"{life}-{number}", answered) for number in range(3)]
            goal = len(answered) + chance.randrange(1, 1_500)
            for sender in senders:
                sender.start()
            wait_until(lambda goal=goal: len(answered) >= goal, what="answers")
            made.process.kill()
            for sender in senders:
                sender.join(LIMIT)
                assert not sender.is_alive()
    kept = [json.loads(entry.payload)["event_id"] for entry in entries_of(tmp_path / "log")]
    assert set(answered) - set(kept) == set() and len(answered) > 4
    assert len(kept) == len(set(kept)), "an entry is twice in the log"


def test_a_key_that_is_added_while_it_runs_is_taken_and_one_that_is_removed_is_not(tmp_path, capsys):
    keys = tmp_path / "keys.json"
    assert main(["collect", "--keys", str(keys), "--add_key", "web", "--source", "shop"]) == 0
    first = capsys.readouterr().out.strip()
    with collecting(tmp_path, "--keys", str(keys)) as made:
        assert made.ask(body=b"{}", authorization=f"Bearer {first}").status == 202
        assert made.ask(body=b"{}").status == 401
        assert main(["collect", "--keys", str(keys), "--add_key", "app", "--source", "shop", "--rate", "5"]) == 0
        second = capsys.readouterr().out.strip()
        wait_until(lambda: made.ask(body=b"{}", authorization=f"Bearer {second}").status == 202, what="the new key")
        assert main(["collect", "--keys", str(keys), "--remove_key", "web"]) == 0
        wait_until(lambda: made.ask(body=b"{}", authorization=f"Bearer {first}").status == 401, what="it is removed")


def test_a_second_collector_of_a_log_or_a_port_is_refused_in_one_line(tmp_path, capsys):
    with collecting(tmp_path) as made:
        assert main(["collect", "--log", str(tmp_path / "other"), "--port", str(made.port)]) == 2
        assert f"--port {made.port}: Address already in use; choose another --port" in one_line(capsys)
        assert not (tmp_path / "other").exists()
        assert main(["collect", "--log", str(made.log), "--port", str(free_port())]) == 2
        assert str(made.process.pid) in one_line(capsys)
        assert made.ask(body=b"{}").status == 202


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("host", "url"), [("localhost", "localhost"), ("::1", "[::1]")])
def test_a_name_and_an_address_of_ipv6_are_listened_on(tmp_path, server, host, url):
    with collecting(tmp_path, "--host", host, without=SERVERS[server], host=url.strip("[]")) as made:
        assert made.ask(body=b"{}").status == 202 and f"collecting on http://{url}:{made.port} into" in made.said()


def one_line(capsys) -> str:
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    return told


WRONG = {
    "no log": ([], "give the folder of the log with --log DIR"),
    "an open host": (["--log", "x", "--host", "0.0.0.0"], "--host: got '0.0.0.0'; without --keys allowed: a loopback"),
    "an unknown host": (["--log", "x", "--keys", "{keys}", "--host", "192.0.2.1"], "choose an address of this machine"),
    "a port": (["--log", "x", "--port", "70000"], "--port: got '70000'; allowed: a whole number from 1 to 65,535"),
    "a port that is no whole number": (["--log", "x", "--port", "80.5"], "--port: got '80.5'"),
    "a size": (["--log", "x", "--log_gigabytes", "0"], "--log_gigabytes: got '0'"),
    "an origin": (["--log", "x", "--allow_origins", "shop.example"], "--allow_origins: got 'shop.example'; allowed"),
    "an origin with a path": (["--log", "x", "--allow_origins", "https://a/b"], "--allow_origins: got 'https://a/b'"),
    "a proxy": (["--log", "x", "--proxies", "10.0.0.1/8"], "--proxies: 10.0.0.1/8 has host bits set; allowed"),
    "no file of keys": (["--log", "x", "--keys", "{here}/none"], "No such file or directory; make one with --add_key"),
    "a key without a file": (["--add_key", "web", "--source", "s"], "--add_key needs --keys FILE"),
    "a key without a source": (["--add_key", "web", "--keys", "{keys}"], "--add_key needs --source NAME"),
    "a key and a log": (
        ["--add_key", "w", "--source", "s", "--keys", "{keys}", "--log", "x"],
        "--log: only to collect",
    ),
    "a rate of a webhook": (["--add_webhook", "w", "--source", "s", "--keys", "{keys}", "--rate", "5"], "--rate: only"),
    "a source to collect": (["--log", "x", "--source", "s"], "--source: only with --add_key or --add_webhook"),
    "a rate": (["--add_key", "w", "--source", "s", "--keys", "{keys}", "--rate", "0"], "--rate: got '0'"),
    "a name to remove": (["--remove_key", "w", "--keys", "{keys}"], "--remove_key: got 'w'; allowed: web"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_command_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    keys = tmp_path / "keys.json"
    add_key(keys, "web", "shop")
    before = keys.read_bytes()
    words, said = WRONG[wrong]
    assert main(["collect", *(word.format(keys=keys, here=tmp_path) for word in words)]) == 2
    assert said in one_line(capsys)
    assert os.listdir(tmp_path) == ["keys.json"] and keys.read_bytes() == before


def test_the_secret_of_a_webhook_comes_from_standard_input(tmp_path, monkeypatch, capsys):
    read, write = os.pipe()
    os.write(write, b"whsec_0123456789 whsec_9876543210\n")
    os.close(write)
    keys = tmp_path / "keys.json"
    with open(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["collect", "--keys", str(keys), "--add_webhook", "stripe", "--source", "payments"]) == 0
    told = capsys.readouterr()
    assert "/webhooks/stripe" in told.err and "whsec" not in told.out + told.err
    assert json.loads(keys.read_text())["webhooks"]["stripe"]["secret"] == "whsec_0123456789 whsec_9876543210"


def test_packages_that_are_missing_are_named(tmp_path, capfd):
    with pytest.raises(AssertionError), collecting(tmp_path, without="starlette"):
        pass
    assert "run: pip install 'audience-insights[collect]'" in (tmp_path / "said.txt").read_text()
    assert not Path(tmp_path / "log").exists()
