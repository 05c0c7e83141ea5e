"""How far a queue has been read: a lower bound of the received times that are still to come, in event time.

Watermark    of one reader: from what it pulled lately while there is something to pull, from the clock while not
SteadyClock  the wall clock, without the jumps that do not last

All times in seconds since 1970, durations in seconds.
"""

import time
from collections import deque
from collections.abc import Callable

NOT_KNOWN = float("-inf")
LATELY_SECONDS = 5.0  # messages pulled within it stand for what the next pull may return
LASTING_SECONDS = 300.0  # a wall clock that differs for so long was corrected
DRIFT_SECONDS = 1.0  # a smaller step is no jump


class SteadyClock:
    """Seconds since 1970 by the wall clock. A jump forward counts only once it has lasted, a jump back at once.

    Following a jump forward would close open windows; following a jump back only delays them.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic):
        self.wall, self.monotonic = wall, monotonic
        self.offset = wall() - monotonic()
        self.jump: tuple[float, float] | None = None  # its size, and since when

    def __call__(self) -> float:
        wall, monotonic = self.wall(), self.monotonic()
        step = wall - (self.offset + monotonic)
        if abs(step) <= DRIFT_SECONDS:
            self.offset, self.jump = self.offset + step, None
        elif self.jump is None or abs(step - self.jump[0]) > DRIFT_SECONDS:
            self.jump = (step, monotonic)
        elif monotonic - self.jump[1] >= LASTING_SECONDS:
            self.offset, self.jump = self.offset + step, None
        return min(wall, self.offset + monotonic)


class Watermark:
    """The watermark of one reader, in seconds since 1970; NOT_KNOWN until the queue has answered once.

    Never goes back, and never passes the clock less `expected_delay`.
    """

    def __init__(self, expected_delay: float, clock: Callable[[], float]):
        self.expected_delay, self.clock = expected_delay, clock
        self.lately: deque[tuple[float, float]] = deque()  # (when pulled, its earliest received time), not sorted
        self.value = NOT_KNOWN

    def pulled(self, received: float) -> None:
        """A pull brought records, the earliest of them received then."""
        self.lately.append((self.clock(), received))

    def follow(self, other: float) -> float:
        """The watermark now of a reader that rests: that of the one that reads in its place."""
        self.lately.clear()
        self.value = max(self.value, other)
        return self.value

    def advance(self, waiting: float | None, is_empty: bool) -> float:
        """The watermark now.

        waiting   the earliest received time of what is pulled and not yet handed on; None if there is none
        is_empty  whether the queue is known to have nothing for this reader
        """
        now = self.clock()
        while self.lately and not now - LATELY_SECONDS <= self.lately[0][0] <= now:
            self.lately.popleft()  # also what is dated ahead, by a clock that went back since
        if is_empty:
            self.lately.clear()
        bounds = [received for _, received in self.lately] + ([waiting] if waiting is not None else [])
        if bounds or is_empty:
            self.value = max(self.value, min([now, *bounds]) - self.expected_delay)
        return self.value
