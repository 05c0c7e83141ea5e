"""Compute every metric view in full: over a warehouse, or over the tables of the DuckDB rival.

    python -m benchmarks.views ours WAREHOUSE
    python -m benchmarks.views duckdb OUT_DIR     # as benchmarks/duckdb_rival.py leaves it

Both run the same SQL on different data: ours on rows of several generations and revisions, of which the newest count,
and on files that a stream may be writing; the rival's on tables that are written once.
"""

import argparse
import time
from pathlib import Path

import duckdb

from pipelines.settings.config import read_config
from pipelines.warehouse.dialect import to_duckdb
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.views import VIEWS, bigquery_views

# Records and their books, of which the rival keeps less.
LEFT_OUT = ("events_unique", "quality_summary", "quarantine_open", "quarantine_by_code", "live_now")
NUMBERS = [view.name for view in VIEWS if view.name not in LEFT_OUT]
TABLES = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")


def ours(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection like that of `audience query`."""
    return LocalWarehouse.open(folder).connect()


def theirs(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection with the views over the rival's files."""
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{folder}/events/*/*.parquet')")
    connection.execute("CREATE VIEW events_unique AS SELECT * FROM events")
    for table in TABLES:
        for name in (table, f"{table}_current"):  # written once, so every row is current
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{folder}/{table}.parquet')")
    config = read_config(None)
    tables = tables_of(config.metrics).values()
    for name, sql in bigquery_views(tables, "UTC", config.funnel, attribution=config.attribution):
        if name in NUMBERS:
            connection.execute(f"CREATE VIEW {name} AS {to_duckdb(sql)}")
    return connection


def main() -> None:
    """Compute each view, and print its rows and seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whose", choices=("ours", "duckdb"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    connection = ours(given.folder) if given.whose == "ours" else theirs(given.folder)
    for name in NUMBERS:
        begun = time.perf_counter()
        connection.execute(f"CREATE TEMP TABLE made AS SELECT * FROM {name}")
        rows = connection.execute("SELECT count(*) FROM made").fetchall()[0][0]
        connection.execute("DROP TABLE made")
        print(f"{name:<24} {rows:>9,} rows {time.perf_counter() - begun:7.2f} s")


if __name__ == "__main__":
    main()
