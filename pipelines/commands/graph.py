"""The commands that run the graph: `audience backfill`, `recompute`, `replay`."""

import importlib
import sys
from functools import partial

from pipelines.commands import Command
from pipelines.options import add_all, options_of, resolve


def add_options(name: str, parser) -> None:
    add_all(parser, options_of(name))


def run(name: str, values, rest) -> None:
    if rest:
        from pipelines.launch import beam_options

        rest = beam_options(rest)
    settings = resolve(vars(values), name)
    from pipelines.bounded import warehouse_of
    from pipelines.summary import summary_lines

    # Each is the function of its own name: pipelines/backfill.py, recompute.py, replay.py.
    done = getattr(importlib.import_module(f"pipelines.{name}"), name)(settings, rest)
    with warehouse_of(settings) as warehouse:
        print("\n".join(summary_lines(done, warehouse)), file=sys.stderr)


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
