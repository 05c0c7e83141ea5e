"""`audience backfill`: files into the days of a warehouse."""

import sys

from pipelines.commands import Command
from pipelines.options import add_all, resolve


def add_options(parser) -> None:
    add_all(parser)


def run(values, rest) -> None:
    if rest:
        from pipelines.launch import beam_options

        rest = beam_options(rest)
    settings = resolve(vars(values))
    from pipelines.backfill import backfill
    from pipelines.summary import summary_lines

    done = backfill(settings, rest)
    print("\n".join(summary_lines(done, settings.warehouse)), file=sys.stderr)


COMMAND = Command(
    add_options,
    run,
    "Read files of events into the days of a warehouse.",
    "audience backfill --input 'events/*.jsonl.gz' --mapping mapping.yaml --warehouse warehouse",
    takes_beam_options=True,
)
