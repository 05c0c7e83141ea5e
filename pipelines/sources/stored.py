"""Stored events: the warehouse's own events, as a source for a run that adds to days that have rows."""

from collections.abc import Sequence

import apache_beam as beam
import polars as pl

from transforms.block import EVENT_SCHEMA


class ReadStored(beam.PTransform):
    """PBegin -> PCollection[FLOW_SCHEMA block] from Parquet files, one block a file.

    Rows of `without_input` are left out: the run that reads that very input again derives them anew. So are those of
    the people in `without_people`, by user_id or anonymous_id.
    """

    def __init__(self, files: Sequence[str], without_input: str | None, without_people: Sequence[str] = ()):
        super().__init__()
        self.files, self.without_input, self.without_people = list(files), without_input, list(without_people)

    def expand(self, begin):
        return (
            begin
            | "List files" >> beam.Create(self.files)
            | "Spread files" >> beam.Reshuffle()
            | "Read each file"
            >> beam.FlatMap(_read, self.without_input, self.without_people).with_output_types(pl.DataFrame)
        )


class ReadReach(beam.PTransform):
    """PBegin -> PCollection[REACH_SCHEMA frame] from a Parquet file."""

    def __init__(self, file: str):
        super().__init__()
        self.file = file

    def expand(self, begin):
        return begin | "Name the file" >> beam.Create([self.file]) | "Read it" >> beam.Map(_whole)


def _whole(file: str) -> pl.DataFrame:
    return pl.read_parquet(file)


def of_people(ids: Sequence[str]) -> pl.Expr:
    """Whether an event is of one of these people."""
    return pl.any_horizontal(pl.col(name).is_in(list(ids)).fill_null(False) for name in ("user_id", "anonymous_id"))


def _read(file: str, without_input: str | None, without_people: Sequence[str]):
    events = pl.read_parquet(file)
    if without_people:
        events = events.filter(~of_people(without_people))
    if without_input is not None:
        events = events.filter(pl.col("input") != without_input)
    if not events.is_empty():
        events = events.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
        yield events.with_columns(stored=pl.lit(True))
