"""`audience run`: stream a queue into a warehouse until stopped."""

from functools import partial

from pipelines.commands import Command, launch_on_dataflow
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import Settings, resolve
from pipelines.system.terminal import say
from transforms.errors import OptionError

FLINK = {
    "flink_job_server_jar": ("JAR", "Beam's job server for Flink, for --runner=FlinkRunner; see docs/flink.md"),
    "flink_master": ("HOST:PORT", "Flink session cluster (default: [local], inside the job server)"),
    "flink_checkpoints": ("FOLDER", "Folder for Flink's checkpoints; a start resumes from the newest whole one"),
}


def add_options(parser) -> None:
    add_all(parser, options_of("run"))
    group = parser.add_argument_group("runner")
    group.add_argument(
        "--runner",
        help="Beam runner: PrismRunner, DirectRunner, FlinkRunner or DataflowRunner (default: the best one available)",
    )
    group.add_argument("--prism_location", metavar="PATH", help="Prism binary (default: the one from `make prism`)")
    for name, (metavar, line) in FLINK.items():
        group.add_argument(f"--{name}", metavar=metavar, help=line)


def run(values, rest) -> None:
    settings = resolve(vars(values), "run")
    from pipelines.runners.choose import choose
    from pipelines.runners.flink import NAME, flink_of

    given = [getattr(values, name) for name in FLINK]
    if values.runner != NAME and (named := [f"--{name}" for name, value in zip(FLINK, given, strict=True) if value]):
        raise OptionError(f"{', '.join(named)}: only for --runner={NAME}; leave it out")
    if values.runner == NAME and settings.dataset is None:
        raise OptionError(
            f"--runner={NAME} needs --dataset: after a crash it writes events again, which only the views of BigQuery "
            "leave out; for a local warehouse use PrismRunner"
        )
    if values.runner == NAME and settings.input_subscription is None and settings.input_topic is None:
        raise OptionError(
            f"--runner={NAME} reads --input_subscription or --input_topic: the readers of other queues keep their "
            "position outside of Flink's checkpoints; use PrismRunner"
        )
    runner = choose(values.runner, values.prism_location, lambda: flink_of(*given))
    if not runner.runs_here:
        from pipelines.dataflow.template import LOCAL, OF_BEAMS_KAFKA

        own = LOCAL - OF_BEAMS_KAFKA if settings.kafka_reader == "beam" else LOCAL
        return launch_on_dataflow(values, rest, "a stream", {*own, "prism_location"}, partial(_launch, settings))
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
