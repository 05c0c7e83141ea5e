"""Cores: how many of this machine's a run uses, and as many threads for Polars."""

import os
import sys

from transforms import HAS_POLARS_THREADS, POLARS_THREADS

MOST_CORES = 4


def core_count() -> int:
    """Return how many cores a run uses."""
    return min(os.cpu_count() or 1, MOST_CORES)


def give_polars_threads() -> None:
    """Let Polars have a thread for each core: for a run whose threads hand it work.

    Without effect once it is imported, which is when it reads the number, and where the person has set one.
    """
    if not HAS_POLARS_THREADS and "polars" not in sys.modules:
        os.environ[POLARS_THREADS] = str(core_count())
