"""`audience report`: one page of charts over a warehouse."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all
from pipelines.settings.values import NAMED, Given, value_of
from pipelines.system.terminal import faithful, say, shown
from transforms.errors import OptionError

OUTPUT = "report.html"
WINDOW = "default: the year up to the last day"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    for name, meaning in (("start", "First day of the charts"), ("end", "Day after the last one of the charts")):
        parser.add_argument(
            f"--{name}", metavar="YYYY-MM-DD", help=f"{meaning}, in the warehouse's time zone ({WINDOW})"
        )
    parser.add_argument(
        "--output",
        default=OUTPUT,
        help=f"HTML file to write, readable by you only (0600); - for stdout (default: {OUTPUT})",
    )


def run(values, rest) -> None:
    from pipelines.apps.report.page import report
    from pipelines.system.private import write_whole
    from pipelines.warehouse.configured import open_asked

    if not values.output:
        raise OptionError("--output: got ''; allowed: a file, or - for stdout")
    start, end = (
        None if text is None else value_of(NAMED[name], Given(text, "option"))
        for name, text in (("start", values.start), ("end", values.end))
    )
    if start and end and start >= end:
        raise OptionError(f"--start {start} is not before --end {end}: --end is the day after the last one drawn")
    with open_asked(vars(values)) as warehouse:
        page = report(warehouse, start, end)
    if values.output == "-":
        faithful(page + "\n")
        return
    write_whole(values.output, page.encode())
    say(f"{shown(values.output)}: {len(page.encode()) / 1e3:,.0f} kB; open it in a browser; it needs no network")


COMMAND = Command(
    add_options,
    run,
    "Write a report: one HTML page of charts about the last year of a warehouse, or about other days.",
    "audience report --warehouse warehouse --start 2026-03-01 --end 2026-04-01 --output march.html",
)
