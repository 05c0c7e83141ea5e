"""A warehouse in BigQuery: what bigquery_dataset.py reads and the run of bigquery_run.py writes."""

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.bigquery.run import BigQueryRun


class BigQueryWarehouse(Dataset):
    """A warehouse in BigQuery. Make one with `open`, write through `writer()`, `close` it at the end."""

    kind: ClassVar[str] = "bigquery"

    def writer(self) -> BigQueryRun:
        """The run that writes, as a context manager. Of two at once, the second that commits is refused."""
        return BigQueryRun(self)

    def errors_named(self) -> AbstractContextManager[None]:
        """Nothing to name: BigQuery keeps the files."""
        return nullcontext()
