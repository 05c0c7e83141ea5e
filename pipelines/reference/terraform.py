"""Generate templates/terraform/tables.json: the resources of a warehouse in BigQuery that Terraform creates.

    labels        identify the product's dataset; Terraform adds the label for the time zone
    first_commit  statements that create the table of the last commit
    tables        of the shipped configuration, as a first run would create them
    views         for readers: each is expanded down to the tables, so that none depends on another, and without
                  groups of few people (small_groups.py)

Placeholders `{{project}}`, `{{dataset}}`, `{{time_zone}}` and `{{minimum_group}}` are replaced as text.
"""

import json
from typing import Any

import sqlglot
from google.cloud.bigquery import TableReference
from sqlglot import exp

from pipelines.reference.small_groups import suppress
from pipelines.settings.config import read_config
from pipelines.warehouse.bigquery.dataset import FORMAT, FORMAT_LABEL, first_commit
from pipelines.warehouse.bigquery.schema import table_resource, view_description
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import TABLES, Table
from pipelines.warehouse.views import bigquery_views

DATASET = "{{project}}.{{dataset}}"


def tables_text() -> str:
    """Return the text of the file."""
    metrics = read_config(None).metrics
    tables = [*TABLES, *map(table_of, metrics)]
    document = {
        "made_by": "python -m pipelines.reference",
        "labels": {FORMAT_LABEL: str(FORMAT)},
        "first_commit": list(first_commit(DATASET)),
        "tables": [_table(table) for table in tables],
        "views": views(tables),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    resource = table_resource(TableReference.from_string("p.d.t"), table, None).to_api_repr()
    return {
        "name": table.name,
        "description": resource["description"],
        "partition": resource["timePartitioning"]["field"],
        "cluster": list(table.cluster),
        "schema": resource["schema"]["fields"],
    }


def views(tables: list[Table]) -> list[dict[str, str]]:
    """Return every view over these tables."""
    configuration = read_config(None)
    made = bigquery_views(tables, "{{time_zone}}", configuration.funnel, attribution=configuration.attribution)
    sql = dict(made)
    return [
        {
            "name": name,
            "description": view_description(text),
            "sql": suppress(name, _expand_sql(text, sql), lambda people: _expand_sql(people, sql)),
        }
        for name, text in sql.items()
    ]


def _expand_sql(text: str, views: dict[str, str]) -> str:
    return _expand(text, views).sql(dialect="bigquery", pretty=True, comments=False)


def _expand(text: str, views: dict[str, str]) -> exp.Expr:
    """Return a view's SQL with fully qualified tables, and with other views expanded in place."""
    tree = sqlglot.parse_one(text, read="bigquery")
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        if table.name in views:
            table.replace(
                exp.Subquery(this=_expand(views[table.name], views), alias=exp.to_identifier(table.alias_or_name))
            )
        elif table.name not in own:
            table.set("db", exp.to_identifier("{{dataset}}", quoted=True))
            table.set("catalog", exp.to_identifier("{{project}}", quoted=True))
    return tree
