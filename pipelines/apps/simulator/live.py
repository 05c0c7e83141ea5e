"""Simulated events that happen now: each gets its times when it is published.

Live(events, seed, faults)   a day of deliveries in order, and their ledger
.lines(first, count, now)    some of them, received `now`

The differences between the times of a record do not change: its delay, and the error of its clock. A copy has the times
of the event that it repeats. The time between two records becomes the time between their publishing.

A queue adds the publish time to every message. So a record without any time is one without event_time, and accepted;
and no copy can be a day late in a stream of minutes.
"""

import msgspec
import numpy as np
import polars as pl

from pipelines.apps.simulator.deliveries import deliver
from pipelines.apps.simulator.events import Audience, events_of
from pipelines.apps.simulator.faults import USUAL_FAULTS, Faults
from pipelines.apps.simulator.ledger import Tally
from pipelines.apps.simulator.lines import lines_of
from pipelines.apps.simulator.simulate import FIRST_DAY
from pipelines.apps.simulator.topic import Line


class Live:
    """Deliveries to be published in order; `ledger` covers all of them, whenever they are published.

    Memory  some 300 bytes an event. Raises OptionError for a number or a rate out of bounds.
    """

    def __init__(self, events: int, seed: int, faults: Faults = USUAL_FAULTS):
        faults = msgspec.structs.replace(faults, repeats_too_late=0.0)
        tally = Tally(Audience(events, seed, 1, FIRST_DAY), faults)
        blocks = []
        for block in range(tally.audience.blocks):
            deliveries = deliver(faults, tally.audience, block, events_of(tally.audience, block))
            blocks.append(_add_publish_time(deliveries))
            tally.add(blocks[-1])
        self.ledger = tally.ledger()
        self._deliveries = pl.concat(blocks).sort("arrival", "index", "copy")
        self._shifts = np.zeros(events, dtype=np.int64)  # ms from the generated times of an event to its published ones

    def __len__(self) -> int:
        return self._deliveries.height

    def lines(self, first: int, count: int, now: float) -> list[Line]:
        """`count` deliveries from `first`, received `now` (seconds since 1970); each number once, in order."""
        part, now_ms = self._deliveries.slice(first, count), int(now * 1000)
        new = part.filter(pl.col("copy") == 0)
        self._shifts[new["index"].to_numpy()] = now_ms - new["arrival"].to_numpy()
        shift = pl.lit(pl.Series(self._shifts[part["index"].to_numpy()]))
        timed = part.with_columns(
            pl.col("event_ms", "sent_ms") + shift,
            received_ms=pl.when(pl.col("received_ms").is_not_null()).then(now_ms),
            arrival=pl.lit(now_ms, pl.Int64),
        )
        return [(None, line) for line in lines_of(timed)["line"].to_list()]


def _add_publish_time(deliveries: pl.DataFrame) -> pl.DataFrame:
    """The deliveries, of which those without any time are accepted, as a queue adds one."""
    timeless = pl.col("fault") == "no_time"
    return deliveries.with_columns(
        fault=pl.when(timeless).then(pl.lit("missing_time")).otherwise("fault"),
        code=pl.when(~timeless).then("code"),
    )
