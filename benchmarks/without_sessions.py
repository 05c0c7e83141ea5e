"""The command line without sessions, to measure the rest of the graph in the benchmarks.

python benchmarks/without_sessions.py backfill --input INPUT.jsonl --warehouse OUT
"""

import sys

import apache_beam as beam
import polars as pl

from pipelines import audience
from pipelines.cli import main


def no_sessions(events, job):
    """Replace the sessions of `events` by no rows."""
    return events.pipeline | "Make no sessions" >> beam.Create([]).with_output_types(pl.DataFrame)


if __name__ == "__main__":
    audience._sessions = no_sessions
    sys.exit(main())
