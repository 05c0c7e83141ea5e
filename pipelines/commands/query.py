"""`audience query`: query the warehouse in SQL."""

from pipelines.commands import Command, add_form
from pipelines.settings.arguments import add_all
from pipelines.settings.resolve import place_of
from pipelines.system.terminal import put
from transforms.errors import OptionError


def add_options(parser) -> None:
    parser.add_argument("sql", metavar="SQL", help="the query; tables and views: audience query 'SHOW TABLES'")
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument(
        "--dialect",
        choices=("duckdb", "bigquery"),
        help="SQL dialect of the query (default: duckdb; with --dataset always bigquery)",
    )
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="Allow every DuckDB statement: it may read and write any file that you can, load extensions and use the "
        "network. Without it, a query is one statement that can only read the warehouse",
    )
    add_form(parser)


def run(values, rest) -> None:
    from pipelines.warehouse.ask import run_query
    from pipelines.warehouse.configured import open_asked
    from pipelines.warehouse.render import render

    place = place_of(vars(values))
    dialect = values.dialect or ("bigquery" if place.dataset else "duckdb")
    if place.dataset and dialect != "bigquery":
        raise OptionError(f"--dialect: got {dialect!r}; allowed with --dataset: bigquery, where the query runs")
    if place.dataset and values.unsafe:
        raise OptionError("--unsafe: got it with --dataset; allowed: with --warehouse, whose queries run in DuckDB")
    with open_asked(vars(values)) as warehouse:
        # DuckDB itself answers for a folder: its error messages are better than those of the common dialect.
        answer = run_query(warehouse, values.sql, dialect, values.unsafe)
        put(render(answer, values.form), values.form)


COMMAND = Command(
    add_options,
    run,
    "Query the warehouse in SQL.",
    'audience query "SELECT * FROM quality_summary" --csv',
)
