"""The commands that run the graph: `audience backfill`, `recompute`, `replay`."""

import importlib
from functools import partial

from pipelines.commands import Command
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import Settings, resolve
from pipelines.system.terminal import say
from transforms.errors import OptionError, first_line


def add_options(name: str, parser) -> None:
    add_all(parser, options_of(name))
    if name == "backfill":
        parser.add_argument(
            "--runner",
            help="Beam's runner: FnApiRunner on this machine, DataflowRunner for a job (default: FnApiRunner)",
        )


def run(name: str, values, rest) -> None:
    settings = resolve(vars(values), name)
    if runner := getattr(values, "runner", None):
        from pipelines.runners.choose import DATAFLOW

        if runner == DATAFLOW:
            return _launch(values, settings, rest)
        rest = [f"--runner={runner}", *rest]
    if rest:
        from pipelines.runners.in_process import beam_options

        rest = beam_options(rest)
    from pipelines.batch.days import warehouse_of
    from pipelines.batch.summary import books_lines, summary_lines

    # Each is the function of its own name: pipelines/batch/backfill.py, recompute.py, replay.py.
    done = getattr(importlib.import_module(f"pipelines.{name}"), name)(settings, rest)
    try:
        with warehouse_of(settings) as warehouse:
            lines = summary_lines(done, warehouse)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # the rows are in: whatever happens from here on, the run has succeeded
        lines = [*books_lines(done), f"committed; the rest of this summary cannot be made: {first_line(problem)}"]
    say("\n".join(lines))


def _launch(values, settings: Settings, rest) -> None:
    from pipelines.dataflow.template import LOCAL

    for option in sorted(LOCAL):
        if getattr(values, option, None) is not None:
            raise OptionError(f"--{option} is of a backfill on this machine; leave it out for a job on Dataflow")
    from pipelines.dataflow.backfill import launch
    from pipelines.runners.in_process import beam_options

    say(launch(settings, beam_options(rest)).said)


def command_of(name: str, line: str, example: str) -> Command:
    """The command that calls the run of this name."""
    return Command(partial(add_options, name), partial(run, name), line, example, takes_beam_options=True)


COMMANDS = {
    "backfill": command_of(
        "backfill",
        "Read files of events into the days of a warehouse.",
        "audience backfill --input 'events/*.jsonl.gz' --mapping mapping.yaml --warehouse warehouse",
    ),
    "recompute": command_of(
        "recompute",
        "Write days anew from the warehouse's own events, with what was too late for them.",
        "audience recompute --start 2026-03-01 --end 2026-03-08",
    ),
    "replay": command_of(
        "replay",
        "Send records in quarantine through today's mapping and rules.",
        "audience replay --mapping mapping.yaml",
    ),
}
