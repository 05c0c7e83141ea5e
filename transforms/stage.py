"""What steps share: the rejected records of a rule, and a step that gathers what a bundle brings.

Parse, validate, event time and lateness all have one shape: a block in, the passed and the rejected records out. Every
rejected record takes the same path to quarantine.
"""

import math
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue

from transforms.block import REJECTED_SCHEMA


def in_global_window(output):
    """Return an output of `finish_bundle` with its window, as the runner requires."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, in_global_window(output.value))
    if isinstance(output, TimestampedValue):
        return WindowedValue(output.value, output.timestamp, [GlobalWindow()])
    return WindowedValue(output, GlobalWindow().start, [GlobalWindow()])


class Gathering(beam.DoFn):
    """A step that gathers what a bundle brings and handles it together: small frames cost as much as large ones.

    A subclass says what to hold of an element, and what to emit for all that it holds, once that has `most_rows` or
    `most_bytes`, and at the end of the bundle.
    """

    most_rows: float = math.inf
    most_bytes: float = math.inf

    def hold(self, element) -> Iterable[tuple[Any, int, int]]:
        """Yield (what to hold, its rows, its bytes)."""
        raise NotImplementedError

    def flush(self, held: list, rows: int, size: int) -> Iterable[Any]:
        """Yield the outputs for all that was held, which is never nothing."""
        raise NotImplementedError

    def start_bundle(self):
        self._held: list = []
        self._rows = self._bytes = 0

    def process(self, element):
        for held, rows, size in self.hold(element):
            self._held.append(held)
            self._rows += rows
            self._bytes += size
        if self._rows >= self.most_rows or self._bytes >= self.most_bytes:
            yield from self._flush()

    def finish_bundle(self):
        return map(in_global_window, self._flush())

    def _flush(self):
        if self._held:
            held, rows, size = self._held, self._rows, self._bytes
            self.start_bundle()
            yield from self.flush(held, rows, size)


def rejections(block: pl.DataFrame, stage: str, code: str | pl.Expr, errors: str | pl.Expr) -> pl.DataFrame:
    """Return the rows of `block` as REJECTED_SCHEMA; `code` and `errors` are strings or expressions over the block."""
    settled = {} if "event_time" in block.columns else {"event_time": pl.lit(None)}
    return block.with_columns(
        **settled,
        stage=pl.lit(stage),
        code=pl.lit(code) if isinstance(code, str) else code,
        errors=pl.lit(errors) if isinstance(errors, str) else errors,
    ).select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())
