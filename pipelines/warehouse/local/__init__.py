"""The warehouse in a folder: Parquet files, a manifest, DuckDB to ask it. Never imports BigQuery's.

folder.py reads it, warehouse.py is the warehouse, run.py commits a batch, stream_commits.py a stream.
"""
