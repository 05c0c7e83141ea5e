"""The time as of which a refresh computes: the newest closed bucket that the warehouse knows, or one that was asked."""

from datetime import UTC, date, datetime

import polars as pl

from pipelines.warehouse.conditions import DAY, begin
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import EVENTS, QUALITY_1M
from transforms.errors import OptionError, WarehouseError

OPTION = "--as_of"
CLOCKS = ("activity_1m", QUALITY_1M.name)  # tables whose buckets say how far the warehouse is, the first that is there


def newest_closed(warehouse: Warehouse) -> datetime:
    """The end of the newest bucket that is closed, in UTC. Errors: WarehouseError for a warehouse without one."""
    there = warehouse.tables()
    for table in (name for name in CLOCKS if name in there):
        days = _days(warehouse, table)
        since = [f"bucket_start >= {begin(days[-1] - DAY, warehouse.time_zone)}", "TRUE"] if days else []
        for where in since:  # the newest days, and only if all of their buckets are open the others
            newest = f"SELECT MAX(bucket_end) AS newest FROM `{table}` WHERE firing <> 'early' AND {where}"
            found = pl.concat(warehouse.ask(newest))["newest"][0]
            if found is not None:
                return found.astimezone(UTC)
    raise WarehouseError(f"{warehouse.name} has no closed bucket: nothing to compute yet; backfill or run first")


def refuse_time(warehouse: Warehouse, as_of: datetime) -> datetime:
    """The time that was asked, in UTC. Errors: OptionError if it is of the future, or before the first event."""
    as_of = as_of.astimezone(UTC)
    if as_of > (now := datetime.now(UTC)):
        raise _refusal(as_of, f"a time that is over; it is {_text(now)} now")
    days = _days(warehouse, EVENTS.name)
    first = None
    if days:
        where = f"event_time < {begin(days[0] + DAY, warehouse.time_zone)}"
        first = pl.concat(warehouse.ask(f"SELECT MIN(event_time) AS first FROM events WHERE {where}"))["first"][0]
    if first is None:
        raise WarehouseError(f"{warehouse.name} has no events: nothing to compute yet; backfill or run first")
    if as_of <= first:
        raise _refusal(as_of, f"a time after the first event, which is of {_text(first)}")
    return as_of


def _days(warehouse: Warehouse, table: str) -> list[date]:
    return sorted(day for day in warehouse.rows_by_day(table) if day is not None)


def _refusal(as_of: datetime, allowed: str) -> OptionError:
    return OptionError(f"{OPTION}: got {_text(as_of)}; allowed: {allowed}")


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
