"""Seen: the event ids that a window and shard of a stream has seen, cached in memory in addition to state.

SEEN        an entry: hash of (source, event_id) and fingerprint of the event's content, 16 bytes; as in state
Seen        entries in a few sorted arrays for lookup: adding a block costs as much as the block, and each entry is
            merged once per doubling
CLAIM       an entry, and the hash of the stored delivery (deduplicate.py)
Claims      for ids that are read again, the delivery to keep
SeenCache   the entries of all windows and shards that a process works on, bounded in bytes
"""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

SEEN = np.dtype([("key", "<u8"), ("print", "<u8")])
CLAIM = np.dtype([("key", "<u8"), ("print", "<u8"), ("delivery", "<u8")])
CACHE_BYTES = 1 << 30


class _Level(NamedTuple):
    """Entries sorted by key, as separate columns: a search in a field of a structured array would copy it first."""

    keys: np.ndarray
    prints: np.ndarray


class Seen(NamedTuple):
    """Entries in levels, each at least twice as long as the next. Immutable: `with_` returns a new value."""

    levels: tuple[_Level, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(level.keys.nbytes + level.prints.nbytes for level in self.levels)

    def __bool__(self) -> bool:
        return bool(self.levels)

    def with_(self, entries: np.ndarray) -> "Seen":
        """Return these with `entries` (SEEN, in any order, of keys that are not among these)."""
        if not len(entries):
            return self
        levels = [*self.levels, _sorted(np.ascontiguousarray(entries["key"]), np.ascontiguousarray(entries["print"]))]
        while len(levels) > 1 and len(levels[-2].keys) < 2 * len(levels[-1].keys):
            short, long = levels.pop(), levels.pop()
            levels.append(_sorted(np.concatenate([long.keys, short.keys]), np.concatenate([long.prints, short.prints])))
        return Seen(tuple(levels))

    def look_up(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (which of the keys are known, their fingerprints; 0 for the others)."""
        known, prints = np.zeros(len(keys), bool), np.zeros(len(keys), np.uint64)
        for level in self.levels:
            at = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            here = level.keys[at] == keys
            known |= here
            prints[here] = level.prints[at[here]]
        return known, prints


class Claims:
    """`claims` (CLAIM, in any order), to be looked up; of two of one key the first counts."""

    def __init__(self, claims: np.ndarray):
        _, first = np.unique(claims["key"], return_index=True)
        self.claims = claims[first]

    def __bool__(self) -> bool:
        return bool(len(self.claims))

    def of_others(self, keys: np.ndarray, deliveries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (for which keys another delivery is to be kept, their fingerprints; 0 for the others).

        There must be at least one claim.
        """
        at = self.claims[np.minimum(np.searchsorted(self.claims["key"], keys), len(self.claims) - 1)]
        others = (at["key"] == keys) & (at["delivery"] != deliveries)
        return others, np.where(others, at["print"], np.uint64(0))


def _sorted(keys: np.ndarray, prints: np.ndarray) -> _Level:
    order = np.argsort(keys, kind="stable")
    return _Level(keys[order], prints[order])


class SeenCache:
    """What was seen in the windows and shards that this process works on; only a copy of the state.

    An entry is valid only while its random token equals the one that the last *committed* bundle wrote to state. A
    counter would not do: a failed bundle and its successor on another worker share a number, and events that the failed
    one had seen would be dropped as duplicates.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES):
        self.most_bytes = most_bytes
        self.entries: OrderedDict[tuple, tuple[bytes, Seen]] = OrderedDict()

    def get(self, key: tuple, token: bytes | None) -> Seen | None:
        """Return what was seen, if it has the committed token."""
        held = self.entries.get(key)
        if held is None or token is None or held[0] != token:
            return None
        self.entries.move_to_end(key)
        return held[1]

    def put(self, key: tuple, token: bytes, seen: Seen) -> None:
        """Store `seen` under the token that this bundle writes; evict the least recently used entries."""
        self.entries[key] = (token, seen)
        self.entries.move_to_end(key)
        while len(self.entries) > 1 and sum(held[1].nbytes for held in self.entries.values()) > self.most_bytes:
            self.entries.popitem(last=False)

    def drop(self, key: tuple) -> None:
        """Drop a window that has ended."""
        self.entries.pop(key, None)
