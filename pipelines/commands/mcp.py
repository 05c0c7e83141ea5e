"""`audience mcp`: answer an agent's questions about the warehouse, over standard input and output."""

from pipelines.commands import Command, number
from pipelines.settings.arguments import add_all

ROWS, KILOBYTES, SECONDS, GIGABYTES = 1_000, 200, 30, 10


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument(
        "--people",
        action="store_true",
        help="Allow questions about single people: their ids, events, sessions and texts",
    )
    parser.add_argument(
        "--allow_sql",
        action="store_true",
        help="Allow a SELECT of the agent's own, over the same views",
    )
    limits = parser.add_argument_group("limits of an answer")
    limits.add_argument("--rows", metavar="N", help=f"Rows at most (default: {ROWS})")
    limits.add_argument("--kilobytes", metavar="N", help=f"Kilobytes of text at most (default: {KILOBYTES})")
    limits.add_argument("--seconds", metavar="N", help=f"Seconds after which it is stopped (default: {SECONDS})")
    limits.add_argument(
        "--gigabytes",
        metavar="N",
        help=f"Gigabytes that BigQuery may bill; a question that would read more is refused (default: {GIGABYTES})",
    )


def run(values, rest) -> None:
    rows = number("rows", values.rows or str(ROWS), 1, 100_000)
    kilobytes = number("kilobytes", values.kilobytes or str(KILOBYTES), 1, 100_000)
    seconds = number("seconds", values.seconds or str(SECONDS), 0.1, 3_600)
    gigabytes = number("gigabytes", values.gigabytes or str(GIGABYTES), 0.01, 1_000_000)

    from pipelines.apps.mcp.scope import Limits, Scope
    from pipelines.apps.mcp.serve import serve
    from pipelines.warehouse.configured import open_asked

    limits = Limits(int(rows), int(kilobytes * 1e3), seconds, int(gigabytes * 1e9))
    with open_asked(vars(values)) as warehouse:
        serve(Scope(warehouse, values.people, values.allow_sql, limits))


COMMAND = Command(
    add_options,
    run,
    "Answer an agent's questions about the warehouse: a server of the Model Context Protocol.",
    "audience mcp --warehouse warehouse",
)
