"""`audience demo`: from raw files to answers."""

from pipelines.commands import Command


def add_options(parser) -> None:
    parser.add_argument(
        "--folder", default="demo", help="Folder for the simulated events and the warehouse (default: demo)"
    )


def run(values, rest) -> None:
    from pipelines.demo import demo

    demo(values.folder)


COMMAND = Command(
    add_options,
    run,
    "Sample data and simulated events, from raw files to answers.",
    "audience demo --folder demo",
)
