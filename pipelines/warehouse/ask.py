"""A person's question to a warehouse, in SQL."""

from pipelines.warehouse.interface import Result, Warehouse
from transforms.errors import OptionError


def run_query(warehouse: Warehouse, sql: str, dialect: str = "duckdb", unsafe: bool = False) -> Result:
    """Ask one question of the tables and views as of now; `dialect` is that of `sql`, duckdb or bigquery.

    unsafe  of a local warehouse: any statements, with all that DuckDB can reach

    Raises, now or while batches are read, OptionError with the database's words and the tables and views, and
    WarehouseError for a damaged file of a table that is named.
    """
    if not sql.strip():
        raise OptionError("query: it is empty; ask for example 'SELECT * FROM quality_summary'")
    if not sql.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in sql):  # how Python carries such bytes of a shell
        raise OptionError(f"query: got {sql.encode(errors='backslashreplace').decode()}; allowed: UTF-8")
    return warehouse.answer(sql, dialect, unsafe)
