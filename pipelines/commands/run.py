"""`audience run`: stream a queue into a warehouse until stopped."""

from pipelines.commands import Command, launch_on_dataflow
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import Settings, resolve
from pipelines.system.terminal import say
from transforms.errors import OptionError


def add_options(parser) -> None:
    add_all(parser, options_of("run"))
    group = parser.add_argument_group("runner")
    group.add_argument(
        "--runner", help="Beam runner: PrismRunner, DirectRunner or DataflowRunner (default: the best one available)"
    )
    group.add_argument("--prism_location", metavar="PATH", help="Prism binary (default: the one from `make prism`)")


def run(values, rest) -> None:
    settings = resolve(vars(values), "run")
    from pipelines.runners.choose import choose

    runner = choose(values.runner, values.prism_location)
    if not runner.runs_here:
        from pipelines.dataflow.template import LOCAL

        return launch_on_dataflow(values, settings, rest, "a stream", {*LOCAL, "prism_location"}, _launch)
    if settings.id_label is not None:
        raise OptionError("--id_label is only for Dataflow; leave it out: events are deduplicated by event_id")
    from pipelines.runners.in_process import beam_options
    from pipelines.streaming.stream import stream

    ended = stream(settings, runner, beam_options(rest), say)
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(ended.rows.items())) or "nothing"
    say(f"{'drained' if ended.drained else 'stopped'} after {ended.seconds:.0f} s; rows written: {rows}")
    if ended.waiting:
        say(f"{ended.waiting:,} landed records are not reconciled yet: the next start reads them again")


def _launch(settings: Settings, beam_options: list[str]):
    from pipelines.dataflow.job import launch

    return launch(settings, beam_options)


COMMAND = Command(
    add_options,
    run,
    "Stream a queue into the warehouse until stopped.",
    "audience run --input_subscription projects/my-project/subscriptions/events --warehouse warehouse",
    takes_beam_options=True,
)
