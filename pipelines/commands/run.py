"""`audience run`: a queue into a warehouse, as long as it runs."""

import sys

from pipelines.commands import Command
from pipelines.options import add_all, options_of, resolve


def add_options(parser) -> None:
    add_all(parser, options_of("run"))
    group = parser.add_argument_group("machine")
    group.add_argument("--runner", help="Beam's runner: PrismRunner, DirectRunner (default: the best that is here)")
    group.add_argument("--prism_location", metavar="PATH", help="The Prism binary (default: the one of `make prism`)")


def run(values, rest) -> None:
    settings = resolve(vars(values), "run")
    from pipelines.runners import choose

    choice = choose(values.runner, values.prism_location)
    from pipelines.launch import beam_options
    from pipelines.stream import stream

    ended = stream(settings, choice, beam_options(rest), _say)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(ended.rows.items())) or "nothing"
    _say(f"{'drained' if ended.drained else 'stopped'} after {ended.seconds:.0f} s; rows written: {rows}")
    if ended.waiting:
        _say(f"{ended.waiting:,} records landed and are not in the books yet: the next start reads them again")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command(
    add_options,
    run,
    "Read a queue into a warehouse, as long as it runs.",
    "audience run --input_subscription projects/my-project/subscriptions/events --warehouse warehouse",
    takes_beam_options=True,
)
