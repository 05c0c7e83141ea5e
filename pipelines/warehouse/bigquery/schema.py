"""Tables and views of a dataset: made as they are declared, or checked, widened where nothing is lost, else refused.

    plan(...)               the schema by which a table holds what a run declares, or WarehouseError
    declare(...)            all tables checked, then made or widened, then the views

Widened is a table by new NULLABLE columns and by REQUIRED ones that become NULLABLE. Clusters and descriptions of what
is there are left as somebody may have changed them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import sqlglot
from google.api_core import exceptions
from google.cloud import bigquery
from sqlglot import exp

from pipelines.settings.attribution import Attribution
from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.bigquery.declared import column_of, declaration
from pipelines.warehouse.bigquery.errors import describe_error
from pipelines.warehouse.conditions import literal
from pipelines.warehouse.tables import ERASURES, EVENTS, QUARANTINE, Column, Table, bigquery_field
from pipelines.warehouse.views import bigquery_views
from transforms.errors import WarehouseError
from transforms.sessions.funnel import Funnel

HELD_LABEL = "audience_held"
FUNNEL_VIEW = "funnel_by_day"
ATTRIBUTION_VIEW = "attribution_by_day"


def table_resource(name: bigquery.TableReference, table: Table, expiry: timedelta | None) -> bigquery.Table:
    """The table as BigQuery is to make it."""
    resource = bigquery.Table(name, list(map(_field, table.columns)))
    resource.description = f"{table.description}\n\nKey: {', '.join(table.key)}."
    resource.time_partitioning = bigquery.TimePartitioning("DAY", table.partition, _milliseconds(expiry))
    resource.clustering_fields = list(table.cluster) or None
    return resource


def _milliseconds(expiry: timedelta | None) -> int | None:
    return None if expiry is None else int(expiry.total_seconds() * 1000)


def plan(found: bigquery.Table, table: Table) -> tuple[Table, list[bigquery.SchemaField] | None]:
    """(the table as it will be, its schema if that has to change). WarehouseError for what takes more than widening."""
    if found.table_type != "TABLE":
        raise _refused(found, table, f"it is a {found.table_type}, and a run writes a table of this name")
    partition = found.time_partitioning.field if found.time_partitioning else None
    if partition != table.partition:
        why = f"it is partitioned by {partition or 'nothing'} and has to be by {table.partition}"
        raise _refused(found, table, why)
    there = declaration(found)
    # Proofs are only appended: those of a version that hashed without a key stay beside the new ones.
    if there is not None and there.key != table.key and table.name != ERASURES.name:
        keys = f"by {', '.join(there.key)} there and by {', '.join(table.key)} in this run"
        raise _refused(found, table, f"its rows are identified {keys}")
    declared = {column.name: column for column in table.columns}
    fields = []
    for field in found.schema:
        was, column = column_of(field), declared.pop(field.name, None)
        if column is not None and sql_type(was) != sql_type(column):
            why = f"column {column.name!r} is {sql_type(was)} there and {sql_type(column)} in this run"
            raise _refused(found, table, why)
        keeps = was.mode != "REQUIRED" or (column is not None and column.mode == "REQUIRED")
        fields.append(field if keeps else _relaxed(field))
    new = [replace(column, mode=_nullable(column.mode)) for column in declared.values()]
    fields += [_field(column) for column in new]
    merged = replace(table, columns=tuple(map(column_of, fields)))
    return merged, fields if fields != list(found.schema) else None


def describe_change(warehouse: Dataset, table: Table) -> str | None:
    """What `declare` would do to a table, for a person, None if it would make it; nothing is changed.

    WarehouseError for what it would refuse.
    """
    with describe_error(warehouse.name, f"look at table {table.name}"):
        try:
            found = warehouse.client.get_table(warehouse.dataset.table(table.name))
        except exceptions.NotFound:
            return None
    _, fields = plan(found, table)
    if fields is None:
        return "as it has to be"
    there = {field.name for field in found.schema}
    new = [field.name for field in fields if field.name not in there]
    return f"gets {', '.join(new)}" if new else "takes NULL where it did not"


def _relaxed(field: bigquery.SchemaField) -> bigquery.SchemaField:
    return bigquery.SchemaField.from_api_repr(field.to_api_repr() | {"mode": "NULLABLE"})


def _field(column: Column) -> bigquery.SchemaField:
    return bigquery.SchemaField.from_api_repr(bigquery_field(column))


def sql_type(column: Column) -> str:
    """A column's type in BigQuery's SQL."""
    kind = column.type
    if kind == "RECORD":
        kind = f"STRUCT<{', '.join(f'{field.name} {sql_type(field)}' for field in column.fields)}>"
    return f"ARRAY<{kind}>" if column.mode == "REPEATED" else kind


def _nullable(mode: str) -> str:
    return "REPEATED" if mode == "REPEATED" else "NULLABLE"


def _refused(found: bigquery.Table, table: Table, why: str) -> WarehouseError:
    dataset = f"{found.project}.{found.dataset_id}"
    advice = "use another --dataset"
    if table.name not in (EVENTS.name, QUARANTINE.name):
        typed = f"{found.project}:{found.dataset_id}.{found.table_id}"
        rebuild = f"remove it with `bq rm -t {typed}` and rebuild it with `audience recompute --dataset {dataset}`"
        advice = f"{rebuild}, give the metric another name, or {advice}"
    return WarehouseError(f"table {dataset}.{found.table_id}: {why}; nothing was changed; {advice}")


def declare(
    warehouse: Dataset,
    tables: Iterable[Table],
    funnel: Funnel | None = None,
    attribution: Attribution | None = None,
) -> dict[str, Table]:
    """Check all tables, then make or widen them and bring the views up to date; the tables as they are then.

    Without a funnel or attribution its view stays what it is.
    """
    client = warehouse.client
    there = {item.table_id for item in client.list_tables(warehouse.dataset)}
    declared: dict[str, Table] = {}
    new: list[bigquery.Table] = []
    changed: list[tuple[bigquery.Table, list[str]]] = []
    for table in tables:
        reference = warehouse.dataset.table(table.name)
        if table.name not in there:
            declared[table.name] = table
            new.append(table_resource(reference, table, warehouse.partition_expiration))
            continue
        found = client.get_table(reference)
        declared[table.name], fields = plan(found, table)
        if names := _changes(found, fields, warehouse.partition_expiration):
            changed.append((found, names))
    held = held_in(client.get_dataset(warehouse.dataset).labels)
    views = bigquery_views(declared.values(), warehouse.time_zone, funnel, held, attribution)
    if taken := sorted({name for name, _ in views} & set(declared)):
        raise WarehouseError(f"table {taken[0]}: a view has this name; give the metric another name")
    for resource in new:
        client.create_table(resource, exists_ok=True)
    for resource, names in changed:
        client.update_table(resource, names)
    bring_views_up_to_date(warehouse, views, all=bool(changed))
    return declared


def held_in(labels: Mapping[str, str]) -> list[int]:
    """Return the generations that the labels of a dataset hold, see held.py."""
    return sorted(int(word) for word in labels.get(HELD_LABEL, "").split("_") if word.isdecimal())


def _changes(table: bigquery.Table, fields: list[bigquery.SchemaField] | None, expiry: timedelta | None) -> list[str]:
    """Set what is to change of a table, and name it. An expiry that is not asked for stays what it is."""
    names = []
    if fields is not None:
        table.schema = fields
        names.append("schema")
    wanted = _milliseconds(expiry)
    if wanted is not None and table.time_partitioning.expiration_ms != wanted:
        table.time_partitioning = bigquery.TimePartitioning("DAY", table.time_partitioning.field, wanted)
        names.append("time_partitioning")
    return names


def bring_views_up_to_date(warehouse: Dataset, views: list[tuple[str, str]], all: bool) -> None:
    """Create or replace the views whose SQL differs from the dataset's; `all` if columns have changed, since
    BigQuery notes the columns of a `SELECT *` when the view is made."""
    dataset = warehouse.name
    asked = f"SELECT table_name, view_definition FROM `{dataset}`.INFORMATION_SCHEMA.VIEWS"
    there = {row["table_name"]: row["view_definition"].strip() for row in warehouse.query(asked)}
    for name, sql in views:
        body = qualify(sql, dataset)
        if all or there.get(name) != body:
            described = f"OPTIONS (description = {literal(view_description(sql))})"
            warehouse.query(f"CREATE OR REPLACE VIEW `{dataset}.{name}` {described} AS {body}")


def check_funnel(warehouse: Dataset, funnel: Funnel) -> None:
    """Raise WarehouseError unless the dataset's view of the funnel is that of this one."""
    made = bigquery_views(warehouse.tables().values(), warehouse.time_zone, funnel)
    _check_view(warehouse, made, FUNNEL_VIEW, f"another funnel than {' > '.join(funnel.steps)} within {funnel.window}")


