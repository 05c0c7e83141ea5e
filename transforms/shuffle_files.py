"""Spill: pass blocks through a local shuffle by reference.

The in-process runner keeps shuffled data in memory. In a batch run on one machine, a block is therefore written to an
Arrow file in the run's own folder, and only its path is shuffled: with four times the events, a run uses 1.4 times the
memory (benchmarks/RESULTS.md), and worker processes exchange paths instead of bytes. On a cluster nothing is spilled:
workers share no disk, and its shuffle has storage of its own.

Blocks of several steps that are joined (`join`) are spilled as well: the rejected records may be the whole input.

A file that a failed bundle left behind is never read; the folder is removed with the run.
"""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import apache_beam as beam
import polars as pl

from transforms.block import held_bytes

GATHER_ROWS = 200_000  # rows that are split, or compared, together: small frames cost as much as large ones
GATHER_BYTES = 128 << 20  # the same limit in bytes
GROUP_ROWS = 500_000  # rows that are compared at a time; more of one window and shard are split by bits of their hash
GROUP_BYTES = 512 << 20  # the same limit in bytes
INLINE_ROWS = 1_000  # a file costs more than it saves below
INLINE_BYTES = 1 << 20  # of few rows that are long
Spilled = tuple[int, str, pl.DataFrame]  # rows, the path of the file, the block if there is none
Compression = Literal["uncompressed", "lz4"]


class Part(NamedTuple):
    """A block in a shuffle: the block itself, or the file that holds it."""

    rows: int
    block: pl.DataFrame | None
    path: str

    @property
    def held(self) -> int:
        """The approximate size of the loaded block in bytes."""
        return os.path.getsize(self.path) if self.path else held_bytes(self.load())

    def load(self) -> pl.DataFrame:
        """Return the block."""
        return self.block if self.block is not None else pl.read_ipc(self.path)


def spill(block: pl.DataFrame, folder: str | None, compression: Compression = "uncompressed") -> Spilled:
    """Return (rows, path, block) with the block in a file of `folder`, or inline if there is no folder."""
    if folder is None or (len(block) < INLINE_ROWS and held_bytes(block) < INLINE_BYTES):
        return len(block), "", block
    path = Path(folder) / f"{uuid.uuid4().hex}.arrow"
    block.write_ipc(path, compression=compression, compat_level=pl.CompatLevel.newest())
    return len(block), str(path), block.clear()


def join(collections: Sequence[beam.PCollection], label: str, folder: str | None) -> beam.PCollection:
    """Join PCollections of blocks, which a runner may hold in memory: in a bounded local run, only paths are passed."""
    if folder is None:
        return collections | label >> beam.Flatten()
    spilled = [
        each | f"{label}: spill {number}" >> beam.Map(spill, folder, "lz4").with_output_types(Spilled)
        for number, each in enumerate(collections)
    ]
    return spilled | label >> beam.Flatten() | f"{label}: load" >> beam.Map(_load).with_output_types(pl.DataFrame)


def _load(crossed: Spilled) -> pl.DataFrame:
    return parts([crossed])[0].load()


def parts(crossed) -> list[Part]:
    """Return the parts that came out of the shuffle."""
    return [Part(rows, None if path else block, path) for rows, path, block in crossed]
