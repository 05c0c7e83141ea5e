"""`audience run`: a queue into a warehouse, as long as it runs."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import resolve
from pipelines.system.terminal import say
from transforms.errors import OptionError


def add_options(parser) -> None:
    add_all(parser, options_of("run"))
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--runner", help="Beam's runner: PrismRunner, DirectRunner, DataflowRunner (default: the best that is here)"
    )
    group.add_argument("--prism_location", metavar="PATH", help="The Prism binary (default: the one of `make prism`)")


def run(values, rest) -> None:
    settings = resolve(vars(values), "run")
    from pipelines.runners.choose import choose

    runner = choose(values.runner, values.prism_location)
    if not runner.runs_here:
        return _launch(values, settings, rest)
    if settings.id_label is not None:
        raise OptionError(
            "--id_label is for Dataflow, which alone reads by it; leave it out: events are one by their id"
        )
    from pipelines.runners.in_process import beam_options
    from pipelines.streaming.stream import stream

    ended = stream(settings, runner, beam_options(rest), say)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(ended.rows.items())) or "nothing"
    say(f"{'drained' if ended.drained else 'stopped'} after {ended.seconds:.0f} s; rows written: {rows}")
    if ended.waiting:
        say(f"{ended.waiting:,} landed records are not reconciled yet: the next start reads them again")


def _launch(values, settings, rest) -> None:
    from pipelines.dataflow.template import LOCAL

    for name in sorted({*LOCAL, "prism_location"}):
        if getattr(values, name, None) is not None:
            raise OptionError(f"--{name} is of a stream on this machine; leave it out for a job on Dataflow")
    from pipelines.dataflow.job import launch
    from pipelines.runners.in_process import beam_options

    say(launch(settings, beam_options(rest)).said)


COMMAND = Command(
    add_options,
    run,
    "Read a queue into a warehouse, as long as it runs.",
    "audience run --input_subscription projects/my-project/subscriptions/events --warehouse warehouse",
    takes_beam_options=True,
)
