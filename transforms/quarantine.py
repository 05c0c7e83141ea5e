"""Quarantine: give a rejected record an id and the metadata with which it can be found and replayed.

    Quarantine          PCollection[REJECTED_SCHEMA block] -> PCollection[rows of the table `quarantine`]
    LeaveQuarantine     PCollection[PARSED_SCHEMA block] -> PCollection[rows of the table `quarantine`]

Rows are only appended: a replayed record that passed gets a row without a code.

State   none
Emits   at once
"""

import time

import apache_beam as beam
import polars as pl

from transforms.block import TIME, hash128
from transforms.windows import to_micros


class Quarantine(beam.PTransform):
    """`version` is that of the pipeline."""

    def __init__(self, version: str):
        super().__init__()
        self.version = version

    def expand(self, rejected):
        return rejected | "Identify" >> beam.ParDo(_Identify(self.version)).with_output_types(pl.DataFrame)


class _Identify(beam.DoFn):
    def __init__(self, version):
        self.version = version

    def process(self, rejected):
        yield identify(rejected, self.version, time.time())


class LeaveQuarantine(beam.PTransform):
    """`version` is that of the pipeline. Records that are read for the first time get no row."""

    def __init__(self, version: str):
        super().__init__()
        self.version = version

    def expand(self, passed):
        return passed | "Select replayed" >> beam.ParDo(_Leave(self.version)).with_output_types(pl.DataFrame)


class _Leave(beam.DoFn):
    def __init__(self, version):
        self.version = version

    def process(self, passed):
        left = leave(passed, self.version)
        if not left.is_empty():
            yield left


def leave(passed: pl.DataFrame, version: str) -> pl.DataFrame:
    """Return a row without a code for each replayed record; its bytes stay in the row of the first attempt."""
    return passed.filter(pl.col("quarantine_id").is_not_null()).with_columns(
        failed_time=pl.lit(None, TIME),
        stage=pl.lit(None, pl.String),
        code=pl.lit(None, pl.String),
        errors=pl.lit(None, pl.String),
        payload=pl.lit(None, pl.Binary),
        pipeline_version=pl.lit(version),
    )


def identify(rejected: pl.DataFrame, version: str, now: float) -> pl.DataFrame:
    """Return rows of `quarantine`; the id is a hash of source, position and payload, the same for each reading.

    A replayed record keeps its id.
    """
    columns = (rejected[name].to_list() for name in ("source", "position", "payload"))
    ids = [
        hash128(((source or "").encode(), (position or "").encode(), payload or b""))
        for source, position, payload in zip(*columns, strict=True)
    ]
    return rejected.with_columns(
        quarantine_id=pl.coalesce("quarantine_id", pl.Series(ids, dtype=pl.String)),
        failed_time=pl.lit(to_micros(now)).cast(TIME),
        pipeline_version=pl.lit(version),
    )
