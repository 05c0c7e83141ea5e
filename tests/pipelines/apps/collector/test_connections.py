"""Connections that send slowly, too much or nothing: they end, and meanwhile others are served."""

import http.client
import resource
import select
import socket
import time
from contextlib import ExitStack, closing

import pytest

from tests.servers.collector import collecting
from tests.servers.needed import LIMIT, wait_until
from tests.soak.faults import full_disk

SERVERS = {"granian": "", "uvicorn": "granian"}  # name -> what cannot be imported
LIMITS = {"pipelines.apps.collector.serve.IDLE_SECONDS": 2.0, "pipelines.apps.collector.bodies.BODY_SECONDS": 2.0}
HALF = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Half: a"
BODY = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
MANY = 10_000
NEEDED = 300  # open files of this process beside the connections


@pytest.fixture(scope="module", params=SERVERS)
def impatient(request, tmp_path_factory):
    """A collector that waits two seconds for headers, and for a body."""
    with collecting(tmp_path_factory.mktemp("slow"), without=SERVERS[request.param], limits=LIMITS) as made:
        yield made


def opened(port: int, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    one.sendall(sent)
    return one


def until_ended(connection: socket.socket, drip: bytes = b"") -> bytes:
    """What comes over a connection until the server ends it, while bytes drip into it."""
    got, end = b"", time.monotonic() + LIMIT
    with closing(connection):
        while time.monotonic() < end:
            try:
                if select.select([connection], [], [], 0.2)[0]:
                    if not (part := connection.recv(4_096)):
                        return got
                    got += part
                if drip:
                    connection.sendall(drip)
            except ConnectionError:
                return got
    raise AssertionError(f"it is still open, after {got!r}")


@pytest.mark.parametrize("drip", [b"", b"a"], ids=["silent", "dripping"])
@pytest.mark.parametrize("sent", [b"", HALF], ids=["nothing", "half-a-header"])
def test_a_connection_without_a_whole_header_ends(impatient, sent, drip):
    got = until_ended(opened(impatient.port, sent), drip if sent else b"")
    assert not got or got.split()[1].startswith(b"4")
    assert impatient.ask(body=b'{"event_id":"1"}').status == 202


def test_a_second_request_has_no_more_time_than_the_first(impatient):
    one = opened(impatient.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert one.recv(4_096).startswith(b"HTTP/1.1 200")
    until_ended(one, drip=b"G")


def test_a_body_that_drips_is_408(impatient):
    one = opened(impatient.port, BODY)
    assert until_ended(one, drip=b" ").startswith(b"HTTP/1.1 408")
    assert impatient.metrics()['audience_collector_requests_total{dialect="native",status="408"}'] >= 1


def test_a_body_that_is_cut_off_is_no_fault_of_the_server(impatient):
    one = opened(impatient.port, BODY)
    one.shutdown(socket.SHUT_WR)
    answer = one.recv(4_096)  # nothing of uvicorn, which closes the connection
    assert not answer or answer.startswith(b"HTTP/1.1 408")
    one.close()
    assert impatient.ask(body=b'{"event_id":"1"}').status == 202


def test_many_floods_of_headers_end_and_others_are_served(impatient):
    with ExitStack() as ends:
        floods = [ends.enter_context(opened(impatient.port, HALF)) for _ in range(100)]
        for one in floods:
            one.setblocking(False)
        open_ones, end = set(floods), time.monotonic() + LIMIT
        while open_ones:
            assert time.monotonic() < end, f"{len(open_ones)} floods go on"
            for one in list(open_ones):
                try:
                    one.send(b"b" * 8_000)
                except BlockingIOError:
                    if select.select([one], [], [], 0)[0] and not _reads(one):
                        open_ones.discard(one)
                except ConnectionError:
                    open_ones.discard(one)
            assert impatient.ask(body=b'{"event_id":"1"}').status == 202


def _reads(one: socket.socket) -> bytes:
    try:
        return one.recv(65_536)
    except BlockingIOError:
        return b"-"
    except ConnectionError:
        return b""


def is_healthy(made) -> bool:
    try:
        return made.ask("/healthz").status == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("server", SERVERS)
def test_ten_thousand_idle_connections_keep_nobody_out(tmp_path, server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(MANY, hard - NEEDED)
    assert most > 2_000, f"only {hard} files may be open: ulimit -Hn 20000"
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + NEEDED, hard))
    try:
        with collecting(tmp_path, without=SERVERS[server]) as made, ExitStack() as ends:
            for number in range(most):
                ends.enter_context(opened(made.port, HALF if number % 2 else b""))
            for number in range(20):
                assert made.ask(body=b'{"event_id":"%d"}' % number).status == 202
            assert made.metrics()["audience_collector_ready"] == 1
            ends.close()
            wait_until(lambda: is_healthy(made), 120, "it goes on when all have gone at once")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_requests_than_may_be_answered_at_once_are_503(tmp_path):
    limits = {"pipelines.apps.collector.serve.MOST_REQUESTS": 2}
    with collecting(tmp_path, limits=limits) as made, ExitStack() as ends:
        held = [ends.enter_context(opened(made.port, BODY)) for _ in range(2)]
        wait_until(lambda: made.ask("/healthz").status == 503, what="two requests are under way")
        busy = made.ask(body=b'{"event_id":"1"}')
        assert (busy.status, busy.json()["code"], busy.headers["retry-after"]) == (503, "busy", "1")
        held[0].close()
        wait_until(lambda: made.ask("/healthz").status == 200, what="one of them has gone")


def test_a_full_disk_that_holds_the_output_too_is_503_and_no_event_is_lost(tmp_path):
    with collecting(tmp_path) as made:
        assert made.ask(body=b'{"event_id":"before"}').status == 202
        with full_disk(made.process.pid, None):
            refused = made.ask(body=b'{"event_id":"during"}')
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert made.ask(body=b'{"event_id":"after"}').status == 202
        assert not [name for name in made.metrics() if "unforeseen" in name]
        assert made.end() == 0
