"""The warehouse: tables declared once, and where their rows are stored.

Shared, and importing neither family below
  tables.py        what a table is; `events`, `quarantine`, `quality_1m`, and the shape of every metric's table
  warehouse.py     the protocol: what every warehouse and its run can do
  open.py          opens one by its options; the only module that knows both families, and nothing here imports it
  ask.py, query.py a question in SQL, and its answer as text
  metric_tables.py the tables of a run, made of the configured metrics
  views.py         the views of `templates/sql`, BigQuery SQL, transpiled for DuckDB
  rows.py          which rows: conditions for Polars and for BigQuery
  day_files.py     Parquet files of a table and day; staged.py: the same in a bucket
  sink.py          what the graph asks of a sink; file_sinks.py: the one that writes files
  books.py         the audit counts of a commit; losses.py, recount.py
  figures.py       how the writing of a stream stands

Local: Parquet files in a folder
  local.py         `LocalWarehouse`; local_folder.py: what is read of it
  manifest.py      the one file that says which Parquet files are live, swapped whole
  writer.py        one run's writing: lock, commit, compaction, what a killed run left behind
  notes.py         what the workers of a stream have written, for `appender.py`, which commits it while they write on
  tiers.py         which small files are merged next
  settled.py       which minutes of a stream have all their records in place
  damage.py        which files are not what was committed
  duckdb_connection.py  questions, answered by DuckDB

BigQuery: a dataset
  bigquery.py      `BigQueryWarehouse`; bigquery_dataset.py: what is read of it
  bigquery_run.py  one run's writing; bigquery_load.py, bigquery_claim.py, bigquery_schema.py
  bigquery_stream.py  the sink of a stream

May import settings, system, transforms.
"""
