"""Stored events: the warehouse's own events, as a source for a run that adds to days that have rows."""

from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

import apache_beam as beam
import polars as pl

from pipelines.warehouse.local.damage import read_live
from pipelines.warehouse.tables import EVENTS
from transforms.block import EVENT_SCHEMA
from transforms.sessions.sessions import SPANNING_SCHEMA
from transforms.sessions.summaries import visitors


class ReadStored(beam.PTransform):
    """PBegin -> PCollection[FLOW_SCHEMA block] from Parquet files, one block a file.

    Rows of `without_input` are left out: the run that reads that input again derives them again.
    """

    def __init__(self, files: Sequence[str], without_input: str | None):
        super().__init__()
        self.files, self.without_input = list(files), without_input

    def expand(self, begin):
        return (
            begin
            | "List files" >> beam.Create(self.files)
            | "Spread files" >> beam.Reshuffle()
            | "Read each file" >> beam.FlatMap(_read, self.without_input).with_output_types(pl.DataFrame)
        )


class ReadReach(beam.PTransform):
    """PBegin -> PCollection[SPANNING_SCHEMA frame] from a Parquet file."""

    def __init__(self, file: str):
        super().__init__()
        self.file = file

    def expand(self, begin):
        read = beam.Map(pl.read_parquet).with_output_types(pl.DataFrame)
        return begin | "Name the file" >> beam.Create([self.file]) | "Read it" >> read


class ReadReachAsked(beam.PTransform):
    """PBegin -> PCollection[SPANNING_SCHEMA frame], the rows of `sql`, read by workers that share no disk."""

    def __init__(self, dataset: str, sql: str):
        super().__init__()
        self.dataset, self.sql = dataset, sql

    def expand(self, begin):
        asked = beam.FlatMap(_reach, self.dataset).with_output_types(pl.DataFrame)
        return begin | "State the question" >> beam.Create([self.sql]) | "Ask it" >> asked


def _reach(sql: str, dataset: str):
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse  # which imports Google's clients

    with closing(BigQueryWarehouse.open(dataset)) as warehouse:
        for part in warehouse.ask(sql):
            if not part.is_empty():
                yield as_reach(part)


def as_reach(sessions: pl.DataFrame) -> pl.DataFrame:
    """Rows of sessions (anonymous_id, user_id, session_start, session_end) as SPANNING_SCHEMA."""
    named = sessions.rename({"session_start": "start", "session_end": "end"}).with_columns(visitors(sessions))
    return named.select(pl.col(name).cast(dtype) for name, dtype in SPANNING_SCHEMA.items())


class ReadStoredDays(beam.PTransform):
    """PBegin -> PCollection[FLOW_SCHEMA block] from a dataset, by workers that share no disk, a day at a time.

    Rows of `without_input` are left out, as by ReadStored. Days are read when their turn comes: whoever commits what is
    made of them has to refuse to if somebody else has committed since (`CommitToken.before`).
    """

    def __init__(self, dataset: str, days: Sequence[date], without_input: str | None):
        super().__init__()
        self.dataset, self.days, self.without_input = dataset, [f"{day}" for day in days], without_input

    def expand(self, begin):
        return (
            begin
            | "List days" >> beam.Create(self.days)
            | "Spread days" >> beam.Reshuffle()
            | "Read each day"
            >> beam.FlatMap(_read_day, self.dataset, self.without_input).with_output_types(pl.DataFrame)
        )


def _read(file: str, without_input: str | None):
    yield from _blocks(read_live(Path(file)), without_input)


def _read_day(day: str, dataset: str, without_input: str | None):
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse  # which imports Google's clients

    with closing(BigQueryWarehouse.open(dataset)) as warehouse:
        for file in warehouse.files(EVENTS.name, [date.fromisoformat(day)]):
            yield from _blocks(pl.read_parquet(file), without_input)


def _blocks(events: pl.DataFrame, without_input: str | None):
    if without_input is not None:
        events = events.filter(pl.col("input") != without_input)
    if not events.is_empty():
        events = events.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
        yield events.with_columns(stored=pl.lit(True))
