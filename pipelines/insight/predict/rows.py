"""Rows of persons as of a time T: the features before it, and what happened after it.

A feature is counted as profiles count, from what is stored and happened before T, by who was known to be whom then. So
features as of T are equal whenever they are computed, but for events that were received after T and happened before.
"""

from typing import TYPE_CHECKING

from pipelines.insight.people import people
from pipelines.insight.profiles import SHORT, counts, visits
from pipelines.insight.shape import Inputs
from pipelines.warehouse.conditions import DAY, moment
from transforms.insight.predict.features import NAMES, RECENCY, WINDOW_DAYS, Target

if TYPE_CHECKING:
    import polars as pl

WINDOW = WINDOW_DAYS * DAY
DAY_MICROS = DAY.total_seconds() * 1e6
_IS_PURCHASE = "e.event_type = 'purchase'"


def features(inputs: Inputs) -> "pl.DataFrame":
    """person (String), and FEATURES (Float64, none NULL): the persons seen in the 28 days before T, by person."""
    import polars as pl

    found = counts(inputs, inputs.as_of - WINDOW)
    found = found.join(visits(inputs), on="person", how="left").join(_bought(inputs), on="person", how="left")
    days = {
        name: (pl.lit(inputs.as_of, pl.Datetime("us", "UTC")) - pl.col(column)).dt.total_microseconds() / DAY_MICROS
        for name, column in (
            (RECENCY, "last_seen"),
            ("first_seen_days", "first_seen"),
            ("purchase_recency_days", "last_purchase"),
        )
    }
    found = found.with_columns(**days).with_columns(
        pl.col("purchase_recency_days").fill_null(float(WINDOW_DAYS)),
        missed_days=pl.col(RECENCY) * pl.col("active_days_28d") / pl.col("first_seen_days"),
    )
    return found.select("person", pl.col(NAMES).cast(pl.Float64).fill_null(0.0)).sort("person")


def _bought(inputs: Inputs) -> "pl.DataFrame":
    """person, purchases_7d, purchases_28d, last_purchase: of buyers; a purchase counts once."""
    import polars as pl

    columns = ["event_time", "source", "event_id", "received_time", "input"]
    each = (
        f"SELECT person, event_time FROM ({people(inputs, inputs.as_of - WINDOW, columns, _IS_PURCHASE)}) AS found "
        "WHERE TRUE QUALIFY ROW_NUMBER() OVER "
        "(PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1"
    )
    asked = inputs.ask(
        f"SELECT person, COUNT(CASE WHEN event_time >= {moment(inputs.as_of - SHORT)} THEN 1 END) AS purchases_7d, "
        f"COUNT(*) AS purchases_28d, MAX(event_time) AS last_purchase FROM ({each}) AS bought GROUP BY person"
    )
    return asked.select(
        pl.col("person").cast(pl.String),
        pl.col("purchases_7d", "purchases_28d").cast(pl.Int64),
        pl.col("last_purchase").cast(pl.Datetime("us", "UTC")),
    )


def seen(rows: "pl.DataFrame", target: Target) -> "pl.DataFrame":
    """The rows of the persons whom a target is predicted of."""
    import polars as pl

    return rows.filter(pl.col(RECENCY) <= target.seen_days)


def outcomes(inputs: Inputs, target: Target, persons: "pl.Series") -> "pl.Series":
    """Whether the target is so for each of the persons as of T, from what happened from T to before T + `days`.

    An event is of who it is known to be of at the end of these days, and also of the anonymous id that it has: so who
    logs in meanwhile is still the person it was at T.
    """
    import polars as pl

    later = inputs._replace(as_of=inputs.as_of + target.days * DAY)
    where = "TRUE" if target.event_type is None else f"e.event_type = '{target.event_type}'"
    asked = inputs.ask(
        f"SELECT DISTINCT person, anonymous_id FROM ({people(later, inputs.as_of, ['anonymous_id'], where)}) AS found"
    )
    did = pl.concat([asked[name].cast(pl.String) for name in ("person", "anonymous_id")]).unique()
    return persons.is_in(did.implode()) != target.is_absence
