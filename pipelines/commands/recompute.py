"""`audience recompute`: the days of a warehouse anew, from its own events."""

import sys

from pipelines.commands import Command
from pipelines.commands.backfill import checked
from pipelines.options import add_all, options_of


def add_options(parser) -> None:
    add_all(parser, options_of("recompute"))


def run(values, rest) -> None:
    settings, rest = checked(values, rest, "recompute")
    from pipelines.recompute import recompute
    from pipelines.summary import summary_lines

    done = recompute(settings, rest)
    print("\n".join(summary_lines(done, settings.warehouse)), file=sys.stderr)


COMMAND = Command(
    add_options,
    run,
    "Write days anew from the warehouse's own events, with what was too late for them.",
    "audience recompute --start 2026-03-01 --end 2026-03-08",
    takes_beam_options=True,
)
