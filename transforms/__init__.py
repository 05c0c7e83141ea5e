"""The steps of the graph: one PTransform per file, with pure functions over blocks."""

import os

# A runner starts a process or a thread per core; Polars' own pool would only add context switches.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
# Blocks are allocated and freed by the megabyte: memory that Polars returns at once is only faulted in again (half of
# the system time of a backfill).
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")
