"""Simulated events that happen now: each gets its times in the moment in which it is published.

Live(events, seed, faults)   a day of deliveries in their order, and their ledger
.lines(first, count, now)    some of them, received `now`

What lies between the times of a record stays as it was made: how late it is, how far a clock is off. A copy tells the
times of the event that it repeats. What lies between two records becomes the time between their publishing.

A queue tells of every message when it was published. So a record without any time is one without its own, and accepted;
and no copy can be a day late in a stream of minutes.
"""

import msgspec
import numpy as np
import polars as pl

from pipelines.apps.simulator.deliveries import deliver
from pipelines.apps.simulator.events import Audience, events_of
from pipelines.apps.simulator.faults import USUAL_FAULTS, Faults
from pipelines.apps.simulator.ledger import Books
from pipelines.apps.simulator.lines import lines_of
from pipelines.apps.simulator.simulate import FIRST_DAY
from pipelines.apps.simulator.topic import Line


class Live:
    """Deliveries to be published in their order; `ledger` is that of all of them, whenever they are published.

    Memory  some 300 bytes an event. Raises OptionError for a number or a rate out of its bounds.
    """

    def __init__(self, events: int, seed: int, faults: Faults = USUAL_FAULTS):
        faults = msgspec.structs.replace(faults, repeats_too_late=0.0)
        books = Books(Audience(events, seed, 1, FIRST_DAY), faults)
        blocks = []
        for block in range(books.audience.blocks):
            made = deliver(faults, books.audience, block, events_of(books.audience, block))
            blocks.append(_through_a_queue(made))
            books.add(blocks[-1])
        self.ledger = books.ledger()
        self._made = pl.concat(blocks).sort("arrival", "index", "copy")
        self._shifts = np.zeros(events, dtype=np.int64)  # ms from the times of an event as made to those it was given

    def __len__(self) -> int:
        return self._made.height

    def lines(self, first: int, count: int, now: float) -> list[Line]:
        """The deliveries from `first` on, received `now` (seconds since 1970); each number once, and in order."""
        part, now_ms = self._made.slice(first, count), int(now * 1000)
        new = part.filter(pl.col("copy") == 0)
        self._shifts[new["index"].to_numpy()] = now_ms - new["arrival"].to_numpy()
        shift = pl.lit(pl.Series(self._shifts[part["index"].to_numpy()]))
        timed = part.with_columns(
            pl.col("event_ms", "sent_ms") + shift,
            received_ms=pl.when(pl.col("received_ms").is_not_null()).then(now_ms),
            arrival=pl.lit(now_ms, pl.Int64),
        )
        return [(None, line) for line in lines_of(timed)["line"].to_list()]


def _through_a_queue(made: pl.DataFrame) -> pl.DataFrame:
    """The deliveries, with what a queue makes of those that tell no time."""
    timeless = pl.col("fault") == "no_time"
    return made.with_columns(
        fault=pl.when(timeless).then(pl.lit("missing_time")).otherwise("fault"),
        code=pl.when(~timeless).then("code"),
    )
