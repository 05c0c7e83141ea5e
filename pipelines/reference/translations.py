"""Generate templates/sql/duckdb.json: the views of the shipped configuration in DuckDB's SQL.

A query of them then needs no SQL parser, which takes longer to import than most questions to answer. What is not in the
file, such as the view of a custom metric, is translated when it is asked.
"""

import json

from pipelines.settings.config import read_config
from pipelines.warehouse.dialect import relations_of, view_to_duckdb
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.views import CURRENT, TIME_ZONE, TRANSLATIONS, VIEWS, bigquery_views, fingerprint

__all__ = ["TRANSLATIONS", "translations_text"]


def translations_text() -> str:
    """Return the text of the file: fingerprint of BigQuery's SQL -> what it reads, and DuckDB's SQL."""
    configuration = read_config(None)
    tables = [*TABLES, *map(table_of, configuration.metrics)]
    views = bigquery_views(tables, TIME_ZONE, configuration.funnel, attribution=configuration.attribution)
    named = frozenset(view.name for view in VIEWS)
    document = {
        fingerprint(sql): {
            "view": name,
            "reads": sorted(relations_of(sql)),
            "duckdb": view_to_duckdb(sql, named, name.endswith(CURRENT)),
        }
        for name, sql in views
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
