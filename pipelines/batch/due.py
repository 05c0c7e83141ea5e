"""Recompute the days that a dataset lists as due (warehouse/bigquery/due.py): a drain closed their buckets early."""

from datetime import UTC, datetime
from typing import cast

from pipelines.assemble import open_configured
from pipelines.settings.resolve import Settings
from pipelines.warehouse.bigquery import due
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from transforms.days import Days


def due_settings(settings: Settings) -> tuple[Settings | None, str]:
    """Return the settings of the recompute that may run now, if one may, and what to say of it."""
    with open_configured(settings) as opened:
        warehouse = cast(BigQueryWarehouse, opened)
        listed = due.read_due(warehouse)
        if listed is None:
            return None, f"{warehouse.name}: no days are due for a recompute"
        days = due.next_due(warehouse, datetime.now(UTC))
        if days is None:
            return None, (
                f"{warehouse.name}: the days from {listed.start} to {listed.end} (exclusive) are due, but a stream has "
                "written lately and may still write them; run this again later"
            )
    return settings._replace(start=days.start, end=days.end), f"recomputing due days from {days.start} to {days.end}"


def finish_due(settings: Settings) -> None:
    """Take the days of a recompute that has succeeded off the list."""
    assert settings.start and settings.end
    with open_configured(settings) as opened:
        due.finish_due(cast(BigQueryWarehouse, opened), Days(settings.start, settings.end, opened.time_zone))
