"""The steps of the graph: one PTransform per file, with pure functions over blocks."""

import os

# A runner starts a process or a thread for each core; Polars' own pool beside them only adds switching.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
# Blocks come and go by the megabyte: memory that Polars gives back at once is only faulted in again (half of the
# system time of a backfill).
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")
