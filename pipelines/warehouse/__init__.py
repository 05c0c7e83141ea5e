"""The warehouse: tables declared once, the protocol of a warehouse, and its two kinds.

tables.py, views.py    what a table is, and the views of `templates/sql`: BigQuery SQL, transpiled for DuckDB
interface.py           `Warehouse` and `WarehouseRun`: all that callers use; open.py opens one of the two kinds
local/, bigquery/      Parquet files with DuckDB on top; a dataset of BigQuery. Neither imports the other
sink.py, staged.py     how the graph writes, and what a run has written before it commits
ask.py, render.py      a question in SQL, and its answer as text

May import settings, system, transforms.
"""
