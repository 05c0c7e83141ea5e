"""Serve the collector on one address until SIGTERM or SIGINT: by Granian, or by uvicorn where Granian is not installed.

Both run in this process, write no access log, and finish what is in flight before `serve` returns.
"""

import asyncio
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from pipelines.system.terminal import say
from transforms.errors import OptionError

SERVERS = ("granian", "uvicorn")
HEADER_BYTES = 64 << 10  # of one request
IDLE_SECONDS = 65  # of a connection without a whole request: longer than a load balancer keeps one that it may use
GRACE_SECONDS = 10  # for what is in flight at the end
LINGER_SECONDS = 0.5  # for the last answers to leave, where connections without a request keep the server
BACKLOG = 1_024
MOST_REQUESTS = 1_000  # at the same time
MOST_CONNECTIONS = 1 << 20  # the limit of open files is lower: a connection without a request costs little
BUSY = b'{"code":"busy","message":"too many requests at once; send again later"}'
BUSY_HEADERS = (b"content-type", b"application/json"), (b"retry-after", b"1"), (b"content-length", b"%d" % len(BUSY))


def installed() -> str:
    """Return the server to use. Errors: OptionError without one."""
    if find_spec("starlette") is not None:
        for name in SERVERS:
            if find_spec(name) is not None:
                return name
    raise OptionError("packages of the collector are not installed; run: pip install 'audience-insights[collect]'")


def serve(
    app: Any,
    address: str,
    port: int,
    on_ready: Callable[[], None],
    server: str,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve an ASGI application on a numeric address until a signal; `server` is one of SERVERS.

    on_stop  called at the signal, in the event loop: answers without an end are to end
    """
    allow_connections()
    run = {"granian": _granian, "uvicorn": _uvicorn}[server]
    asyncio.run(run(_Application(app, on_ready), address, port, on_stop))


def leave() -> None:
    """End this process with status 0; what it wrote must be closed.

    Threads of Granian may still run: one that asks for the interpreter while Python shuts down aborts the process.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a full disk is no reason for another status
            stream.flush()
    os._exit(0)


def address_of(host: str, port: int, option: str = "port") -> str:
    """Return the numeric address of a host. Errors: OptionError for one on which nothing can listen."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
            probe.listen(1)
    except OSError as error:
        what = (
            f"another --{option}" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "an address of this machine"
        )
        raise OptionError(f"--host {host} --{option} {port}: {error.strerror}; choose {what}") from None
    return str(found[4][0])


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say that something failed behind a request, by its type alone: the text of an error may hold values of a record.

    A connection that broke is no failure.
    """
    error = context.get("exception")
    if error is not None and not isinstance(error, OSError):
        say(f"unforeseen: {type(error).__name__} behind a request; the server goes on")


class _Application:
    """An ASGI application that calls `on_ready` when its server starts it; `active` requests are being answered, up to
    MOST_REQUESTS. Servers would count connections, and many that wait would shut out those that send."""

    def __init__(self, app: Any, on_ready: Callable[[], None]):
        self._app, self._on_ready, self.active = app, on_ready, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self.active >= MOST_REQUESTS:
            await send({"type": "http.response.start", "status": 503, "headers": [*BUSY_HEADERS]})
            await send({"type": "http.response.body", "body": BUSY})
            return
        self.active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.active -= 1

    async def _live(self, receive: Any, send: Any) -> None:
        kind = ""
        while kind != "lifespan.shutdown":
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                self._on_ready()
            await send({"type": f"{kind}.complete"})


async def _granian(app: _Application, host: str, port: int, on_stop: Callable[[], None]) -> None:
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.server.embed import Server

    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=int(IDLE_SECONDS * 1000), max_buffer_size=HEADER_BYTES),
        websockets=False,
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,  # Granian counts connections, also those that wait
        log_enabled=False,
        log_access=False,
    )
    stopped = asyncio.Event()

    def stop() -> None:
        on_stop()
        server.stop()
        stopped.set()

    with _stopping(stop):
        serving, stopping = asyncio.create_task(server.serve()), asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.is_set():
            stopping.cancel()
            await serving
            raise RuntimeError("Granian has ended")
        await _finish(serving, app)


async def _finish(serving: "asyncio.Task[None]", app: _Application) -> None:
    """Wait for what is in flight; Granian itself would wait for connections that have no request, and may have none."""
    loop = asyncio.get_running_loop()
    end = loop.time() + GRACE_SECONDS
    while app.active and not serving.done() and loop.time() < end:
        await asyncio.sleep(0.02)
    await asyncio.wait({serving}, timeout=LINGER_SECONDS)


async def _uvicorn(app: _Application, host: str, port: int, on_stop: Callable[[], None]) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_timed(),
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # `_stopping` handles them; uvicorn raises them again when it has ended

    server = Server(config)

    def stop() -> None:
        on_stop()
        server.should_exit = True

    with _stopping(stop):
        await server.serve()


def _timed() -> Any:
    """uvicorn's protocol, with a limit of the time until the headers of a request are complete."""
    from uvicorn.protocols.http import auto

    protocol: Any = auto.AutoHTTPProtocol  # of httptools where it is installed, else of h11

    class Timed(protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._late is None:  # bytes that come slowly do not put it off
                self._late = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

        def _unwatch(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _end(self) -> None:
            self._late = None
            self.transport.close()

    return Timed


def allow_connections() -> None:
    """Raise this process's limit of open files, and so of connections, as far as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT, and report errors by their type."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
