"""Private sockets: Beam's local servers listen on Unix sockets that only the user can reach, and on no TCP port.

private_sockets()  a folder of mode 0700 for sockets. Within the context, each server that Beam starts in this process
                   listens there: in a batch run those for control, data, state and logs; in a stream the one through
                   which Prism starts the worker. The folder and the sockets are removed at the end.
reach_privately()  in a worker process: lets Beam's channels find those servers for the life of the process

Beam has no option for this: it binds `[::]:0`, every interface, without authentication. The two gRPC functions that it
calls are therefore replaced before it starts anything, and only for local runs: a job submitted to Dataflow is outside
the context. Servers that request a loopback address or a Unix socket keep it.

Errors: RunnerError if no folder can be created.
State: a folder under TMPDIR or /tmp, locked (flock) by the process that created it; the next run removes the folders of
killed processes.
"""

import fcntl
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transforms.errors import RunnerError

PREFIX = "audience-sockets-"
LONGEST = 103  # bytes of a socket's path: macOS takes 103, Linux 107
PLAIN = re.compile(r"[\w/.+-]+", re.ASCII)  # gRPC reads a socket's address as a URI
NAME = "/prism"  # the longest name of a socket
MADE_SECONDS = 60.0  # an older folder without a lock belongs to a killed process
LOCAL = ("localhost:", "127.0.0.1:", "[::1]:", "unix:")  # addresses that a server keeps


@contextmanager
def private_sockets() -> Iterator[Path]:
    """Yield the folder in which Beam's servers listen until the end of the context. Errors: RunnerError."""
    with private_folder() as folder, _servers_in(folder):
        yield folder


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder of mode 0700 with a path short enough for sockets; removed at the end. Errors: RunnerError."""
    folder = _make_folder()
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        _remove_abandoned(folder.parent)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder() -> Path:
    why = ""
    for root in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        try:
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=root)  # mkdtemp uses 0700 whatever the umask
        except OSError as problem:
            why = why or f"{root}: {problem.strerror}"
            continue
        if len(folder + NAME) <= LONGEST and PLAIN.fullmatch(folder):
            return Path(folder)
        os.rmdir(folder)
        why = why or f"{root}: got a path that sockets cannot use; allowed: {LONGEST} plain characters"
    raise RunnerError(f"no folder for the sockets of this run ({why}); set TMPDIR to a writable folder")


def _remove_abandoned(root: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in root.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it belongs to another user, or was just removed
            if time.time() - folder.stat().st_mtime < MADE_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


@contextmanager
def _servers_in(folder: Path) -> Iterator[None]:
    """Let servers that gRPC creates within the context listen in `folder`."""
    import grpc
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer as Pool

    numbers, make, start = itertools.count(1), grpc.server, Pool.start

    def make_private(*given, **options) -> grpc.Server:
        server = make(*given, **options)
        bind = server.add_insecure_port

        def bind_privately(address: str) -> int | str:
            if address.startswith(LOCAL):
                return bind(address)
            private = f"unix:{folder}/{next(numbers)}"
            bind(private)
            return private

        server.add_insecure_port = bind_privately
        return server

    def start_private(*given, **options) -> tuple[str, grpc.Server]:
        address, server = start(*given, **options)
        return target_of(address), server

    with _replace(grpc, "server", make_private), _replace(Pool, "start", staticmethod(start_private)):
        yield


@contextmanager
def loopback_servers() -> Iterator[None]:
    """Let servers that gRPC creates within the context listen on this machine alone: for a runner in Java, which opens
    no Unix socket. Any user of this machine may reach them."""
    import grpc

    make = grpc.server

    def make_local(*given, **options) -> grpc.Server:
        server = make(*given, **options)
        bind = server.add_insecure_port
        server.add_insecure_port = lambda address: bind(re.sub(r"^\[::\]:", "127.0.0.1:", address))
        return server

    with _replace(grpc, "server", make_local):
        yield


def reach_privately() -> None:
    """Let the channels that Beam opens in this process connect to the servers of `private_sockets`."""
    from apache_beam.runners.worker.channel_factory import GRPCChannelFactory

    opened: Callable[..., Any] = GRPCChannelFactory.insecure_channel

    def open_privately(target: str, options=None):
        return opened(target_of(target), options)

    GRPCChannelFactory.insecure_channel = staticmethod(open_privately)


def target_of(address: str) -> str:
    """Return the target of a server's address, which Beam prefixes with `localhost:` as if it were a port."""
    private = address.removeprefix("localhost:")
    return private if private.startswith("unix:") else address


@contextmanager
def _replace(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
