"""`audience replay`: records out of quarantine, after a rule was mended."""

import sys

from pipelines.commands import Command
from pipelines.commands.backfill import checked
from pipelines.options import add_all, options_of


def add_options(parser) -> None:
    add_all(parser, options_of("replay"))


def run(values, rest) -> None:
    settings, rest = checked(values, rest, "replay")
    from pipelines.replay import replay
    from pipelines.summary import summary_lines

    done = replay(settings, rest)
    print("\n".join(summary_lines(done, settings.warehouse)), file=sys.stderr)


COMMAND = Command(
    add_options,
    run,
    "Send records in quarantine through today's mapping and rules.",
    "audience replay --mapping mapping.yaml",
    takes_beam_options=True,
)
