"""A stage: a block in, the passed and the rejected records out.

    PCollection[block] -> passed: PCollection[block], rejected: PCollection[REJECTED_SCHEMA block]

Parse, validate, event time and lateness all have this shape, so the graph reads as a row of filters, and every rejected
record takes the same path to quarantine.
State   none
Emits   at once; never an empty block
"""

from collections.abc import Callable

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from transforms.block import REJECTED_SCHEMA

RecordFilter = Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]


class FilterRecords(beam.PTransform):
    """Apply a filter: a picklable function from a block to (passed, rejected)."""

    def __init__(self, filter: RecordFilter):
        super().__init__()
        self.filter = filter

    def expand(self, blocks):
        filtered = beam.ParDo(_FilterRecords(self.filter)).with_output_types(pl.DataFrame, rejected=pl.DataFrame)
        return blocks | "Filter" >> filtered.with_outputs("rejected", main="passed")


class _FilterRecords(beam.DoFn):
    def __init__(self, filter: RecordFilter):
        self.filter = filter

    def process(self, block):
        passed, rejected = self.filter(block)
        if not rejected.is_empty():
            yield TaggedOutput("rejected", rejected)
        if not passed.is_empty():
            yield passed


def compose(first: RecordFilter, second: RecordFilter) -> RecordFilter:
    """Return the filter that applies one filter after the other."""
    return _Composed(first, second)


class _Composed:
    def __init__(self, first: RecordFilter, second: RecordFilter):
        self.first, self.second = first, second

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        passed, early = self.first(block)
        passed, late = self.second(passed)
        return passed, pl.concat([early, late])


def in_global_window(output):
    """Return an output of `finish_bundle` with its window, as the runner requires."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, in_global_window(output.value))
    return WindowedValue(output, GlobalWindow().start, [GlobalWindow()])


def rejections(block: pl.DataFrame, stage: str, code: str | pl.Expr, errors: str | pl.Expr) -> pl.DataFrame:
    """Return the rows of `block` as REJECTED_SCHEMA; `code` and `errors` are strings or expressions over the block."""
    settled = {} if "event_time" in block.columns else {"event_time": pl.lit(None)}
    return block.with_columns(
        **settled,
        stage=pl.lit(stage),
        code=pl.lit(code) if isinstance(code, str) else code,
        errors=pl.lit(errors) if isinstance(errors, str) else errors,
    ).select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())
