"""`audience demo`: from raw files to answers and a report, or a stream from a queue."""

from pipelines.commands import Command, number
from transforms.errors import OptionError

RATE, MINUTES = 500.0, 1.0


def add_options(parser) -> None:
    parser.add_argument(
        "--folder", help="Folder for the events, the warehouse and the report (default: demo, or demo-stream)"
    )
    group = parser.add_argument_group("stream")
    group.add_argument(
        "--stream",
        action="store_true",
        help="Stream from a queue instead: Google's Pub/Sub emulator, and the stream on Prism",
    )
    group.add_argument("--rate", help=f"Messages per second (default: {RATE:.0f})")
    group.add_argument("--minutes", help=f"Minutes to publish for (default: {MINUTES:.0f})")
    group.add_argument(
        "--dataset",
        metavar="PROJECT.DATASET",
        help="Stream into BigQuery, into this new dataset, which the demo creates",
    )
    group.add_argument(
        "--prism_location", metavar="PATH", help="Prism binary (default: the one that `make prism` builds)"
    )


def run(values, rest) -> int | None:
    if values.stream:
        rate = number("rate", values.rate, 1, 100_000) if values.rate is not None else RATE
        minutes = number("minutes", values.minutes, 0.05, 1_000) if values.minutes is not None else MINUTES
        from pipelines.apps.demo.stream import stream_demo

        return stream_demo(values.folder or "demo-stream", rate, minutes, values.prism_location, values.dataset)
    for name in ("rate", "minutes", "dataset", "prism_location"):
        if getattr(values, name) is not None:
            raise OptionError(f"--{name} is for a stream; add --stream, or leave it out")
    from pipelines.apps.demo.files import demo

    demo(values.folder or "demo")
    return None


COMMAND = Command(
    add_options,
    run,
    "Load sample data, query it and write a report; with --stream, from a queue.",
    "audience demo --folder demo",
)
