"""Open a warehouse: the one in a dataset of BigQuery, or the one in a local folder."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse


@contextmanager
def open_warehouse(
    dataset: str | None,
    folder: str | None,
    time_zone: str | None = None,
    create: bool = False,
    partition_expiration: timedelta | None = None,
    settled_after: timedelta | None = None,
    group: str | None = None,
) -> Iterator[Warehouse]:
    """The warehouse in a dataset of BigQuery if one is named, else in a folder; closed at the end.

    What a damaged file of a folder makes fail while it is open becomes a WarehouseError that names the file.
    """
    warehouse: Warehouse
    if dataset is not None:
        from pipelines.warehouse.bigquery.dataset import Choice
        from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse  # which imports Google's clients

        warehouse = BigQueryWarehouse.open(dataset, time_zone, create, Choice(partition_expiration, settled_after))
    else:
        assert folder is not None, "options name one or the other"
        warehouse = LocalWarehouse.open(folder, time_zone, create, group)
    with closing(warehouse), warehouse.explain_errors():
        yield warehouse
