"""Aggregations: what a stateful step adds up, by bucket: a metric of the catalog, or the audit counts. Pure functions.

block -> partial -> merge (any number of times, in any order and grouping) -> finish
"""

from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from transforms import quality
from transforms.metrics import measures
from transforms.metrics.spec import MetricSpec
from transforms.windows import TIME, to_micros


class Aggregation(Protocol):
    """Pure functions over frames; `partial` and `merge` return frames of one schema, with a column bucket_start."""

    @property
    def name(self) -> str:
        """The name of the table."""

    @property
    def bucket(self) -> timedelta:
        """The width of a bucket."""

    @property
    def shards(self) -> int:
        """The number of shards in which the rows of a window are merged."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that, with bucket_start, identify a row."""

    @property
    def early(self) -> timedelta | None:
        """How often a stream publishes an open bucket; None means never."""

    def partial(self, block: Any) -> pl.DataFrame:
        """Aggregate one block."""

    def merge(self, partials: list[pl.DataFrame]) -> pl.DataFrame:
        """Add partials up, in any order and any grouping."""

    def finish(self, merged: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of the table, without those that a firing stamps."""


class MetricAggregation:
    """A metric of the catalog, of blocks of events; `early` and `shards` override its own."""

    def __init__(self, spec: MetricSpec, zone: str, early: timedelta | None = None, shards: int | None = None):
        self.spec, self.zone = spec, zone
        self.name, self.bucket, self.shards = spec.name, spec.bucket_width, shards or spec.shards
        self.keys, self.early = tuple(spec.dimensions), early or spec.early_interval

    def unsharded(self) -> "MetricAggregation":
        """Return the same with one shard."""
        return MetricAggregation(self.spec, self.zone, self.early, 1)

    def starts(self, micros: np.ndarray) -> np.ndarray:
        """Return the start of each time's bucket, both in microseconds since 1970."""
        if self.zone == "UTC":
            width = to_micros(self.bucket)
            return micros // width * width
        times = pl.Series(micros).cast(TIME)
        return measures.bucket_starts(times, self.spec, self.zone).to_physical().to_numpy()

    def partial(self, block):
        return measures.partial(block, self.spec, self.zone)

    def merge(self, partials):
        return measures.merge(partials, self.spec)

    def finish(self, merged):
        return measures.finish(merged, self.spec, self.zone)


class BooksAggregation(NamedTuple):
    """The audit counts, `quality_1m`, of packed entries."""

    name: str = "quality_1m"
    bucket: timedelta = quality.MINUTE
    shards: int = 1
    keys: tuple[str, ...] = ("source", "input")
    early: timedelta | None = timedelta(seconds=10)

    def partial(self, block: bytes) -> pl.DataFrame:
        return quality.frame_of(quality.unpack(block))

    def merge(self, partials):
        return quality.merge(partials)

    def finish(self, merged):
        return merged.with_columns(bucket_end=pl.col("bucket_start") + quality.MINUTE)
