"""Labels of a dataset that runs on several machines share: small values that outlive each of them."""

from collections.abc import Mapping

from pipelines.warehouse.bigquery.dataset import PATIENCE, Dataset
from pipelines.warehouse.bigquery.errors import describe_error


def read_labels(warehouse: Dataset) -> dict[str, str]:
    """Return the labels of the dataset as they are now."""
    with describe_error(warehouse.name, "read its labels"):
        return dict(warehouse.client.get_dataset(warehouse.dataset, retry=PATIENCE).labels)


def change_labels(warehouse: Dataset, changes: Mapping[str, str]) -> None:
    """Set labels; the others stay. An empty value states nothing. Errors: WarehouseError."""
    with describe_error(warehouse.name, "change its labels"):
        found = warehouse.client.get_dataset(warehouse.dataset, retry=PATIENCE)
        found.labels = {**found.labels, **changes}
        warehouse.client.update_dataset(found, ["labels"], retry=PATIENCE)
