"""The arithmetic of a metric: aggregate a block, merge partial rows, finish rows. Pure functions.

    events -> partial -> merge (any number of times, in any order and grouping) -> finish

partial rows   bucket_start TIME, the dimensions, then for each measure
                 count     Int64
                 sum       Int64 or Decimal(38,9); 0 where nothing was summed
                 min, max  the type of the field; null where there was none
                 distinct  two columns, see distinct.py
                 quantile  a histogram, see quantile.py
               one row per (bucket_start, dimensions); NULL is a value of a dimension like any other
final rows     bucket_start, bucket_end, the dimensions, then the columns of metrics.columns

A key has a row if an event of its bucket and dimensions has all of `where_set`, even if no measure counts it.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from transforms.block import NUMERIC, TIME, day_of, empty, hash64
from transforms.metrics import distinct, quantile
from transforms.metrics.columns import COLUMNS, PERSON
from transforms.metrics.spec import Measure, MetricSpec
from transforms.numbers import VALUE_DIGITS

ROW = "#row"  # no column of an event or a metric can have this name
_MERGED = {
    "count": lambda column: column.sum(),
    "sum": lambda column: column.sum(),
    "min": lambda column: column.min(),
    "max": lambda column: column.max(),
}


def partial_schema(spec: MetricSpec) -> dict[str, pl.DataType | type[pl.DataType]]:
    """The columns of a metric's partial rows, in order."""
    schema: dict = {"bucket_start": TIME, **{name: COLUMNS[name] for name in spec.dimensions}}
    for name, measure in spec.measures.items():
        match measure.kind:
            case "count":
                schema[name] = pl.Int64
            case "sum":
                schema[name] = measure.sum_type
            case "distinct":
                schema |= {name: pl.List(pl.UInt64), name + distinct.REGISTERS: pl.Binary}
            case "quantile":
                schema[name] = quantile.HISTOGRAM
            case _:
                schema[name] = COLUMNS[measure.field]
    return schema


def partial(events: pl.DataFrame, spec: MetricSpec, time_zone: str = "UTC") -> pl.DataFrame:
    """The partial rows of one block of events (EVENT_SCHEMA), in any order of rows."""
    rows = _needed(events, spec, time_zone)
    if rows.is_empty():
        return empty(partial_schema(spec))
    plain = [_plain(name, measure) for name, measure in spec.measures.items() if measure.kind in _MERGED]
    grouped, group = _grouped(rows, spec, plain)
    ragged: list[pl.Series] = []
    codes = {it.distinct: _codes(rows, it.distinct) for it in spec.measures.values() if it.distinct}
    for name, measure in spec.measures.items():
        if measure.kind in _MERGED:
            continue
        used = rows.select(_holds(measure) & pl.col(measure.field).is_not_null()).to_series().to_numpy()
        if measure.kind == "distinct":
            code, hashes = codes[measure.field]
            ragged += distinct.build_sets(name, grouped.height, group[used], code[used], hashes)
        else:
            values = rows[measure.field].cast(pl.Float64).to_numpy()[used]
            ragged.append(quantile.build_histograms(name, grouped.height, group[used], values))
    return grouped.with_columns(ragged).select(partial_schema(spec).keys())


def merge(frames: list[pl.DataFrame], spec: MetricSpec) -> pl.DataFrame:
    """Merge partial rows: one row per key, sorted by key, independent of the order and grouping of the frames."""
    frames = [frame for frame in frames if not frame.is_empty()]
    if not frames:
        return empty(partial_schema(spec))
    if len(frames) == 1:  # each key once
        return frames[0].sort(spec.keys)
    rows = pl.concat(frames)
    plain = [_MERGED[measure.kind](pl.col(name)) for name, measure in spec.measures.items() if measure.kind in _MERGED]
    grouped, group = _grouped(rows, spec, plain)
    if grouped.height == rows.height:  # each key once: nothing to add
        return rows.sort(spec.keys)
    ragged: list[pl.Series] = []
    for name, measure in spec.measures.items():
        if measure.kind == "distinct":
            ragged += distinct.merge(name, grouped.height, group, rows)
        elif measure.kind == "quantile":
            ragged.append(quantile.merge(name, grouped.height, group, rows))
    return grouped.with_columns(ragged).select(partial_schema(spec).keys()).sort(spec.keys)


