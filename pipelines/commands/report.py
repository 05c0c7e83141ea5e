"""`audience report`: a page of charts over a warehouse."""

from pipelines.commands import Command, say
from pipelines.options import add_all, place_of
from transforms.errors import OptionError

OUTPUT = "report.html"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument("--output", default=OUTPUT, help=f"HTML file; - is stdout (default: {OUTPUT})")


def run(values, rest) -> None:
    from pathlib import Path

    from pipelines.report import report
    from pipelines.warehouse.warehouse import opened

    if not values.output:
        raise OptionError("--output: got ''; allowed: a file, or - for stdout")
    with opened(*place_of(vars(values))) as warehouse:
        page = report(warehouse)
    if values.output == "-":
        print(page)
        return
    Path(values.output).write_text(page, encoding="utf-8")
    say(f"{values.output}: {len(page.encode()) / 1e6:.1f} MB; open it in a browser, it needs no network")


COMMAND = Command(
    add_options,
    run,
    "Write one HTML page of charts over a warehouse.",
    "audience report --warehouse warehouse --output report.html",
)
