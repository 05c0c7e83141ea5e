"""A stage: one block in, what passes and what is rejected out.

    PCollection[block] -> passed: PCollection[block], rejected: PCollection[REJECTED_SCHEMA block]

Parse, validate, event time and lateness are all this shape, so that the graph reads as a row of sieves and every
rejected record takes the same way to quarantine.
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

Sieve = Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]


class Sift(beam.PTransform):
    """Apply a sieve: a picklable function from a block to (passed, rejected)."""

    def __init__(self, sieve: Sieve):
        super().__init__()
        self.sieve = sieve

    def expand(self, blocks):
        sifted = beam.ParDo(_Sift(self.sieve)).with_output_types(pl.DataFrame, rejected=pl.DataFrame)
        return blocks | "Sift" >> sifted.with_outputs("rejected", main="passed")


class _Sift(beam.DoFn):
    def __init__(self, sieve: Sieve):
        self.sieve = sieve

    def process(self, block):
        passed, rejected = self.sieve(block)
        if not rejected.is_empty():
            yield TaggedOutput("rejected", rejected)
        if not passed.is_empty():
            yield passed


def in_turn(first: Sieve, second: Sieve) -> Sieve:
    """The sieve that applies one after the other."""
    return _InTurn(first, second)


class _InTurn:
    def __init__(self, first: Sieve, second: Sieve):
        self.first, self.second = first, second

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        passed, early = self.first(block)
        passed, late = self.second(passed)
        return passed, pl.concat([early, late])


def in_global_window(output):
    """An output of a bundle's end, as the runner wants it: with its window."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, in_global_window(output.value))
    return WindowedValue(output, GlobalWindow().start, [GlobalWindow()])


def rejections(block: pl.DataFrame, stage: str, code: str | pl.Expr, errors: str | pl.Expr) -> pl.DataFrame:
    """The rows of `block` as REJECTED_SCHEMA; `code` and `errors` are texts or expressions over the block."""
    settled = {} if "event_time" in block.columns else {"event_time": pl.lit(None)}
    return block.with_columns(
        **settled,
        stage=pl.lit(stage),
        code=pl.lit(code) if isinstance(code, str) else code,
        errors=pl.lit(errors) if isinstance(errors, str) else errors,
    ).select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())
