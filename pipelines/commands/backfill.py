"""`audience backfill`: files into the days of a warehouse."""

import sys

from pipelines.commands import Command
from pipelines.options import OPTIONS, add_to, resolve


def add_options(parser) -> None:
    for option in OPTIONS:
        add_to(parser, option)


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
