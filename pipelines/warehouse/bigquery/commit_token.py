"""Claim: the right of one run to commit once, whoever commits it and however often it is tried.

A job on a cluster commits in its last step, which its runner may start again, or twice at once. So the run that
launches it makes a table of one row; the transaction of the commit takes that row out, or ends because it is gone. The
table expires by itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.bigquery.errors import told
from pipelines.warehouse.tables import Table
from transforms.errors import WarehouseError

PREFIX = "staging_claim_"  # of the names of its tables
VALID = timedelta(days=14)  # longer than Dataflow lets a job of this kind run


class Claim(NamedTuple):
    """What a job carries of the run that launched it.

    id      of the run
    folder  of the bucket for its files
    before  the commit that the job's rows were read after, and no other may follow it; None: read by the commit itself
    tables  what the run declared, by name
    """

    id: str
    folder: str
    before: str | None
    tables: dict[str, Table]

    @property
    def table(self) -> str:
        """The name of its table."""
        return f"{PREFIX}{self.id.replace('-', '_')}"


def make(warehouse: Dataset, claim: Claim) -> None:
    """Make the table of a claim, with its row."""
    resource = bigquery.Table(warehouse.dataset.table(claim.table), [bigquery.SchemaField("run", "STRING")])
    resource.expires = datetime.now(UTC) + VALID
    with told(warehouse.name, "make its tables"):
        warehouse.client.create_table(resource)
        warehouse.query(f"INSERT INTO {_path(warehouse, claim)} (run) VALUES ('{claim.id}')")


def is_used(warehouse: Dataset, claim: Claim) -> bool:
    """Whether the run has committed. Raises WarehouseError if the claim has expired."""
    try:
        with told(warehouse.name, "read its tables"):
            return not next(iter(warehouse.query(f"SELECT COUNT(*) AS n FROM {_path(warehouse, claim)}")))["n"]
    except WarehouseError as error:
        if isinstance(error.__cause__, exceptions.NotFound):
            raise WarehouseError(
                f"{warehouse.name}: the run {claim.id} was launched more than {VALID.days} days ago, and nobody can "
                "tell any more whether it has committed; see what the days hold, and launch it again"
            ) from error
        raise


def taken(warehouse: Dataset, claim: Claim) -> Iterator[str]:
    """The statements of a transaction that take the row, or end it."""
    table = _path(warehouse, claim)
    yield f"SELECT IF((SELECT COUNT(*) FROM {table}) = 1, TRUE, ERROR('this run has committed'));"
    yield f"DELETE FROM {table} WHERE TRUE;"


def _path(warehouse: Dataset, claim: Claim) -> str:
    return f"`{warehouse.name}.{claim.table}`"
