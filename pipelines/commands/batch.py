"""The commands that run the graph over a bounded input: `audience backfill`, `recompute`, `replay`."""

from functools import partial

from pipelines.commands import Command, launch_on_dataflow
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import Settings, resolve
from pipelines.system.cores import give_polars_threads
from pipelines.system.terminal import say
from transforms.errors import first_line


def add_options(name: str, parser) -> None:
    add_all(parser, options_of(name))
    if name == "backfill":
        parser.add_argument(
            "--runner",
            help="Beam runner: FnApiRunner on this machine, or DataflowRunner (default: FnApiRunner)",
        )


def run(name: str, values, rest) -> int | None:
    settings = resolve(vars(values), name)
    if not settings.workers:
        give_polars_threads()
    if runner := getattr(values, "runner", None):
        from pipelines.runners.choose import DATAFLOW

        if runner == DATAFLOW:
            from pipelines.dataflow.template import LOCAL

            launch_on_dataflow(values, rest, "a backfill", LOCAL, partial(_launch, settings))
            return None
        rest = [f"--runner={runner}", *rest]
    if rest:
        from pipelines.runners.in_process import beam_options

        rest = beam_options(rest)
    elif _is_local(settings):
        from pipelines.runners.beam_import import import_local_beam

        import_local_beam()
    from pipelines.assemble import open_configured
    from pipelines.batch.refused import lines_of
    from pipelines.batch.summary import audit_lines, summary_lines
    from pipelines.settings.config import read_config

    if settings.due:
        from pipelines.batch.due import due_settings, finish_due

        found, said = due_settings(settings)
        say(said)
        if found is None:
            return None
        settings = found
    done = _run_of(name)(settings, rest)
    if settings.due:
        finish_due(settings)
    try:
        with open_configured(settings) as warehouse:
            lines = summary_lines(done, warehouse, read_config(settings.config).funnel.steps)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # the rows are committed: the run has succeeded whatever happens from here on
        lines = [
            *lines_of(done.refused),
            *audit_lines(done),
            f"committed, but the rest of this summary failed: {first_line(problem)}",
        ]
    say("\n".join(lines))
    if done.refused and not settings.allow_quarantine:
        from pipelines.batch.refused import STATUS

        return STATUS
    return None


def _is_local(settings: Settings) -> bool:
    """Whether the run reads and writes nothing but files of this machine, so that it needs no client of a cloud."""
    places = (*settings.input, *settings.mapping, settings.config or "")
    return settings.dataset is None and not any("://" in place for place in places)


def _launch(settings: Settings, beam_options: list[str]):
    from pipelines.dataflow.backfill import launch

    return launch(settings, beam_options)


def _run_of(name: str):
    """Return the function that a command runs; importing it imports Beam."""
    if name == "backfill":
        from pipelines.batch.backfill import backfill

        return backfill
    if name == "recompute":
        from pipelines.batch.recompute import recompute

        return recompute
    from pipelines.batch.replay import replay

    return replay


def command_of(name: str, line: str, example: str) -> Command:
    """Return the command that calls the run of this name."""
    return Command(partial(add_options, name), partial(run, name), line, example, takes_beam_options=True)


COMMANDS = {
    "backfill": command_of(
        "backfill",
        "Read files of events into the days of a warehouse.",
        "audience backfill --input 'events/*.jsonl.gz' --mapping mapping.yaml --warehouse warehouse",
    ),
    "recompute": command_of(
        "recompute",
        "Rebuild days from stored events, including quarantined late events.",
        "audience recompute --start 2026-03-01 --end 2026-03-08",
    ),
    "replay": command_of(
        "replay",
        "Reprocess quarantined records with the current mapping and rules.",
        "audience replay --mapping mapping.yaml",
    ),
}
