"""The warehouse: tables declared once, and where their rows are stored.

Shared, and importing neither kind
    tables.py, metric_tables.py   what a table is, and those of the configured metrics
    views.py, funnel_view.py      the views of `templates/sql`, BigQuery SQL, transpiled for DuckDB (dialect.py)
    interface.py                  the protocol: what every warehouse and its run can do
    open.py                       opens one by its options; the only module that knows both kinds
    ask.py, render.py             a question in SQL, and its answer as text
    conditions.py                 which rows: conditions for Polars and for BigQuery
    day_files.py, staged.py       Parquet files of a table and day, here or in a bucket
    sink.py, file_sinks.py        what the graph asks of a sink, and the one that writes files
    books.py, losses.py           the audit counts of a commit, and what of damaged files is lost; recount.py
    write_stats.py                progress of the writing of a stream

local/       a folder of Parquet files, a manifest, DuckDB
bigquery/    a dataset. Neither kind imports the other

May import settings, system, transforms.
"""
