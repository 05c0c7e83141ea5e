"""The warehouse: tables declared once, and where their rows lie.

tables.py    what a table is; `events`, `quarantine`, `quality_1m`, and the shape of every metric's table
manifest.py  the one file that says which Parquet files are live, swapped whole
local.py     `LocalWarehouse`: Parquet files a table and day, DuckDB on top
writer.py    one run's writing: lock, commit, compaction, what a killed run left behind
notes.py     what the workers of a stream have written, for `appender.py`, which commits it while they write on
tiers.py     which small files are merged next
settled.py   which minutes of a stream have all their records in place
views.py     the views of `templates/sql`, BigQuery SQL, transpiled for DuckDB
query.py     a question in SQL, and its answer as text
"""
