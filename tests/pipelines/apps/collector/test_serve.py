"""The end of a server: it waits for what is in flight, and for nothing else."""

import asyncio

import pytest

from pipelines.apps.collector import serve
from pipelines.apps.collector.serve import _Application, _finish, address_of
from tests.servers.needed import LIMIT
from transforms.errors import OptionError


async def nothing(scope, receive, send) -> None:
    await receive()


@pytest.fixture(autouse=True)
def no_linger(monkeypatch):
    monkeypatch.setattr(serve, "LINGER_SECONDS", 0.0)


def test_a_request_in_flight_is_waited_for_and_an_idle_server_is_not():
    async def check() -> None:
        app, answered = _Application(nothing, lambda: None), asyncio.Event()
        request = asyncio.create_task(app({"type": "http"}, answered.wait, None))
        serving = asyncio.create_task(asyncio.Event().wait())
        finishing = asyncio.create_task(_finish(serving, app))
        done, _ = await asyncio.wait({finishing}, timeout=0.1)
        assert not done and app.active == 1
        answered.set()
        await asyncio.wait_for(finishing, LIMIT)
        assert request.done() and app.active == 0 and not serving.done()
        serving.cancel()

    asyncio.run(check())


def test_a_request_that_never_ends_is_waited_for_no_longer_than_the_grace(monkeypatch):
    monkeypatch.setattr(serve, "GRACE_SECONDS", 0.0)

    async def check() -> None:
        app = _Application(nothing, lambda: None)
        app.active = 1
        serving = asyncio.create_task(asyncio.Event().wait())
        await asyncio.wait_for(_finish(serving, app), LIMIT)
        serving.cancel()

    asyncio.run(check())


def test_a_request_that_fails_is_no_longer_in_flight():
    async def fails(scope, receive, send) -> None:
        raise KeyError

    async def check() -> None:
        app = _Application(fails, lambda: None)
        with pytest.raises(KeyError):
            await app({"type": "http"}, None, None)
        assert app.active == 0

    asyncio.run(check())


def test_an_error_behind_a_request_is_said_by_its_type_and_a_broken_connection_is_not(capsys):
    async def check() -> None:
        with serve._stopping(lambda: None):
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "canary", "exception": KeyError("canary")})
            loop.call_exception_handler({"message": "canary", "exception": ConnectionResetError("canary")})
            loop.call_exception_handler({"message": "canary"})

    asyncio.run(check())
    assert capsys.readouterr().err == "unforeseen: KeyError behind a request; the server goes on\n"


def test_a_host_becomes_a_numeric_address_and_an_unknown_one_is_one_line():
    assert address_of("127.0.0.1", 0) == "127.0.0.1"
    with pytest.raises(
        OptionError, match=r"^--host no-such-host\.invalid --port 1: .*; choose an address of this machine$"
    ):
        address_of("no-such-host.invalid", 1)
