"""The sockets that a command and its processes listen on, as psutil sees them; the product's own look is another."""

import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError)
EVERY_SECONDS = 0.2
PROGRAMS = {
    "pipelines.cli": "audience",
    "pipelines.runners.worker": "worker process",
    "prism-local": "Prism",
    "java": "java",
}


class Listening(NamedTuple):
    """A listening socket: of which program, `unix` or `tcp`, its path or address."""

    program: str
    kind: str
    address: str

    @property
    def is_private(self) -> bool:
        """Whether nobody reaches it from another machine, nor as another user where it is a Unix socket."""
        if self.kind == "tcp":
            address = ipaddress.ip_address(self.address.rpartition(":")[0])
            return (getattr(address, "ipv4_mapped", None) or address).is_loopback
        return closed(Path(self.address).parent)


def closed(folder: Path) -> bool:
    """Whether the folder is ours and nobody else may enter it; one that has gone is."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return True
    return found.st_mode & 0o777 == 0o700 and found.st_uid == os.getuid()


def listening(pid: int) -> set[Listening]:
    """What a process and its descendants listen on."""
    found = set[Listening]()
    with suppress(*GONE):
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            with suppress(*GONE):
                found |= _of_process(process)
    return found


def _of_process(process: psutil.Process) -> set[Listening]:
    program = _program(process.cmdline())
    tcp = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    unix = {each.laddr for each in process.net_connections("unix") if each.laddr}
    found = {Listening(program, "tcp", f"{each.laddr.ip}:{each.laddr.port}") for each in tcp}
    return found | {Listening(program, "unix", path) for path in unix & _accepting()}


def _accepting() -> set[str]:
    """The paths of Unix sockets that accept connections."""
    if not Path("/proc/net/unix").exists():
        return set()
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[7] for row in rows if len(row) > 7 and int(row[3], 16) & 0x10000}  # SO_ACCEPTCON


def _program(words: list[str]) -> str:
    line = " ".join(words)
    return next((name for word, name in PROGRAMS.items() if word in line), Path(words[0]).name if words else "?")


def assert_private(pid: int) -> set[Listening]:
    """What a process and its descendants listen on: nothing that others than this user of this machine may reach."""
    found = listening(pid)
    assert not (opened := [each for each in found if not each.is_private]), opened
    return found


@contextmanager
def watched(pid: int | None = None, every: float = EVERY_SECONDS) -> Iterator[set[Listening]]:
    """What a process and its descendants (this one's, without a pid) listen on at any moment of the context."""
    found, opened, ended = set[Listening](), list[Listening](), threading.Event()

    def look() -> None:
        while not ended.wait(every):
            new = listening(pid or os.getpid()) - found
            opened.extend(each for each in new if not each.is_private)
            found.update(new)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
    assert not opened, opened


def stranger_reaches(path: Path) -> bool:
    """Whether another user of this machine can connect to a Unix socket; needs root.

    The new process changes its user itself: `subprocess.run(user=...)` forks this process with all that gRPC does at
    a fork, which crashes the child at times; without it Python starts a process by `vfork`.
    """
    drop = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    probe = f"import os, socket, sys\n{drop}\nwith socket.socket(socket.AF_UNIX) as one: one.connect(sys.argv[1])"
    ran = subprocess.run([sys.executable, "-c", probe, str(path)], cwd="/", capture_output=True, text=True)
    assert not ran.returncode or "PermissionError" in ran.stderr, f"ended with {ran.returncode}: {ran.stderr}"
    return not ran.returncode
