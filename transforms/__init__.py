"""The graph's parts: one PTransform a file, pure functions over blocks beside it."""

import os

# A runner starts a process or a thread for each core; Polars' own pool beside them only adds switching.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
