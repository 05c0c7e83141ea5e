"""A warehouse in BigQuery: what dataset.py reads and the run of run.py writes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ClassVar

import polars as pl
from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.settings.attribution import Attribution
from pipelines.warehouse import staged
from pipelines.warehouse.bigquery.dataset import PATIENCE, Dataset, frames_of, streaming_buffer
from pipelines.warehouse.bigquery.errors import describe_error, message_of
from pipelines.warehouse.bigquery.run import BigQueryRun
from pipelines.warehouse.bigquery.schema import (
    ATTRIBUTION_VIEW,
    FUNNEL_VIEW,
    check_attribution,
    check_funnel,
    unqualify,
)
from pipelines.warehouse.interface import CommitToken, UnlistedFile
from pipelines.warehouse.recent import Recent, Since
from pipelines.warehouse.tables import EVENTS
from pipelines.warehouse.views import bigquery_views
from transforms.errors import QueryError, WarehouseError
from transforms.sessions.funnel import Funnel

FAIL_SAFE_DAYS = 7  # of BigQuery, after its time travel
TIME_TRAVEL_HOURS = 168  # of a dataset that states none


class BigQueryWarehouse(Dataset):
    """A warehouse in BigQuery. Make one with `open`, write through `writer()`, `close` it at the end."""

    kind: ClassVar[str] = "bigquery"

    def writer(self, token: CommitToken | None = None, of_answers: bool = False) -> BigQueryRun:
        """The run that writes, as a context manager. Of two at once, the second that commits is refused, unless one
        of them alone writes answers."""
        return BigQueryRun(self, token, of_answers)

    def asking(self) -> AbstractContextManager[Callable[[str], pl.DataFrame]]:
        """Answers to several questions; each is of the dataset as it is then."""
        return nullcontext(lambda sql: pl.concat(self.ask(sql)))

    @contextmanager
    def asking_recent(self, since: Since, most_bytes: int | None = None) -> Iterator[Recent]:
        """Answers to several questions, of which none bills more than `most_bytes`; the SQL itself names the days."""
        config = bigquery.QueryJobConfig(default_dataset=self.dataset, maximum_bytes_billed=most_bytes)

        def ask(sql: str) -> pl.DataFrame:
            try:
                job = self.client.query(sql, config, location=self.location, retry=PATIENCE)
                rows = job.result(retry=PATIENCE)
            except (exceptions.BadRequest, exceptions.NotFound) as error:
                raise QueryError(message_of(error)) from error
            except Exception:
                with describe_error(self.name, "ask it"):
                    raise
            recent.bytes += job.total_bytes_billed or job.total_bytes_processed or 0
            return pl.concat(frames_of(rows))

        recent = Recent(ask)
        yield recent

    def view_texts(self) -> dict[str, str]:
        """The views by name, in the order of creation; those of funnel and attribution as the last run made them."""
        made = dict(bigquery_views(self.tables().values(), self.time_zone))
        for name in (FUNNEL_VIEW, ATTRIBUTION_VIEW):
            if (stored := self.stored_view(name)) is not None:
                made[name] = unqualify(stored)
        return made

    def stored_view(self, name: str) -> str | None:
        """The SQL of a view as the dataset has it, without a question that would bill; None if there is none."""
        try:
            return self.resource(name).view_query
        except WarehouseError as error:
            if isinstance(error.__cause__, exceptions.NotFound):
                return None
            raise

    def version(self, with_answers: bool = False) -> None:
        """Nobody can say without asking whether rows came in."""

    def use_funnel(self, funnel: Funnel) -> None:
        """Raise WarehouseError unless the view of the funnel, which the last run made, is that of this one."""
        check_funnel(self, funnel)

    def use_attribution(self, attribution: Attribution) -> None:
        """Raise WarehouseError unless the view of attribution, which the last run made, has this look-back."""
        check_attribution(self, attribution)

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
