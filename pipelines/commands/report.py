"""`audience report`: one page of charts over a warehouse."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all
from pipelines.system.terminal import faithful, say, shown
from transforms.errors import OptionError

OUTPUT = "report.html"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
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
    with open_asked(vars(values)) as warehouse:
        page = report(warehouse)
    if values.output == "-":
        faithful(page + "\n")
        return
    write_whole(values.output, page.encode())
    say(f"{shown(values.output)}: {len(page.encode()) / 1e6:.1f} MB; open it in a browser; it needs no network")


COMMAND = Command(
    add_options,
    run,
    "Write a report: one HTML page of charts about the last whole day of a warehouse.",
    "audience report --warehouse warehouse --output report.html",
)
