"""`audience stop`: stop a stream."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all
from pipelines.settings.resolve import landing_of, place_of
from pipelines.system.terminal import say
from transforms.errors import OptionError

WAIT_SECONDS = 120


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "landing", "config"))
    parser.add_argument(
        "--drain", action="store_true", help="Close and publish every open bucket: this stream will not be restarted"
    )
    parser.add_argument(
        "--wait",
        default=str(WAIT_SECONDS),
        metavar="SECONDS",
        help=f"Seconds to wait until the stream has stopped (default: {WAIT_SECONDS})",
    )


def run(values, rest) -> None:
    if not values.wait.isdigit():
        raise OptionError(f"--wait: got {values.wait!r}; allowed: a whole number of seconds")
    from pipelines.streaming.stop import stop, stop_into

    given = vars(values)
    place = place_of(given)
    if place.dataset:
        stop_into(place.dataset, landing_of(given), values.drain, float(values.wait), say)
    elif given["landing"] is not None:
        raise OptionError(f"--landing: got {given['landing']!r}; allowed: only with --dataset; leave it out")
    else:
        stop(str(place.warehouse), values.drain, float(values.wait), say)


COMMAND = Command(
    add_options,
    run,
    "Stop the stream into a warehouse; with --drain, publish every open bucket first.",
    "audience stop --warehouse warehouse --drain",
)
