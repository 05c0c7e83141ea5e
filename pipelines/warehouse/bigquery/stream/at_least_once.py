"""Write rows of one table, all that BigQuery takes: the other rows come back with the reason.

Both ways write at least once. An insertAll that is retried within a minute is not written twice, since its rows
have ids; an append on the default stream may be.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import polars as pl
import pyarrow as pa
from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError
from requests.exceptions import RequestException

from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.retry import ABSENT, Limits, Silence, call_with_retries, transient
from pipelines.warehouse.bigquery.storage_write import RowError, default_stream
from pipelines.warehouse.bigquery.stream import rows as bigquery_rows
from pipelines.warehouse.row_json import insert_ids, json_rows
from pipelines.warehouse.tables import Table
from transforms.errors import WarehouseError

_NAMED = re.compile(r"\b(?:field|column)\W{1,3}(\w+(?:\.\w+)*)", re.IGNORECASE)
TOO_LONG = "the row is longer than a request to BigQuery may be"


class Refusal(NamedTuple):
    """A row that BigQuery refused: its number, the column (`a.b` for a field of a RECORD; empty if it told none), and
    BigQuery's message."""

    row: int
    path: str
    message: str


class Writer(Protocol):
    """Writes to one table. Each belongs to one DoFn and one thread."""

    def write(self, rows: pl.DataFrame) -> list[Refusal]:
        """Write rows in the table's columns; returns when BigQuery has answered for each.

        Raises WarehouseError if it gave no answer for as long as the limits say, or refused the whole request.
        """

    def close(self) -> None:
        """Let go of the client."""


class StorageWriter:
    """Appends on the table's default stream."""

    def __init__(self, dataset: str, table: Table, limits: Limits, note: Callable[[], None]):
        self._table, self._limits, self._note = table, limits, note
        self._lease = bigquery_clients.writes(dataset.rpartition(".")[0])
        self._stream = default_stream(dataset, table.name)
        self._schema = bigquery_rows.arrow_schema(table)

    def write(self, rows: pl.DataFrame) -> list[Refusal]:
        batch = bigquery_rows.record_batch(rows, self._schema)
        return [
            Refusal(row, path_in(message, self._table), message)
            for first, length, written in bigquery_rows.cut_to_size(batch, bigquery_rows.REQUEST_BYTES)
            for row, message in self._append(batch.slice(first, length), written, first)
        ]

    def _append(self, part: pa.RecordBatch, written: bytes, first: int) -> list[RowError]:
        """Append a part, without what BigQuery refuses of it, which is returned."""
        if len(written) > bigquery_rows.REQUEST_BYTES:
            return [RowError(first, TOO_LONG)]
        left, refused = list(range(first, first + part.num_rows)), []
        while left:
            errors = self._answered(written)
            if not errors:
                break
            refused += [RowError(left[error.row], error.message) for error in errors]
            bad = {error.row for error in errors}
            kept = [row for row in range(len(left)) if row not in bad]
            left = [left[row] for row in kept]
            part = part.take(pa.array(kept, pa.int64()))
            written = part.serialize().to_pybytes()
        return refused

    def _answered(self, written: bytes) -> list[RowError]:
        appends, seconds = self._lease.client, self._limits.answer
        with final(self._table, self._limits):
            return call_with_retries(
                lambda: appends.append(self._stream, self._schema, written, None, seconds), self._limits, self._note
            )

    def close(self) -> None:
        self._lease.close()


class InsertWriter:
    """insertAll, at most 500 rows a request; each row has an id by which a repeated one is known for a minute."""

    def __init__(self, dataset: str, table: Table, limits: Limits, note: Callable[[], None]):
        self._table, self._limits, self._note = table, limits, note
        self._lease = bigquery_clients.rest(dataset.rpartition(".")[0])
        self._name = f"{dataset}.{table.name}"

    def write(self, rows: pl.DataFrame) -> list[Refusal]:
        written = json_rows(rows, self._table)
        ids = insert_ids(rows, self._table)
        most, refusals = bigquery_rows.REQUEST_BYTES, []
        for first, end, size in bigquery_rows.by_request(written, most):
            if size > most:
                refusals.append(Refusal(first, "", TOO_LONG))
            else:
                refusals += self._insert(written[first:end], ids[first:end], first)
        return refusals

    def _insert(self, rows: list[dict], ids: list[str], first: int) -> Iterator[Refusal]:
        with final(self._table, self._limits):
            errors = call_with_retries(lambda: self._answered(rows, ids), self._limits, self._note)
        for error in errors:
            # One reason is enough, but not that another row stopped this one: with the bad rows skipped none is.
            why = error["errors"][0]
            yield Refusal(first + error["index"], why.get("location") or "", why.get("message") or why["reason"])

    def _answered(self, rows: list[dict], ids: list[str]) -> list[dict]:
        return self._lease.client.insert_rows_json(
            self._name, rows, row_ids=ids, skip_invalid_rows=True, timeout=self._limits.answer, retry=None
        )

    def close(self) -> None:
        self._lease.close()


@contextmanager
def final(table: Table, limits: Limits) -> Iterator[None]:
    """Turn what BigQuery says in the end into a WarehouseError."""
    try:
        yield
    except (GoogleAPICallError, Silence, RequestException, GoogleAuthError) as problem:
        said = " ".join(str(getattr(problem, "message", problem)).split())
        if isinstance(problem, NotFound):
            raise WarehouseError(
                f"table {table.name}: BigQuery does not find it, {ABSENT:.0f} s after the first try: {said}; "
                "is --dataset the one that was made, and was no table of it dropped?"
            ) from problem
        if transient(problem):
            raise WarehouseError(
                f"table {table.name}: BigQuery took no rows for {limits.limit:.0f} s; it said last: {said}"
            ) from problem
        raise WarehouseError(f"table {table.name}: BigQuery refused the request, not a row of it: {said}") from problem


def path_in(message: str, table: Table) -> str:
    """The column of the table that a message calls a field or a column, as `column` or `column.field`; else empty."""
    columns = {column.name for column in table.columns}
    named = (found[1] for found in _NAMED.finditer(message) if found[1].partition(".")[0] in columns)
    return next(named, "")
