"""Windows: fixed spans of time by their number; window n of a width is [n, n + 1) times the width since 1970.

The number is a part of the key of stateful steps. Beam's own windows all stay global (aggregate.py says why).
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:  # a question imports this module, and no NumPy
    import numpy as np

TIME = pl.Datetime("us", "UTC")
MICROS = 1_000_000  # in a second
MICROSECOND = timedelta(microseconds=1)
# In a batch run, windows whose numbers differ by this share a key: a day each would be thousands of tiny groups.
FOLD = 64


def to_micros(time: float | timedelta) -> int:
    """Return seconds since 1970, or a width, in whole microseconds."""
    return time // MICROSECOND if isinstance(time, timedelta) else int(time * MICROS)


def micros_of(times: pl.Series) -> "np.ndarray":
    """Return times without nulls as int64 microseconds since 1970, without a copy."""
    return times.to_numpy().view("int64")


def number_of(time: pl.Expr, width: timedelta) -> pl.Expr:
    """Return the number of the window of a time: Int64, null where the time is."""
    return time.dt.epoch("us") // to_micros(width)


def start_of(window: int, width: timedelta) -> float:
    """Return when a window begins, in seconds since 1970."""
    return window * width.total_seconds()


def end_of(window: int, width: timedelta) -> float:
    """Return when a window ends, in seconds since 1970."""
    return start_of(window + 1, width)
