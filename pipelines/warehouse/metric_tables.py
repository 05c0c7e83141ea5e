"""The tables of a run: those of every run, and one for each metric of the configuration."""

from collections.abc import Sequence

from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS, Column, Table, metric_table
from transforms.metrics.spec import MetricSpec


def tables_of(metrics: Sequence[MetricSpec]) -> dict[str, Table]:
    """The tables of the graph, by name."""
    return {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, *map(table_of, metrics))}


def table_of(spec: MetricSpec) -> Table:
    """The declaration of a metric's table."""
    return metric_table(
        spec.name, spec.description, spec.dimensions, [_declared(*column) for column in spec.measure_columns()]
    )


def _declared(name, type, mode, description, fields) -> Column:
    return Column(name, type, mode, description, tuple(_declared(*inner) for inner in fields))
