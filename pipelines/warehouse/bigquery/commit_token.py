"""Commit token: the right of one run to commit once, whoever commits it and however often it is tried.

A job on a cluster commits in its last step, which its runner may start again, or twice at once. So the run that
launches it makes a table of one row; the transaction of the commit takes that row out, or ends because it is gone. The
table expires by itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.bigquery.errors import describe_error
from pipelines.warehouse.interface import CommitToken
from transforms.errors import WarehouseError

PREFIX = "staging_claim_"  # of the names of its tables
VALID = timedelta(days=14)  # longer than Dataflow lets a job of this kind run
VALID_ANSWERS = timedelta(days=2)  # of a refresh, which takes minutes and leaves a table each time


def table_of(token: CommitToken) -> str:
    """The name of the table of a token."""
    return f"{PREFIX}{token.id.replace('-', '_')}"


def create(warehouse: Dataset, token: CommitToken, valid: timedelta = VALID) -> None:
    """Create the table of a token, with its row."""
    resource = bigquery.Table(warehouse.dataset.table(table_of(token)), [bigquery.SchemaField("run", "STRING")])
    resource.expires = datetime.now(UTC) + valid
    with describe_error(warehouse.name, "make its tables"):
        warehouse.client.create_table(resource)
        warehouse.query(f"INSERT INTO {_path(warehouse, token)} (run) VALUES ('{token.id}')")


def is_used(warehouse: Dataset, token: CommitToken, valid: timedelta = VALID) -> bool:
    """Whether the run has committed. Raises WarehouseError if the token has expired."""
    try:
        with describe_error(warehouse.name, "read its tables"):
            return not next(iter(warehouse.query(f"SELECT COUNT(*) AS n FROM {_path(warehouse, token)}")))["n"]
    except WarehouseError as error:
        if isinstance(error.__cause__, exceptions.NotFound):
            raise WarehouseError(
                f"{warehouse.name}: the run {token.id} was launched more than {valid.days} days ago, and nobody can "
                "tell any more whether it has committed; see what the days hold, and launch it again"
            ) from error
        raise


def take_statements(warehouse: Dataset, token: CommitToken) -> Iterator[str]:
    """The statements of a transaction that delete the row, or end the transaction."""
    table = _path(warehouse, token)
    yield f"SELECT IF((SELECT COUNT(*) FROM {table}) = 1, TRUE, ERROR('this run has committed'));"
    yield f"DELETE FROM {table} WHERE TRUE;"


def _path(warehouse: Dataset, token: CommitToken) -> str:
    return f"`{warehouse.name}.{table_of(token)}`"
