"""`audience query`: a question in SQL."""

from pipelines.commands import Command
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
        help="SQL of the query (default: duckdb, and bigquery with --dataset, which knows no other)",
    )
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="Allow every statement of DuckDB's: it may read and write any file that you may, load extensions and use "
        "the network. Without it a query is one statement that reads the warehouse and nothing else",
    )
    add_form(parser)


def add_form(parser) -> None:
    """How rows are printed: the same options for every command that prints some."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--csv",
        dest="form",
        action="store_const",
        const="csv",
        default="table",
        help="CSV with a header (RFC 4180). Texts stay as they are: import them as text into a spreadsheet, which "
        "takes one that begins with = + - or @ for a formula",
    )
    form.add_argument("--json", dest="form", action="store_const", const="json", help="One JSON object a row")


def run(values, rest) -> None:
    from pipelines.warehouse.ask import run_query
    from pipelines.warehouse.open import open_warehouse
    from pipelines.warehouse.render import render

    place = place_of(vars(values))
    dialect = values.dialect or ("bigquery" if place.dataset else "duckdb")
    if place.dataset and dialect != "bigquery":
        raise OptionError(f"--dialect: got {dialect!r}; allowed with --dataset: bigquery, which the query runs in")
    if place.dataset and values.unsafe:
        raise OptionError("--unsafe: got it with --dataset; allowed: with --warehouse, whose queries run in DuckDB")
    with open_warehouse(*place) as warehouse:
        # A folder is asked by DuckDB itself, which has more to say of a mistake than what both can do.
        answer = run_query(warehouse, values.sql, dialect, values.unsafe)
        put(render(answer, values.form), values.form)


COMMAND = Command(
    add_options,
    run,
    "Ask the warehouse in SQL.",
    'audience query "SELECT * FROM quality_summary" --csv',
)
