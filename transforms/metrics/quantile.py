"""Quantiles within 1 % of the value, independent of the order of the input and of how it is split into blocks.

Each value is counted in a log-spaced bin (the histogram of DDSketch): bin i holds the values in
(GAMMA^(i-1), GAMMA^i], and its estimate 2 GAMMA^i / (GAMMA + 1) is within ALPHA of each of them. Counts add
up, so partials merge exactly.

A bin's number is signed and shifted, so that bins are in the order of their values: i + SHIFT for a
positive value, 0 for zero, -(i + SHIFT) for a negative one. The quantile q of n values is that of rank
floor(q (n - 1)).

Column of a partial, for a measure `m`: m, List(Struct(bin Int64, count Int64)), by ascending bin, each once.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from transforms.records.ragged import lists, offsets, runs

ALPHA = 0.01
GAMMA = (1 + ALPHA) / (1 - ALPHA)
SHIFT = 1 << 16  # above every |i|: the smallest float64 is in bin -37,221
HISTOGRAM = pl.List(pl.Struct({"bin": pl.Int64, "count": pl.Int64}))
HISTOGRAM_SUFFIX = "_histogram"
_OFFSET = 1 << 17  # makes a bin positive, so that group and bin sort as one number
_BITS = 18


def bins(values: np.ndarray) -> np.ndarray:
    """The bin of each finite float64, as int64."""
    with np.errstate(divide="ignore"):
        index = np.ceil(np.log(np.abs(values)) / np.log(GAMMA))
    return np.where(values == 0, 0, np.sign(values) * (np.where(values == 0, 0, index) + SHIFT)).astype(np.int64)


def estimates(bin_numbers: np.ndarray) -> np.ndarray:
    """Return the representative value of each bin, as float64."""
    size = 2 * np.power(GAMMA, (np.abs(bin_numbers) - SHIFT).astype(np.float64)) / (GAMMA + 1)
    return np.where(bin_numbers == 0, 0.0, np.sign(bin_numbers) * size)


def _histograms(name: str, groups: int, group: np.ndarray, number: np.ndarray, counts: np.ndarray) -> pl.Series:
    """The histogram of each group, from (group, bin, count) rows in any order."""
    keys = (group.astype(np.int64) << _BITS) | (number + _OFFSET)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = runs(keys)
    total = np.add.reduceat(counts[order], starts) if len(starts) else counts
    keys = keys[starts]
    rows = pa.StructArray.from_arrays(
        [pa.array((keys & ((1 << _BITS) - 1)) - _OFFSET), pa.array(total)], ["bin", "count"]
    )
    return lists(name, np.bincount(keys >> _BITS, minlength=groups), rows)


def build_histograms(name: str, groups: int, group: np.ndarray, values: np.ndarray) -> pl.Series:
    """Return the histogram of each group, from one row per event.

    group    int64, the group of each row, 0 to groups - 1
    values   float64; NaN and infinity are left out
    """
    finite = np.isfinite(values)
    number = bins(values[finite])
    return _histograms(name, groups, group[finite], number, np.ones(len(number), np.int64))


def merge(name: str, groups: int, group: np.ndarray, frame: pl.DataFrame) -> pl.Series:
    """Return the sum of the histograms of each group; `group` is the group of each row of `frame`."""
    rows = frame[name].explode(empty_as_null=False).struct.unnest()
    owner = np.repeat(group, frame[name].list.len().to_numpy())
    return _histograms(name, groups, owner, rows["bin"].to_numpy(), rows["count"].to_numpy())


def finish(name: str, q: tuple[float, ...], frame: pl.DataFrame) -> list[pl.Series]:
    """A Float64 column for each of `q` (null where nothing was counted), and the histogram."""
    sizes = frame[name].list.len().to_numpy()
    rows = frame[name].explode(empty_as_null=False).struct.unnest()
    reached = offsets(rows["count"].to_numpy())  # counted before each bin, over all groups
    begin, end = offsets(sizes)[:-1], offsets(sizes)[1:]
    total = reached[end] - reached[begin]
    value = np.append(estimates(rows["bin"].to_numpy()), np.nan)
    columns = []
    for fraction in q:
        rank = reached[begin] + np.floor(fraction * (total - 1)).astype(np.int64)
        # the bin that holds the rank is the last one that begins at or before it
        place = np.searchsorted(reached[1:], rank, side="right")
        found = pl.Series(value[np.where(total > 0, place, -1)])
        columns.append(found.set(pl.Series(total == 0), None).alias(name + suffix(fraction)))
    return [*columns, frame[name].alias(name + HISTOGRAM_SUFFIX)]


def suffix(fraction: float) -> str:
    """The end of the column's name: 0.5 is _p50, 0.999 is _p99_9."""
    return f"_p{round(fraction * 100, 6):g}".replace(".", "_")