def finish(frame: pl.DataFrame, spec: MetricSpec, time_zone: str = "UTC") -> pl.DataFrame:
    """Return the final rows of merged partial rows, one to one, in the same order."""
    made: list[pl.Series] = []
    for name, measure in spec.measures.items():
        if measure.kind == "distinct":
            made += distinct.finish(name, frame)
        elif measure.kind == "quantile":
            made += quantile.finish(name, measure.q, frame)
        else:
            made.append(frame[name])
    start = frame["bucket_start"]
    end = _bucket_ends(start, spec, time_zone)
    return pl.DataFrame([start, end.alias("bucket_end"), *frame.select(spec.dimensions), *made])


def columns_read(spec: MetricSpec) -> set[str]:
    """Return the columns of events that the metric reads."""
    read = _named(spec) | {"event_time", *spec.where_set}
    return (read - {PERSON}) | ({"user_id", "anonymous_id"} if PERSON in read else set())


def _named(spec: MetricSpec) -> set[str]:
    """The dimensions and the columns of the measures, PERSON among them."""
    read = {*spec.dimensions}
    for measure in spec.measures.values():
        read |= {*measure.where, *([] if measure.kind == "count" else [measure.field])}
    return read


def _needed(events: pl.DataFrame, spec: MetricSpec, time_zone: str) -> pl.DataFrame:
    """bucket_start and the columns that the metric reads, of the events that have all of `where_set`."""
    read, start = _named(spec), "event_time"
    names = sorted({*read, *spec.where_set, start})
    rows = events.select(
        pl.coalesce("user_id", "anonymous_id").alias(PERSON) if name == PERSON else name for name in names
    )
    if spec.where_set:
        rows = rows.filter(pl.col(name).is_not_null() for name in spec.where_set)
    starts = bucket_starts(rows[start], spec, time_zone)
    return rows.select(starts.alias("bucket_start"), *sorted(read))


def _grouped(rows: pl.DataFrame, spec: MetricSpec, plain: list[pl.Expr]) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows per key with their plain measures, and the number of each input row's group (int64), which is left out
    where all measures are plain."""
    if len(plain) == len(spec.measures):
        return rows.group_by(spec.keys).agg(*plain), np.empty(0, np.int64)
    grouped = rows.with_row_index(ROW).group_by(spec.keys).agg(*plain, pl.col(ROW))
    return grouped.drop(ROW), _group_of(grouped[ROW], rows.height)


def _group_of(members: pl.Series, height: int) -> np.ndarray:
    """For each row, which list of `members` holds its number."""
    group = np.empty(height, np.int64)
    group[members.explode().to_numpy()] = np.repeat(np.arange(len(members)), members.list.len().to_numpy())
    return group


def _plain(name: str, measure: Measure) -> pl.Expr:
    """The aggregation of a count, sum, min or max."""
    holds = _holds(measure)
    if measure.kind == "count":
        return (holds.sum() if measure.where else pl.len()).cast(pl.Int64).alias(name)
    value = pl.col(measure.field)
    if COLUMNS[measure.field] == pl.Float64:
        # 0.0 and -0.0 are equal, so the smaller one would depend on the order. Polars optimizes `+ 0.0` away.
        value = (
            nine_places(value) if measure.kind == "sum" else pl.when(value != 0.0).then(value).otherwise(value.abs())
        )
    return _MERGED[measure.kind](pl.when(holds).then(value) if measure.where else value).alias(name)


def nine_places(value: pl.Expr) -> pl.Expr:
    """Convert floats to NUMERIC, rounded half away from zero, so that sums depend neither on order nor on blocks.

    NaN, infinity and numbers with more than VALUE_DIGITS digits before the point become null.
    """
    value = pl.when(value.is_finite() & (value.abs() < 10.0**VALUE_DIGITS)).then(value)
    whole = value.abs().floor() * value.sign()
    # Polars would multiply by 1e9 first, and lose the last places of all but small numbers.
    billionths = ((value - whole) * 1e9).round(mode="half_away_from_zero")
    parts = (part.cast(pl.Int64).cast(NUMERIC) for part in (whole, billionths))
    return next(parts) + next(parts) * pl.lit(Decimal("1E-9"), NUMERIC)


def _holds(measure: Measure) -> pl.Expr:
    """Whether a row meets all conditions, as Boolean without nulls."""
    tests = []
    for column, values in measure.conditions:
        if COLUMNS[column] == NUMERIC:
            literals = [pl.lit(Decimal(str(value))).cast(NUMERIC) for value in values]
        else:
            literals = [pl.lit(value, COLUMNS[column]) for value in values]
        tests.append(pl.any_horizontal(pl.col(column).eq_missing(literal) for literal in literals))
    return pl.all_horizontal(tests) if tests else pl.lit(True)


def _codes(rows: pl.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place in the sorted hashes of the column's values, and those hashes (uint64, each once).

    Each different value is hashed once; a null row's place means nothing.
    """
    encoded = rows[column].to_arrow().dictionary_encode()
    hashes, place = np.unique(hash64(pl.Series(encoded.dictionary, dtype=pl.String)).to_numpy(), return_inverse=True)
    codes = encoded.indices.fill_null(0).to_numpy()
    return place[codes] if len(place) else np.zeros(len(codes), np.int64), hashes


