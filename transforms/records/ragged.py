"""Ragged columns: lists and bytes of unequal length, made from flat arrays without a loop over rows.

A flat array of values, sorted by group, and the number of values in each group are all of such a column.
"""

import numpy as np
import polars as pl
import pyarrow as pa


def offsets(sizes: np.ndarray) -> np.ndarray:
    """Where each group begins in the flat array, then where the last ends: int64, one more than `sizes`."""
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))


def runs(keys: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins in a sorted array."""
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.empty(0, np.int64)


def lists(name: str, sizes: np.ndarray, values: pa.Array) -> pl.Series:
    """A List column whose row i holds the next `sizes[i]` of `values`."""
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(offsets(sizes)), values))


def binaries(name: str, sizes: np.ndarray, data: np.ndarray) -> pl.Series:
    """A Binary column whose row i holds the next `sizes[i]` bytes of `data` (uint8)."""
    buffers = [None, pa.py_buffer(offsets(sizes)), pa.py_buffer(data)]
    return pl.Series(name, pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(sizes), buffers))


def bytes_of(column: pl.Series) -> np.ndarray:
    """All bytes of a Binary column without nulls, one row after the other, as uint8."""
    return np.frombuffer(b"".join(column.to_list()), np.uint8)
