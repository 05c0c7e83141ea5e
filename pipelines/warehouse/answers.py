"""Answers: tables whose rows a refresh computed of the other tables, as of a time.

Each has the column `as_of`, and the view `<table>_latest` with the rows of the newest refresh. The table `refreshes`
says which that is, also where a refresh found nothing to say.
"""

from pipelines.warehouse.tables import Column, Table

AS_OF = "as_of"
LATEST = "_latest"

REFRESHES = Table(
    name="refreshes",
    description="What `audience refresh` has computed: the newest `as_of` of a table is that of its latest answers.",
    partition=AS_OF,
    key=(AS_OF, "table_name"),
    columns=(
        Column(AS_OF, "TIMESTAMP", "REQUIRED", "the time as of which it was computed, UTC"),
        Column("table_name", "STRING", "REQUIRED", "the table with the answers"),
        Column("row_count", "INT64", "REQUIRED", "rows that were computed; 0: there was nothing to say"),
        Column("content", "STRING", "REQUIRED", "hash of these rows: equal ones are not written again"),
        Column("state", "STRING", "NULLABLE", "hash of what was read and how; NULL where nobody can tell"),
        Column("pipeline_version", "STRING", "REQUIRED", "version of the pipeline that computed it"),
    ),
)


def is_answer(table: Table) -> bool:
    """Whether its rows are computed of the other tables by a refresh."""
    return any((column.name, column.type, column.mode) == (AS_OF, "TIMESTAMP", "REQUIRED") for column in table.columns)


def latest_view(table: Table) -> tuple[str, str]:
    """(name, BigQuery SQL) of the view of the newest answers."""
    newest = f"(SELECT MAX({AS_OF}) FROM `{REFRESHES.name}` WHERE table_name = '{table.name}')"
    head = f"-- The answers of {table.name} as of the newest refresh."
    return table.name + LATEST, f"{head}\nSELECT *\nFROM `{table.name}`\nWHERE {AS_OF} = {newest}\n"
