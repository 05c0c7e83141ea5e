"""The command line without sessions, to measure the rest of the graph in the benchmarks.

python benchmarks/without_sessions.py backfill --input INPUT.jsonl --warehouse OUT
"""

import sys

from pipelines.runners.beam_import import import_local_beam

import_local_beam()  # as the command itself, before anything else imports Beam

import apache_beam as beam  # noqa: E402
import polars as pl  # noqa: E402

from pipelines import audience  # noqa: E402
from pipelines.cli import main  # noqa: E402


def no_sessions(events, job):
    """Replace the sessions of `events` by no rows."""
    return events.pipeline | "Make no sessions" >> beam.Create([]).with_output_types(pl.DataFrame)


if __name__ == "__main__":
    audience._sessions = no_sessions
    sys.exit(main())
