"""Which rows: conditions that a warehouse of files reads as Polars and BigQuery as SQL."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import polars as pl

from transforms.windows import TIME

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Without:
    """Rows of which none of the columns holds one of the values; NULL is no value."""

    columns: tuple[str, ...]
    values: frozenset[str]

    def polars(self) -> pl.Expr:
        """True for these rows."""
        listed = sorted(self.values)
        return ~pl.any_horizontal(pl.col(name).is_in(listed).fill_null(False) for name in self.columns)

    def sql(self) -> str:
        """The same in BigQuery's SQL."""
        listed = ", ".join(literal(value) for value in sorted(self.values))
        return " AND ".join(f"IFNULL(`{name}` NOT IN ({listed}), TRUE)" for name in self.columns)


@dataclass(frozen=True)
class WithoutInDays(Without):
    """The same, and rows of none of these days of the zone; `partition` is the column that decides the day."""

    partition: str
    days: frozenset[date]
    zone: str

    def polars(self) -> pl.Expr:
        """True for these rows."""
        time = pl.col(self.partition)
        within = [
            (time >= midnight(start, self.zone)) & (time < midnight(end, self.zone))
            for start, end in runs_of(self.days)
        ]
        return super().polars() & ~pl.any_horizontal(pl.lit(False), *within).fill_null(False)

    def sql(self) -> str:
        """The same in BigQuery's SQL."""
        return f"{super().sql()} AND NOT IFNULL({in_days(self.partition, self.days, self.zone)}, FALSE)"


@dataclass(frozen=True)
class WithoutSpan(Without):
    """Rows whose time in the one column is not within [start, end]; both in UTC."""

    start: datetime
    end: datetime

    def polars(self) -> pl.Expr:
        """True for these rows."""
        return ~pl.col(self.columns[0]).is_between(pl.lit(self.start, TIME), pl.lit(self.end, TIME)).fill_null(False)

    def sql(self) -> str:
        """The same in BigQuery's SQL."""
        within = f"`{self.columns[0]}` BETWEEN {moment(self.start)} AND {moment(self.end)}"
        return f"NOT IFNULL({within}, FALSE)"


def moment(time: datetime) -> str:
    """A time in UTC as BigQuery's SQL and DuckDB's write it."""
    return f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S.%f+00:00}'"


def literal(text: str) -> str:
    """A text as BigQuery's SQL writes it, and DuckDB's once it is translated."""
    written = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in written) + "'"


def one_of(column: str, values: Iterable[str]) -> str:
    """Whether a column is one of some texts, as `literal` writes them; FALSE of none."""
    listed = ", ".join(literal(value) for value in sorted(values))
    return f"{column} IN ({listed})" if listed else "FALSE"


def runs_of(days: Iterable[date | None]) -> Iterator[tuple[date, date]]:
    """The days as ranges that are as long as can be, each [first, day after the last); None is left out."""
    start = end = None
    for day in sorted({day for day in days if day is not None}):
        if start is None or day != end:
            if start is not None and end is not None:
                yield start, end
            start = day
        end = day + DAY
    if start is not None and end is not None:
        yield start, end


def in_days(column: str, days: Iterable[date | None], zone: str) -> str:
    """BigQuery's SQL for `a time lies in one of these days of the zone`; None is the day of rows without a time.

    Literals, so that BigQuery reads and bills only the partitions that hold the days.
    """
    days = set(days)
    parts = [
        f"(`{column}` >= {begin(start, zone)} AND `{column}` < {begin(end, zone)})" for start, end in runs_of(days)
    ]
    if None in days:
        parts.append(f"`{column}` IS NULL")
    return f"({' OR '.join(parts)})" if parts else "FALSE"


def midnight(day: date, zone: str) -> datetime:
    """When a day of the zone begins, in UTC."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def begin(day: date, zone: str) -> str:
    """The same as BigQuery's SQL writes it."""
    return moment(midnight(day, zone))


def of_input(input: str) -> pl.Expr:
    """Whether a row is of a stream: of its input, or of a part of it."""
    return (pl.col("input") == input) | pl.col("input").str.starts_with(f"{input}@")


def in_minutes(minutes: pl.DataFrame, column: str) -> pl.Expr:
    """Whether a row is of one of the minutes (input, bucket_start) by its time `column`.

    The bounds of all are a condition of their own, so that statistics rule out files without such a row.
    """
    from transforms.block import SEPARATOR  # which imports Beam; a query does without

    if minutes.is_empty():
        return pl.lit(False)

    def key(time: str) -> pl.Expr:
        return pl.concat_str("input", pl.col(time).dt.truncate("1m").dt.epoch("us"), separator=SEPARATOR)

    start, end = minutes["bucket_start"].min(), minutes["bucket_start"].max()
    within = (pl.col(column) >= pl.lit(start, TIME)) & (pl.col(column) < pl.lit(end, TIME) + timedelta(minutes=1))
    listed = minutes.select(key("bucket_start")).to_series().unique()
    return within & key(column).is_in(listed.implode()).fill_null(False)


class ByDay(Protocol):
    """Tables that know their days."""

    time_zone: str

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any."""


def days_from(warehouse: ByDay, table: str, since: datetime) -> list[date]:
    """The days of a table that has rows of them, from that of `since` on."""
    from transforms.block import day_of

    first = pl.select(day_of(pl.lit(since, TIME), warehouse.time_zone)).item()
    return [day for day in warehouse.rows_by_day(table) if day and day >= first]
