"""The steps of the graph: one PTransform per file, with pure functions over blocks."""

import os

POLARS_THREADS = "POLARS_MAX_THREADS"
HAS_POLARS_THREADS = POLARS_THREADS in os.environ  # whether the person has set it
# A runner starts a process or a thread per core; Polars' own pool would only add context switches. A run of
# several threads gives it as many (pipelines/system/cores.py).
os.environ.setdefault(POLARS_THREADS, "1")
# Blocks are allocated and freed by the megabyte, by any thread: memory that Polars returns at once, or that one thread
# frees and another cannot use, is only faulted in again. A second is long enough for the next block to use it.
os.environ.setdefault("_RJEM_MALLOC_CONF", "narenas:1,oversize_threshold:0,dirty_decay_ms:1000,muzzy_decay_ms:0")
