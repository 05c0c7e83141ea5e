"""`audience backfill`: files into the days of a warehouse."""

import sys

from pipelines.commands import Command
from pipelines.options import Settings, add_all, options_of, resolve


def add_options(parser) -> None:
    add_all(parser, options_of("backfill"))


def checked(values, rest, command: str) -> tuple[Settings, list[str]]:
    """The settings and Beam's options of a command that runs the graph."""
    if rest:
        from pipelines.launch import beam_options

        rest = beam_options(rest)
    return resolve(vars(values), command), rest


def run(values, rest) -> None:
    settings, rest = checked(values, rest, "backfill")
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
