"""List the TCP sockets on which local processes accept connections, from /proc on Linux.

listeners(pids)  sockets of these processes; None if unknown: no /proc, or processes of another user
tree(pid)        a process and its descendants

Uses only the standard library, since `audience doctor` runs where packages may be missing. No connection is opened.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
LISTEN = "0A"  # TCP_LISTEN of the kernel


class Listener(NamedTuple):
    """A socket that a process listens on. `is_local`: only this machine can reach it."""

    pid: int
    address: str
    is_local: bool


def tree(pid: int) -> list[int]:
    """Return the process and its descendants."""
    parents = dict[int, int]()
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):  # the process has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def listeners(pids: Iterable[int]) -> list[Listener] | None:
    """Return the sockets that the processes listen on; ended processes have none."""
    if not PROC.is_dir():
        return None
    try:
        return [listener for pid in pids for listener in _of_process(pid)]
    except PermissionError:
        return None


def _of_process(pid: int) -> list[Listener]:
    try:
        sockets = _descriptors(pid)
        tables = [PROC / f"{pid}/net/{name}" for name in ("tcp", "tcp6")]
        rows = [line.split() for path in tables if path.exists() for line in path.read_text().splitlines()[1:]]
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = {row[1] for row in rows if row[3] == LISTEN and f"socket:[{row[9]}]" in sockets}
    return [_listener(pid, address) for address in sorted(found)]


def _descriptors(pid: int) -> set[str]:
    """Return the targets of a process's file descriptors."""
    found = set()
    for path in (PROC / f"{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # just closed
            found.add(os.readlink(path))
    return found


def _listener(pid: int, shown: str) -> Listener:
    """Parse an address in the kernel's format: words of four bytes in the machine's byte order, a colon, the port."""
    host, _, port = shown.partition(":")
    words = [int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8)]
    address = ip_address(b"".join(words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    text = f"[{address}]" if isinstance(address, IPv6Address) else f"{address}"
    return Listener(pid, f"{text}:{int(port, 16)}", address.is_loopback)
