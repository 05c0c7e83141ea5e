"""Gather: small blocks of a source as large ones, before the steps that cost as much for a block of ten rows.

    PCollection[block] -> PCollection[the same columns, other blocks]

Use     behind a reader that hands on small blocks: Dataflow's bundles of a stream hold some ten to some hundred
        messages, and a block takes the steps behind it milliseconds whatever it holds.
Key     a shard, by the hash of the coded block: a bundle that is repeated goes where it went before. The order of
        blocks is lost.
State   per shard, in the global window: `blocks`, coded as they came, and `gathered`, which counts them; both are
        empty after each block that is emitted.
Emits   one block of all that a shard holds: with LARGE_ROWS rows or MOST_BYTES bytes at once, after `delay` by a
        processing-time timer, and when the watermark has reached the end of time, as in a drain. A block that is
        large already is not shuffled.
Time    a block's timestamp is the earliest of those that it was made of. The watermark waits for it: a processing-time
        timer holds the output watermark at the timestamp of the element that sets it (Beam 2.77, `OutputTimer.set`),
        so the earliest element of a shard sets it last.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
import xxhash
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from transforms.block import LARGE_ROWS, BlockCoder, held_bytes
from transforms.windows import to_micros

MOST_BYTES = 8 << 20  # as `held_bytes` counts them: a shard's state is read whole
MOST_SHARDS = 4  # each takes some 50,000 events a second, and the fewer there are, the larger their blocks
Keyed = tuple[int, tuple[int, int, bytes]]  # shard, (rows, bytes, coded block)
_CODER = BlockCoder()


class GatherBlocks(beam.PTransform):
    """Make large blocks of small ones of the same columns.

    shards  the most shards that hold blocks at once; MOST_SHARDS at most
    delay   how long a block waits for others
    clock   the time, in seconds since 1970
    """

    def __init__(self, *, shards: int, delay: timedelta, clock: Callable[[], float] = time.time):
        super().__init__()
        self.shards, self.delay, self.clock = min(shards, MOST_SHARDS), delay, clock

    def expand(self, blocks):
        split = beam.ParDo(_Split(self.shards)).with_output_types(pl.DataFrame, small=Keyed)
        parts = blocks | "Split by size" >> split.with_outputs("small", main="large")
        hold = beam.ParDo(_Hold(self.delay, self.clock)).with_output_types(pl.DataFrame)
        gathered = parts.small | "Hold small blocks" >> hold
        return (parts.large, gathered) | "Join blocks" >> beam.Flatten()


class _Split(beam.DoFn):
    """Codes small blocks with their shard; others pass."""

    def __init__(self, shards: int):
        self.shards = shards

    def process(self, block):
        size = held_bytes(block)
        if _is_large(len(block), size):
            yield block
        elif not block.is_empty():
            coded = _CODER.encode(block)
            yield TaggedOutput("small", (xxhash.xxh3_64_intdigest(coded) % self.shards, (len(block), size, coded)))


class Held(NamedTuple):
    """What a shard holds: whole numbers in one state cell. Times are in microseconds since 1970."""

    rows: int
    bytes: int
    earliest: int  # timestamp
    due: int  # by the clock


class _Hold(beam.DoFn):
    """The step, keyed by shard."""

    BLOCKS = BagStateSpec("blocks", BytesCoder())
    GATHERED = ReadModifyWriteStateSpec("gathered", TupleCoder([VarIntCoder()] * len(Held._fields)))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(self, delay: timedelta, clock: Callable[[], float]):
        self.delay, self.clock = to_micros(delay), clock

    def process(
        self,
        keyed,
        timestamp=beam.DoFn.TimestampParam,
        blocks=beam.DoFn.StateParam(BLOCKS),
        gathered=beam.DoFn.StateParam(GATHERED),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
    ):
        _, (rows, size, coded) = keyed
        before = _read(gathered)
        if before is None:
            now = Held(rows, size, timestamp.micros, to_micros(self.clock()) + self.delay)
        else:
            earliest = min(before.earliest, timestamp.micros)
            now = Held(before.rows + rows, before.bytes + size, earliest, before.due)
        if _is_large(now.rows, now.bytes):
            soon.clear()
            yield _emit(now, blocks, gathered, coded)
            return
        blocks.add(coded)
        gathered.write(now)
        if before is None:
            end.set(GlobalWindow().max_timestamp())
        if before is None or now.earliest < before.earliest:
            soon.set(Timestamp(micros=now.due))  # which also holds the watermark, at the timestamp of this element

    @on_timer(SOON)
    def emit_soon(self, blocks=beam.DoFn.StateParam(BLOCKS), gathered=beam.DoFn.StateParam(GATHERED)):
        held = _read(gathered)
        if held is not None:  # else it was emitted before, and the runner fired a timer that was cleared
            yield _emit(held, blocks, gathered)

    @on_timer(END)
    def emit_last(
        self,
        blocks=beam.DoFn.StateParam(BLOCKS),
        gathered=beam.DoFn.StateParam(GATHERED),
        soon=beam.DoFn.TimerParam(SOON),
    ):
        held = _read(gathered)
        if held is not None:
            soon.clear()
            yield _emit(held, blocks, gathered)


def _emit(held: Held, blocks, gathered, *more: bytes) -> TimestampedValue:
    """Return all that a shard holds, and `more`, as one block, and clear its state."""
    whole = pl.concat(map(_CODER.decode, (*blocks.read(), *more)), rechunk=True)
    blocks.clear()
    gathered.clear()
    return TimestampedValue(whole, Timestamp(micros=held.earliest))


def _is_large(rows: int, size: int) -> bool:
    return rows >= LARGE_ROWS or size >= MOST_BYTES


def _read(gathered) -> Held | None:
    found = gathered.read()
    return None if found is None else Held(*found)
