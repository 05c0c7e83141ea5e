"""Redelivered: if a message is delivered again and refused again, keep only the first refusal.

    PCollection[rows of the table `quarantine`] -> passed: PCollection[the same], books: PCollection[BOOKS_SCHEMA block]

Use     only in a stream. `quarantine_id` is a hash of source, position and payload, and a queue's position is the id of
        the message: a message that was published twice has two ids, and is in quarantine twice. Positions in files are
        distinct, so a batch run has nothing to compare.
Window  of `received_time`, as wide as that of deduplication; both deliveries have the same, since it is the publish
        time, or the publisher's own.
Kept    the first that arrives; for an id that is stored and read again, the stored delivery (`claims` of the restored
        state). The others count as `duplicates`.
State   that of KeepFirst (deduplicate.py): 16 bytes per refusal, freed when its window and the lateness have ended by
        both the watermark and the clock: records refused for being days old are remembered just as long.
Emits   at once
"""

from collections.abc import Iterator
from datetime import timedelta

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.block import hash64
from transforms.deduplicate import KEY, WINDOW, Deduplicated, KeepFirst, Keyed, delivery
from transforms.publication import Firing
from transforms.quality import entries_of, pack
from transforms.seen import CLAIM, SEEN, Claims, Seen
from transforms.windows import number_of

NAME = "refused"  # of its restored state


def split_refusals(rows: pl.DataFrame, window: timedelta, shards: int) -> Iterator[Keyed]:
    """Split rows of `quarantine` by (window, shard), with KEY."""
    marked = rows.with_columns(
        hash64(rows["quarantine_id"]).alias(KEY),
        number_of(pl.col("received_time"), window).fill_null(0).alias(WINDOW),
    ).with_columns(_shard=pl.col(KEY) % shards)
    for (number, shard), partition in sorted(
        marked.partition_by(WINDOW, "_shard", as_dict=True, include_key=False).items()
    ):
        yield (int(number), int(shard)), partition


def keep_first(rows: pl.DataFrame, seen: Seen, claims: Claims) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """Return rows with KEY as (rows not in `seen`: per id the claimed delivery, else the first; the others; new
    entries)."""
    known, _ = seen.look_up(rows[KEY].to_numpy())
    if claims:  # only after a restart
        others, _ = claims.of_others(rows[KEY].to_numpy(), delivery(rows).to_numpy())
        known = known | others
        order = np.argsort(known, kind="stable")  # the claimed delivery comes before the others of its id
        rows, known = rows[order], known[order]
    new = pl.Series(~known) & rows[KEY].is_first_distinct()
    kept = rows.filter(new)
    return kept.drop(KEY), rows.filter(~new).drop(KEY), seen_entries(kept)


def seen_entries(partition: pl.DataFrame) -> np.ndarray:
    """Return the SEEN entries of refusals that were kept: a partition with KEY."""
    entries = np.zeros(len(partition), SEEN)
    entries["key"] = partition[KEY].to_numpy()
    return entries


def claim_entries(partition: pl.DataFrame) -> np.ndarray:
    """Return the CLAIM entries of stored refusals whose records are read again: a partition with KEY."""
    entries = np.zeros(len(partition), CLAIM)
    entries["key"], entries["delivery"] = partition[KEY].to_numpy(), delivery(partition).to_numpy()
    return entries


class KeepFirstRefusal(beam.PTransform):
    """Keep the first delivery of each refusal, in windows of `window` of the received time."""

    def __init__(self, *, window: timedelta, shards: int, firing: Firing):
        super().__init__()
        self.window, self.shards, self.firing = window, shards, firing

    def expand(self, rows):
        keyed = rows | "Split by window and shard" >> beam.FlatMap(
            split_refusals, self.window, self.shards
        ).with_output_types(Keyed)
        keep = beam.ParDo(_Keep(self.window, self.firing))
        keep = keep.with_output_types(pl.DataFrame, books=bytes).with_outputs("books", main="passed")
        kept = keyed | "Keep one of each id" >> keep
        return Deduplicated(kept.passed, kept.books)


class _Keep(KeepFirst):
    """The step, keyed by window and shard."""

    NAME = NAME

    def ends(self, window: int) -> float:
        """Return when the state of a window is freed; its rows may be old."""
        return max(super().ends(window), self.clock() + self.lateness.total_seconds())

    def keep(self, rows: pl.DataFrame, seen: Seen, claims: Claims):
        kept, repeats, entries = keep_first(rows, seen, claims)
        outputs = [] if kept.is_empty() else [kept]
        if not repeats.is_empty():
            outputs.append(TaggedOutput("books", pack(entries_of(repeats, "duplicates"))))
        return outputs, entries
