"""`audience query`: a question in SQL."""

from pipelines.commands import Command
from pipelines.options import add_all, warehouse_of


def add_options(parser) -> None:
    parser.add_argument("sql", metavar="SQL", help="the query; tables and views: audience query 'SHOW TABLES'")
    add_all(parser, ("warehouse", "config"))
    parser.add_argument(
        "--dialect", default="duckdb", choices=("duckdb", "bigquery"), help="SQL of the query (default: duckdb)"
    )
    add_form(parser)


def add_form(parser) -> None:
    """How rows are printed: the same options for every command that prints some."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--csv", dest="form", action="store_const", const="csv", default="table", help="CSV with a header"
    )
    form.add_argument("--json", dest="form", action="store_const", const="json", help="One JSON object a row")


def run(values, rest) -> None:
    from pipelines.warehouse.local import LocalWarehouse
    from pipelines.warehouse.query import render, run_query

    warehouse = LocalWarehouse.open(warehouse_of(vars(values)))
    for line in render(run_query(warehouse, values.sql, values.dialect), values.form):
        print(line)


COMMAND = Command(
    add_options,
    run,
    "Ask the warehouse in SQL.",
    'audience query "SELECT * FROM quality_summary" --csv',
)
