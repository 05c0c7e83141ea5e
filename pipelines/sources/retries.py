"""Retries: how long to wait before each try of a request that failed for now."""

import random
from collections.abc import Iterator

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds between two tries


def waits() -> Iterator[float]:
    """Seconds to wait before each retry: they grow, each at random between a half and the whole."""
    wait = FIRST_WAIT
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(wait * 2, LONGEST_WAIT)