def check_attribution(warehouse: Dataset, attribution: Attribution) -> None:
    """Raise WarehouseError unless the dataset's view of attribution has this look-back."""
    made = bigquery_views(warehouse.tables().values(), warehouse.time_zone, attribution=attribution)
    _check_view(warehouse, made, ATTRIBUTION_VIEW, f"other visits than those of {attribution.look_back_days} days")


def _check_view(warehouse: Dataset, made: list[tuple[str, str]], name: str, other: str) -> None:
    wanted = dict(made).get(name)
    asked = f"SELECT view_definition FROM `{warehouse.name}`.INFORMATION_SCHEMA.VIEWS WHERE table_name = '{name}'"
    there = [row["view_definition"].strip() for row in warehouse.query(asked)]
    if wanted and there != [qualify(wanted, warehouse.name)]:
        raise WarehouseError(
            f"{warehouse.name}: {name} counts {other}; "
            "its view follows the last run: recompute a day with this --config, or leave --config out"
        )


def qualify(sql: str, dataset: str) -> str:
    """A view's SQL with its tables by their whole names, as BigQuery stores it."""
    project, _, name = dataset.rpartition(".")
    tree = sqlglot.parse_one(sql, read="bigquery")
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not table.args.get("db") and table.name not in own:
            table.set("db", exp.to_identifier(name, quoted=True))
            table.set("catalog", exp.to_identifier(project, quoted=True))
    return tree.sql(dialect="bigquery", pretty=True, comments=False)


def unqualify(sql: str) -> str:
    """A view's SQL with its tables by their names alone: what `qualify` undoes."""
    tree = sqlglot.parse_one(sql, read="bigquery")
    for table in tree.find_all(exp.Table):
        table.set("db", None)
        table.set("catalog", None)
    return tree.sql(dialect="bigquery", pretty=True, comments=False)


def view_description(sql: str) -> str:
    """What a view says of itself in its first line."""
    first = sql.lstrip().partition("\n")[0]
    return first.lstrip("- ").strip().replace("`", "") if first.startswith("--") else ""
