"""Load: how much comes through a subscription in this process, so which of its readers pull, and how often.

A block, a pull and a bundle each have a price whatever they hold. At a low load the first reader alone pulls, with a
pause between two pulls, and a block gathers for longer; the other readers rest. The load is high for BUSY_SECONDS after
a reader handed on a block of MANY_ROWS, had a block for which the steps were not ready, or pulled messages that had
waited for FRESH_SECONDS twice in a row, which is more than a pause explains: then every reader pulls, one pull after
the other.

    load_of(name)   the load of a subscription, for the readers of this process
"""

import threading
import weakref
from typing import Protocol

MANY_ROWS = 1_000  # of a block
BUSY_SECONDS = 5.0
ASKED_SECONDS = 5.0  # a reader that was not asked for so long may have been left behind by its runner
FRESH_SECONDS = 0.5
PAUSE_SECONDS = 0.25  # between two pulls
PATIENCE = 2  # times as long a block of fewer rows gathers


class Reader(Protocol):
    """What shares a load: a lower `split` pulls first. `asked` is when the runner last asked it for a block."""

    split: int
    asked: float


class Load:
    """Of one subscription. Any thread may call any method; times by the monotonic clock of the readers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._busy_until = float("-inf")

    def enter(self, reader: Reader) -> None:
        """A reader begins."""
        with self._lock:
            self._readers.add(reader)

    def leave(self, reader: Reader) -> None:
        """A reader ends: another one pulls in its place."""
        with self._lock:
            self._readers.discard(reader)

    def note_busy(self, now: float) -> None:
        """The load is high from now on for a while."""
        self._busy_until = now + BUSY_SECONDS

    def is_busy(self, now: float) -> bool:
        """Whether the load is high."""
        return now < self._busy_until

    def leader(self, now: float) -> Reader | None:
        """The reader that pulls at any load: the first of those that the runner asks for blocks."""
        with self._lock:
            asked = [reader for reader in self._readers if now - reader.asked <= ASKED_SECONDS]
            return min(asked or self._readers, key=lambda reader: reader.split, default=None)


_loads: "weakref.WeakValueDictionary[str, Load]" = weakref.WeakValueDictionary()
_loads_lock = threading.Lock()


def load_of(subscription: str) -> Load:
    """The load of a subscription, one for all its readers in this process."""
    with _loads_lock:
        load = _loads.get(subscription)
        if load is None:
            load = _loads[subscription] = Load()
        return load
