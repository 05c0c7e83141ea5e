"""What a pass asks of each day: a local warehouse keeps the answer for as long as the day stays as it is.

The answer of a day may depend on nothing but the rows of the day and of the stated days beside it, so not on `as_of`:
a refresh asks the days that have changed, and reads what is kept of the others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from pipelines.insight.shape import Inputs
from pipelines.warehouse.conditions import DAY, midnight
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.kept_days import DayRows, KeptDays
from pipelines.warehouse.local.warehouse import LocalWarehouse

if TYPE_CHECKING:
    import polars as pl

    from pipelines.settings.config import Configuration


class DayQuestion(NamedTuple):
    """A question about each day.

    rows     its name, what it reads, and all that its answer depends on beside the rows
    ask      (inputs, since, end) -> the rows whose `time` is from `since` to before `end`, in a fixed schema and order
    time     the column that decides the day, of UTC
    """

    rows: DayRows
    ask: "Callable[[Inputs, datetime, datetime], pl.DataFrame]"
    time: str = "bucket_start"


@contextmanager
def asking(warehouse: Warehouse, as_of: datetime, configuration: "Configuration") -> Iterator[Inputs]:
    """The inputs of a pass, all of one state of a local warehouse, whose days are kept."""
    if not isinstance(warehouse, LocalWarehouse):
        with warehouse.asking() as ask:
            yield Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), configuration)
        return
    from pipelines.warehouse.local.duckdb_connection import asking as asking_one_state

    manifest = warehouse.manifest()
    with asking_one_state(warehouse, manifest) as ask:
        kept = KeptDays(warehouse, manifest)
        yield Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), configuration, kept)


def ask_days(inputs: Inputs, question: DayQuestion, since: datetime, end: datetime) -> "pl.DataFrame":
    """The rows from `since` to before `end`, in the order of the days, and of each day in that of the question."""
    import polars as pl

    from transforms.block import day_of

    if inputs.kept is None:
        return question.ask(inputs, since, end)
    kept, rows, zone = inputs.kept, question.rows, inputs.time_zone
    first, last = (at.astimezone(ZoneInfo(zone)).date() for at in (since, end))
    days, found = kept.days(rows, first, last), dict[date, "pl.DataFrame"]()
    for run in kept.missing(rows, days):
        asked, day = _of_days(inputs, question, run), day_of(pl.col(question.time), zone)
        by_day = {each: asked.filter(day == each) for each in run}
        kept.keep(rows, by_day)
        found |= by_day
    for each in days:
        if each not in found:
            again = kept.read(rows, each)  # None: a run has removed it since
            found[each] = _of_days(inputs, question, [each]) if again is None else again
    if not found:
        return question.ask(inputs, since, since)
    time = pl.col(question.time)
    return pl.concat(found[each] for each in days).filter((time >= since) & (time < end))


def _of_days(inputs: Inputs, question: DayQuestion, run: list[date]) -> "pl.DataFrame":
    zone = inputs.time_zone
    return question.ask(inputs, midnight(run[0], zone), midnight(run[-1] + DAY, zone))
