"""Tables in the BigQuery emulator, made without the product's own way of making them."""

import uuid
from collections.abc import Iterable

from google.cloud import bigquery as google

from pipelines.warehouse.tables import Table, bigquery_schema


def made(client: google.Client, tables: Iterable[Table]) -> str:
    """Make a dataset with these tables; its name, project.dataset."""
    dataset = client.create_dataset(f"d{uuid.uuid4().hex}")
    for table in tables:
        fields = [google.SchemaField.from_api_repr(field) for field in bigquery_schema(table)]
        declared = google.Table(dataset.table(table.name), fields)
        declared.time_partitioning = google.TimePartitioning("DAY", table.partition)
        client.create_table(declared)
    return f"{dataset.project}.{dataset.dataset_id}"


def fetched(client: google.Client, sql: str) -> list[tuple]:
    """The rows of a query."""
    return [tuple(row.values()) for row in client.query_and_wait(sql)]
