"""`audience stop`: end the stream that writes a warehouse."""

import sys

from pipelines.commands import Command
from pipelines.options import add_all, place_of
from transforms.errors import OptionError

WAIT_SECONDS = 120


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "config"))
    parser.add_argument(
        "--drain", action="store_true", help="Close every open bucket: nothing more will come, or not here"
    )
    parser.add_argument(
        "--wait", default=str(WAIT_SECONDS), help=f"Seconds to wait for its end (default: {WAIT_SECONDS})"
    )


def run(values, rest) -> None:
    if not values.wait.isdigit():
        raise OptionError(f"--wait: got {values.wait!r}; allowed: a whole number of seconds")
    from pipelines.stop import stop

    place = place_of(vars(values))
    if place.warehouse is None:
        raise OptionError(f"--dataset {place.dataset}: a stream that writes a folder is stopped by --warehouse FOLDER")
    stop(place.warehouse, values.drain, float(values.wait), _say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command(
    add_options,
    run,
    "End the stream that writes a warehouse; with --drain every open bucket is published first.",
    "audience stop --warehouse warehouse --drain",
)