def bucket_starts(times: pl.Series, spec: MetricSpec, time_zone: str) -> pl.Series:
    """Return the start of each time's bucket: of the day, or a multiple of the width since 1970 within the day.

    Buckets thus nest in the days of any time zone. A bucket that contains midnight (1 h in a zone with a half-hour
    offset, 6 h in most zones) is split in two, so a backfill of one day does not affect the other.
    """
    if spec.is_daily:
        return _day_starts(times, time_zone)
    floor = _floor(times, spec.bucket_width)
    return floor if time_zone == "UTC" else _later(floor, _day_starts(times, time_zone))


def _bucket_ends(starts: pl.Series, spec: MetricSpec, time_zone: str) -> pl.Series:
    """When the bucket that begins at each time ends: where the next one begins."""
    if spec.is_daily:
        return _day_ends(starts, time_zone)
    ends = _floor(starts, spec.bucket_width) + spec.bucket_width
    return ends if time_zone == "UTC" else _earlier(ends, _day_ends(starts, time_zone))


def _later(one: pl.Series, other: pl.Series) -> pl.Series:
    return one.zip_with(one >= other, other)


def _earlier(one: pl.Series, other: pl.Series) -> pl.Series:
    return one.zip_with(one <= other, other)


def _floor(times: pl.Series, width: timedelta) -> pl.Series:
    """The start of the bucket of each time: a multiple of `width` since 1970, UTC."""
    microseconds = width // timedelta(microseconds=1)
    return (times.to_physical() // microseconds * microseconds).cast(TIME)


def _day_starts(times: pl.Series, time_zone: str) -> pl.Series:
    """When the day of each time began in the time zone, in UTC."""
    days = times.to_frame("time").select(day_of(pl.col("time"), time_zone)).to_series()
    return _starts(days, time_zone)


def _day_ends(starts: pl.Series, time_zone: str) -> pl.Series:
    """When the day that begins at each time ends in the time zone, in UTC: 23 to 25 hours later."""
    days = starts.to_frame("time").select(day_of(pl.col("time"), time_zone).dt.offset_by("1d")).to_series()
    return _starts(days, time_zone)


def _starts(days: pl.Series, time_zone: str) -> pl.Series:
    known = days.unique()
    starts = pl.Series([_midnight(day, ZoneInfo(time_zone)) for day in known.to_list()], dtype=TIME)
    return days.replace_strict(known, starts, return_dtype=TIME)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a day, in UTC.

    If clocks skip midnight, zoneinfo uses the offset before the change, which gives that instant.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
