"""Scopes: metrics that share the windows and shards of a stream, and how their pending data is packed. Pure functions.

    block -> Scope.place -> packed pieces, by window and shard -> Scope.merge -> merged partial rows of each member

A piece of few events is packed as it is, in the columns that its metrics read: they are aggregated when they are
merged, many pieces at once. A larger piece is aggregated at once, so that it crosses a shuffle as few rows. Both give
the same rows: partials add up in any grouping (measures.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from transforms import quality
from transforms.block import SEPARATOR, BlockCoder, hash64
from transforms.metrics.aggregations import Aggregation, BooksAggregation, MetricAggregation
from transforms.metrics.measures import columns_read
from transforms.windows import MICROSECOND, micros_of, number_of, to_micros

FEW_EVENTS = 2_000  # are packed as they are
AS_THEY_ARE = ""  # the name under which they are
_CODER = BlockCoder()
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Piece(NamedTuple):
    """What a block brings to a window and shard; `last` is the start of its last bucket in microseconds since 1970."""

    window: int
    shard: int
    last: int
    packed: bytes


class Scope(ABC):
    """Aggregations with equal buckets, shards and early firings; `window` n is [n, n + 1) times the bucket."""

    def __init__(self, members: Sequence[Aggregation]):
        self.members = tuple(members)
        self.bucket, self.shards, self.early = members[0].bucket, members[0].shards, members[0].early

    @abstractmethod
    def place(self, block: Any) -> Iterator[Piece]:
        """Yield what a block brings, in the same order for the same block."""

    @abstractmethod
    def unpack_blocks(self, packed: list[bytes]) -> Any:
        """Return blocks that were packed as they are, as one."""

    def merge(self, pieces: Iterable[bytes]) -> dict[str, pl.DataFrame]:
        """Return the merged partial rows of each member."""
        blocks: list[bytes] = []
        partials: dict[str, list[pl.DataFrame]] = {what.name: [] for what in self.members}
        for name, data in (each for piece in pieces for each in _decode(piece)):
            if name == AS_THEY_ARE:
                blocks.append(data)
            else:
                partials[name].append(_CODER.decode(data))
        if blocks:
            block = self.unpack_blocks(blocks)
            for what in self.members:
                partials[what.name].append(what.partial(block))
        return {what.name: what.merge(partials[what.name]) for what in self.members}


class Events:
    """A block of events, with the columns that any scope reads; it is packed once for all that take it whole."""

    def __init__(self, block: pl.DataFrame, columns: Sequence[str]):
        self.block, self.columns = block, columns

    @cached_property
    def read(self) -> pl.DataFrame:
        return self.block[self.columns]

    @cached_property
    def times(self) -> np.ndarray:
        return micros_of(self.block["event_time"])

    @cached_property
    def whole(self) -> bytes:
        return _as_they_are(_CODER.encode(self.read))


class EventScope(Scope):
    """Metrics, over blocks of events."""

    members: tuple[MetricAggregation, ...]

    def place(self, block: Events) -> Iterator[Piece]:
        if block.block.is_empty():
            return
        if self.shards > 1 or block.block.height > FEW_EVENTS:
            yield from self._aggregated(block.block)
            return
        starts = self.members[0].starts(block.times)
        windows = _windows(starts, self.bucket)
        if windows.min() == windows.max():
            yield Piece(int(windows[0]), 0, int(starts.max()), block.whole)
            return
        for window in np.unique(windows):
            here = windows == window
            packed = _as_they_are(_CODER.encode(block.read.filter(pl.Series(here))))
            yield Piece(int(window), 0, int(starts[here].max()), packed)

    def unpack_blocks(self, packed: list[bytes]) -> pl.DataFrame:
        return pl.concat(map(_CODER.decode, packed))

    def _aggregated(self, events: pl.DataFrame) -> Iterator[Piece]:
        found: dict[tuple[int, int], dict[str, pl.DataFrame]] = {}
        for what in self.members:
            for key, rows in scatter(what.partial(events), self.bucket, self.bucket, self.shards, what.keys):
                found.setdefault(key, {})[what.name] = rows
        for (window, shard), parts in sorted(found.items()):
            last = max(int(rows["bucket_start"].to_physical().max()) for rows in parts.values())  # type: ignore[arg-type]
            yield Piece(window, shard, last, pack(parts))


class EntryScope(Scope):
    """The audit counts, over packed entries."""

    def place(self, block: bytes) -> Iterator[Piece]:
        width = to_micros(self.bucket)
        windows: dict[int, list[quality.Entry]] = {}
        for entry in quality.unpack(block):
            windows.setdefault((entry[0] or 0) // width, []).append(entry)
        for window, entries in sorted(windows.items()):
            yield Piece(window, 0, window * width, _as_they_are(quality.pack(entries)))

    def unpack_blocks(self, packed: list[bytes]) -> bytes:
        return quality.pack(entry for each in packed for entry in quality.unpack(each))


def scopes_of(metrics: Sequence[Aggregation]) -> list[Scope]:
    """Return the scopes of metrics, in their order; one of several shards has its rows sharded by keys of its own."""
    grouped: dict[tuple, list[Aggregation]] = {}
    for what in metrics:
        alone = what.name if what.shards > 1 or isinstance(what, BooksAggregation) else ""
        grouped.setdefault((what.bucket, what.early, alone), []).append(what)
    return [
        EntryScope(members) if isinstance(members[0], BooksAggregation) else EventScope(members)
        for members in grouped.values()
    ]


def columns_of(scopes: Iterable[Scope]) -> list[str]:
    """Return the columns of events that the metrics of any scope read."""
    metrics = [what for scope in scopes if isinstance(scope, EventScope) for what in scope.members]
    return sorted({name for what in metrics for name in columns_read(what.spec)})


def pack(frames: dict[str, pl.DataFrame]) -> bytes:
    """Return merged partial rows by name, as bytes."""
    return _encode([(name, _CODER.encode(rows)) for name, rows in frames.items()])


def unpack(packed: bytes) -> dict[str, pl.DataFrame]:
    """Return what `pack` was given."""
    return {name: _CODER.decode(data) for name, data in _decode(packed)}


def _as_they_are(block: bytes) -> bytes:
    return _encode([(AS_THEY_ARE, block)])


def _windows(starts: np.ndarray, bucket: timedelta) -> np.ndarray:
    """Return the number of the window in which the bucket of each start ends, as `scatter` does."""
    width = to_micros(bucket)
    return (starts + (width - 1)) // width


def scatter(
    partial: pl.DataFrame, bucket: timedelta, scope: timedelta, shards: int, keys: tuple[str, ...], fold: int = 0
):
    """Split partial rows into [((window, shard), rows)]; with `fold`, windows whose numbers differ by it are one."""
    # Use the window in which a bucket ends: a day of another time zone begins in one window and ends in the next, and
    # only the latter stays open until its last events may arrive.
    last = number_of(pl.col("bucket_start") + bucket - MICROSECOND, scope).fill_null(0)
    marked = partial.with_columns(_window=last % fold if fold else last, _shard=_shard(partial, shards, keys))
    pieces = marked.partition_by("_window", "_shard", as_dict=True, include_key=False)
    # Sorted, so that a retried block yields the same elements in the same order.
    ordered = sorted(pieces.items(), key=lambda piece: piece[0])
    return [((int(window), int(shard)), piece) for (window, shard), piece in ordered]


def _shard(partial: pl.DataFrame, shards: int, keys: tuple[str, ...]) -> pl.Series:
    if shards == 1 or partial.is_empty():
        return pl.Series("_shard", [0], dtype=pl.UInt64).new_from_index(0, len(partial))
    texts = [pl.col(key).cast(pl.String).fill_null("\x00") for key in keys]
    return hash64(partial.select(pl.concat_str(texts, separator=SEPARATOR)).to_series()) % shards
