"""Redelivered: of a message that the queue delivers again and that is refused again, keep the first refusal.

    PCollection[rows of the table `quarantine`] -> passed: PCollection[the same], books: PCollection[BOOKS_SCHEMA block]

Who     a stream only. `quarantine_id` is a hash of source, position and payload, and a queue's position is the id of
        the message: a message that was published twice has two ids, and is in quarantine twice. Positions of files
        are distinct, so a bounded run has nothing to compare.
Window  of `received_time`, as wide as that of deduplication; both deliveries have the same, since it is the time of
        publishing, or a publisher's own.
Kept    the first that arrives, but of an id that is stored and read again the delivery that is stored (`claims` of
        its seeds). The others are `duplicates` in the books.
State   that of KeepFirst (deduplicate.py): 16 bytes a refusal, freed when its window and the lateness have ended by the
        watermark and by the clock: what was refused because it is days old is remembered as long.
Emits   at once
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.block import hash64
from transforms.deduplicate import KEY, WINDOW, Deduplicated, KeepFirst, Keyed, delivery
from transforms.quality import count
from transforms.seen import CLAIM, SEEN, Claims, Seen

NAME = "refused"  # of its seeds


def pieces(rows: pl.DataFrame, window: timedelta, shards: int) -> Iterator[Keyed]:
    """Rows of `quarantine` by ((window, shard)), with KEY."""
    width = int(window.total_seconds() * 1_000_000)
    marked = rows.with_columns(
        hash64(rows["quarantine_id"]).alias(KEY),
        (pl.col("received_time").dt.epoch("us").fill_null(0) // width).alias(WINDOW),
    ).with_columns(_shard=pl.col(KEY) % shards)
    for (number, shard), piece in sorted(
        marked.partition_by(WINDOW, "_shard", as_dict=True, include_key=False).items()
    ):
        yield (int(number), int(shard)), piece


def keep_first(rows: pl.DataFrame, seen: Seen, claims: Claims) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """Rows with KEY: (what `seen` lacks, of each id the claimed delivery or else the first; the others; new entries)"""
    known, _ = seen.look_up(rows[KEY].to_numpy())
    if claims:  # none but after a restart
        others, _ = claims.of_others(rows[KEY].to_numpy(), delivery(rows).to_numpy())
        known = known | others
        order = np.argsort(known, kind="stable")  # the claimed delivery comes before the others of its id
        rows, known = rows[order], known[order]
    new = pl.Series(~known) & rows[KEY].is_first_distinct()
    kept = rows.filter(new)
    return kept.drop(KEY), rows.filter(~new).drop(KEY), seen_entries(kept)


def seen_entries(piece: pl.DataFrame) -> np.ndarray:
    """The SEEN entries of refusals that were kept: a piece with KEY."""
    entries = np.zeros(len(piece), SEEN)
    entries["key"] = piece[KEY].to_numpy()
    return entries


def claim_entries(piece: pl.DataFrame) -> np.ndarray:
    """The CLAIM entries of stored refusals whose records are read again: a piece with KEY."""
    entries = np.zeros(len(piece), CLAIM)
    entries["key"], entries["delivery"] = piece[KEY].to_numpy(), delivery(piece).to_numpy()
    return entries


class KeepFirstRefusal(beam.PTransform):
    """`seeds` is the folder of what the state starts from (seeds.py), `clock` tells the time in seconds."""

    def __init__(
        self, window: timedelta, shards: int, lateness: timedelta, seeds: str | None, clock: Callable[[], float]
    ):
        super().__init__()
        self.window, self.shards, self.lateness, self.seeds, self.clock = window, shards, lateness, seeds, clock

    def expand(self, rows):
        keyed = rows | "Split by window and shard" >> beam.FlatMap(pieces, self.window, self.shards).with_output_types(
            Keyed
        )
        keep = beam.ParDo(_Keep(self.window, self.lateness, self.seeds, self.clock))
        keep = keep.with_output_types(pl.DataFrame, books=pl.DataFrame).with_outputs("books", main="passed")
        kept = keyed | "Keep one of each id" >> keep
        return Deduplicated(kept.passed, kept.books)


class _Keep(KeepFirst):
    """The step, keyed by window and shard."""

    NAME = NAME

    def __init__(self, window: timedelta, lateness: timedelta, seeds: str | None, clock: Callable[[], float]):
        super().__init__(window, lateness, seeds)
        self.clock = clock

    def ends(self, window: int) -> float:
        """When the state of a window is freed; its rows may be of long ago."""
        return max(super().ends(window), self.clock() + self.lateness.total_seconds())

    def keep(self, rows: pl.DataFrame, seen: Seen, claims: Claims):
        kept, repeats, entries = keep_first(rows, seen, claims)
        outputs = [] if kept.is_empty() else [kept]
        if not repeats.is_empty():
            outputs.append(TaggedOutput("books", count(repeats, "duplicates")))
        return outputs, entries
