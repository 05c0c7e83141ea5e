"""Days that are due for a recompute: those of buckets that a drained job closed early.

    label audience_due    FIRST_END, days of the warehouse's time zone; END is exclusive

The label is in the dataset, so that a job may be drained on one machine and its days be recomputed on another. BigQuery
refuses to change rows that a stream wrote in the last one and a half hours, so a drain cannot recompute at once.
"""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipelines.warehouse.bigquery.dataset import Dataset, streaming_buffer
from pipelines.warehouse.bigquery.labels import change_labels, read_labels
from pipelines.warehouse.bigquery.run import open_days
from pipelines.warehouse.tables import EVENTS
from transforms.days import Days

DUE_LABEL = "audience_due"
DAY = timedelta(days=1)


def read_due(warehouse: Dataset) -> Days | None:
    """Return the days that are due, if there are any."""
    first, _, end = read_labels(warehouse).get(DUE_LABEL, "").partition("_")
    return Days(date.fromisoformat(first), date.fromisoformat(end), warehouse.time_zone) if end else None


def add_due(warehouse: Dataset, ended: datetime, reach: timedelta) -> Days:
    """Note the days of buckets that a job closed early, and return all that are due.

    ended   when the job ended
    reach   how long before that a bucket may have begun that was still open
    """
    zone = ZoneInfo(warehouse.time_zone)
    first, end = (ended - reach).astimezone(zone).date(), ended.astimezone(zone).date() + DAY
    before = read_due(warehouse)
    days = Days(min(first, before.start), max(end, before.end), before.zone) if before else None
    return _write(warehouse, days or Days(first, end, warehouse.time_zone))


def next_due(warehouse: Dataset, now: datetime) -> Days | None:
    """Return those of the due days that may be rewritten now: all, or, where a stream writes, the first of them."""
    due = read_due(warehouse)
    if due is None or warehouse.settled_after is None:
        return due
    if streaming_buffer(warehouse.resource(EVENTS.name)) is None:
        return due
    unsettled = open_days(due.listed(), now, due.zone, warehouse.settled_after)
    end = min(unsettled, default=due.end)
    return due._replace(end=end) if due.start < end else None


def finish_due(warehouse: Dataset, done: Days) -> None:
    """Take days that were recomputed off the list."""
    due = read_due(warehouse)
    if due is None or due.start < done.start:
        return
    start = max(due.start, done.end)
    if start < due.end:
        _write(warehouse, due._replace(start=start))
    else:
        change_labels(warehouse, {DUE_LABEL: ""})


def _write(warehouse: Dataset, days: Days) -> Days:
    change_labels(warehouse, {DUE_LABEL: f"{days.start}_{days.end}"})
    return days
