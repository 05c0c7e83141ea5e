"""Generate templates/sql/duckdb.json: the views of the shipped configuration in DuckDB's SQL.

A query of them then needs no SQL parser, which takes longer to import than most questions to answer. What is not in the
file, such as the view of a custom metric, is translated when it is asked.
"""

import json

from pipelines.settings.config import read_config
from pipelines.warehouse.dialect import relations_of, to_duckdb
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.views import TIME_ZONE, TRANSLATIONS, bigquery_views, fingerprint

__all__ = ["TRANSLATIONS", "translations_text"]


def translations_text() -> str:
    """Return the text of the file: fingerprint of BigQuery's SQL -> what it reads, and DuckDB's SQL."""
    configuration = read_config(None)
    views = bigquery_views([*TABLES, *map(table_of, configuration.metrics)], TIME_ZONE, configuration.funnel)
    document = {
        fingerprint(sql): {"view": name, "reads": sorted(relations_of(sql)), "duckdb": to_duckdb(sql)}
        for name, sql in views
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
