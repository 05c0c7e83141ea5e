"""The outbox: messages on disk, each written before it is sent and marked after.

    waiting/  what is to be sent, a file for each message and channel
    sent/     what was sent: the file moved, for KEPT days
    refused/  what the receiver refuses, or took for none of three days

One process at a time holds its lock. After a kill between a send and its mark the message is sent again, with the same
id; before the send it is sent by the next delivery.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipelines.system.disk import WRITE_ERRORS, cannot_write, lock_folder, sync_folder, write_atomically
from pipelines.system.private import OWNER, umask
from transforms.errors import WarehouseError, first_line

WAITING, SENT, REFUSED = "waiting", "sent", "refused"
KEPT = 30 * 86_400.0  # seconds that sent and refused messages stay, so that none is sent again
GIVE_UP = 3 * 86_400.0  # seconds after which a message that nobody took is refused
PATIENCE, LOOK_SECONDS = 120.0, 0.2


class Message(msgspec.Struct, frozen=True):
    """A message: `id` is the key of the alert and its state, `time` when it was written, seconds since 1970."""

    id: str
    channel: str
    order: str
    time: float
    title: str
    text: str
    body: str

    @property
    def file(self) -> str:
        """The name of its file; in the order of their names messages are sent."""
        return f"{self.order}_{self.id}_{self.channel}.json"


class Refused(Exception):
    """The receiver refuses a message, and would again."""


class BodyRefused(Refused):
    """The receiver refuses what the message holds: it may take another one."""


class NotNow(Exception):
    """The receiver took no message; a retry may succeed."""


class Delivered(NamedTuple):
    """What a delivery did: messages sent, and lines about those that were not."""

    sent: list[str]
    problems: list[str]


class Outbox:
    """The outbox in a folder, which is made if it does not exist."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts, no other process adds or sends. Errors: WarehouseError if another does for PATIENCE."""
        with umask(OWNER):
            try:
                for name in (WAITING, SENT, REFUSED):
                    (self.folder / name).mkdir(parents=True, exist_ok=True)
            except WRITE_ERRORS as error:
                raise cannot_write(self.folder, error) from error
            lock = _locked(self.folder)
            try:
                yield
            finally:
                lock.close()

    def add(self, messages: list[Message]) -> None:
        """Write what is not there yet, durably; while it is held."""
        known = {_without_time(path.name) for name in (WAITING, SENT, REFUSED) for path in self._files(name)}
        for message in messages:
            if _without_time(message.file) not in known:
                write_atomically(self.folder / WAITING / message.file, msgspec.json.encode(message))

    def deliver(self, send: Mapping[str, Callable[[Message], None]]) -> Delivered:
        """Send what waits, in order; while it is held. A channel that takes nothing now waits for the next delivery.

        send  by channel; raises Refused, or NotNow after its retries. A channel that is gone keeps its messages.
        """
        sent: list[str] = []
        problems: list[str] = []
        late: set[str] = set()
        for path in self._files(WAITING):
            message = msgspec.json.decode(path.read_bytes(), type=Message)
            if message.channel not in send or message.channel in late:
                continue
            try:
                send[message.channel](message)
            except Refused as problem:
                problems.append(f"channel {message.channel} refuses {message.id}: {first_line(problem)}")
                self._move(path, REFUSED)
            except NotNow as problem:
                late.add(message.channel)
                old = time.time() - message.time > GIVE_UP
                what = "takes nothing for three days" if old else "takes nothing now, the next delivery sends it"
                problems.append(f"channel {message.channel} {what}: {message.id}: {first_line(problem)}")
                if old:
                    self._move(path, REFUSED)
            else:
                self._move(path, SENT)
                sent.append(message.id)
        self._forget()
        return Delivered(sent, problems)

    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._files(WAITING))

    def _files(self, name: str) -> list[Path]:
        return sorted((self.folder / name).glob("*.json"))

    def _move(self, path: Path, name: str) -> None:
        os.replace(path, self.folder / name / path.name)
        sync_folder(self.folder / name)
        sync_folder(path.parent)
        os.utime(self.folder / name / path.name)

    def _forget(self) -> None:
        old = time.time() - KEPT
        for path in (path for name in (SENT, REFUSED) for path in self._files(name)):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < old:
                    path.unlink()


def _without_time(name: str) -> str:
    return re.sub(r"^[^_]*_", "", name)


def _locked(folder: Path):
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return lock_folder(folder, "name another --outbox")
        except WarehouseError:
            if time.monotonic() > until:
                raise
        time.sleep(LOOK_SECONDS)
