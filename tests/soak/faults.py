"""Faults of the machine under a collector: a disk that is full, a topic that cannot be reached."""

import resource
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def full_disk(pid: int, disk: Path | None) -> Iterator[None]:
    """While it lasts, a process can write no byte to a file: its limit of the size of files is 0; or, where it writes
    to a small `disk` of its own, that is filled to the last byte by another file."""
    if disk is not None:
        filler = disk / "filler"
        with suppress(OSError), open(filler, "wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        try:
            yield
        finally:
            filler.unlink()
        return
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class Gate:
    """A port of loopback that leads to another one while it is open; while it is shut, connections end and new ones are
    refused."""

    def __init__(self, port: int):
        self._to, self.port = port, 0
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._server: socket.socket | None = None

    def open(self) -> None:
        """Take connections, on the same port each time."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def shut(self) -> None:
        """End all connections, and take no new one."""
        assert self._server is not None
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            for one in self._live:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as other:
            pair = {client: other, other: client}
            with self._lock:
                self._live |= pair.keys()
            try:
                with selectors.DefaultSelector() as ready:
                    for one in pair:
                        ready.register(one, selectors.EVENT_READ)
                    while True:
                        for key, _ in ready.select():
                            if not (data := key.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                                return
                            pair[key.fileobj].sendall(data)  # type: ignore[index]
            finally:
                with self._lock:
                    self._live -= pair.keys()


@contextmanager
def gate(port: int) -> Iterator[Gate]:
    """A gate that is open, to a port of loopback."""
    made = Gate(port)
    made.open()
    try:
        yield made
    finally:
        with suppress(OSError):
            made.shut()
