"""A warehouse in BigQuery: what dataset.py reads and the run of run.py writes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import polars as pl
from google.api_core import exceptions

from pipelines.warehouse import staged
from pipelines.warehouse.bigquery.dataset import PATIENCE, Dataset, streaming_buffer
from pipelines.warehouse.bigquery.errors import describe_error
from pipelines.warehouse.bigquery.run import BigQueryRun
from pipelines.warehouse.bigquery.schema import check_funnel
from pipelines.warehouse.interface import CommitToken, UnlistedFile
from pipelines.warehouse.tables import EVENTS
from transforms.errors import WarehouseError
from transforms.sessions.funnel import Funnel

FAIL_SAFE_DAYS = 7  # of BigQuery, after its time travel
TIME_TRAVEL_HOURS = 168  # of a dataset that states none


class BigQueryWarehouse(Dataset):
    """A warehouse in BigQuery. Make one with `open`, write through `writer()`, `close` it at the end."""

    kind: ClassVar[str] = "bigquery"

    def writer(self, token: CommitToken | None = None) -> BigQueryRun:
        """The run that writes, as a context manager. Of two at once, the second that commits is refused."""
        return BigQueryRun(self, token)

    def asking(self) -> AbstractContextManager[Callable[[str], pl.DataFrame]]:
        """Answers to several questions; each is of the dataset as it is then."""
        return nullcontext(lambda sql: pl.concat(self.ask(sql)))

    def use_funnel(self, funnel: Funnel) -> None:
        """Raise WarehouseError unless the view of the funnel, which the last run made, is that of this one."""
        check_funnel(self, funnel)

    def remove_staged(self, folder: str) -> None:
        """Remove the staging folder of a run that has handed over its commit."""
        staged.remove(folder, self.dataset.project)

    @property
    def local_path(self) -> None:
        """It is on no machine of ours."""
        return None

    def written_by(self) -> str | None:
        """A stream, while rows that it has written to `events` are still in BigQuery's streaming buffer."""
        try:
            return None if streaming_buffer(self.resource(EVENTS.name)) is None else "a stream"
        except WarehouseError as error:
            if isinstance(error.__cause__, exceptions.NotFound):  # no run has created its tables yet
                return None
            raise

    def unlisted_files(self) -> Iterator[UnlistedFile]:
        """None: BigQuery keeps the files."""
        return iter(())

    def retention(self) -> list[str]:
        """Where rows that were deleted may remain and for how long, a line each."""
        with describe_error(self.name, "read its time travel"):
            dataset = self.client.get_dataset(self.dataset, retry=PATIENCE)
        hours = int(dataset.max_time_travel_hours or TIME_TRAVEL_HOURS)
        return [
            f"BigQuery: time travel keeps deleted rows for {hours / 24:g} days, then the fail-safe for "
            f"{FAIL_SAFE_DAYS} days more; nobody can shorten the fail-safe",
            "the landing folder of a stream into BigQuery (--landing): until the stream has written what landed",
        ]

    def explain_errors(self) -> AbstractContextManager[None]:
        """Nothing to name: BigQuery keeps the files."""
        return nullcontext()
