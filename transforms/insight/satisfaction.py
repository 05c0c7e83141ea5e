"""Satisfaction scores of ratings, each with its number and a 95 % interval.

    csat   events of type `feedback` or `csat`, rated 1 to 5: the share of ratings of 4 and 5, 0 to 1
    nps    events of type `nps`, 0 to 10: 100 * (share of 9 and 10 - share of 0 to 6), -100 to 100
    ces    events of type `ces`, 1 to 7: the mean, 1 to 7

Sources of the rules: F. Reichheld, "The One Number You Need to Grow", Harvard Business Review 2003 (nps); M. Dixon
et al., "Stop Trying to Delight Your Customers", ibid. 2010 (ces, in the form with 7 steps); E. B. Wilson, JASA 22,
1927 (the interval of a share). The intervals of nps and ces are those of a mean, plus and minus 1.96 standard
errors, cut at the ends of the scale.
"""

from typing import NamedTuple

import polars as pl

Z = 1.959963984540054  # of the normal distribution: 95 % lie within
FEW = 30  # below so many ratings a score says little


class Scale(NamedTuple):
    """A score: its name, the types of events that it is asked by, the ends of the scale."""

    score: str
    event_types: tuple[str, ...]
    worst: int
    best: int


SCALES = (Scale("csat", ("feedback", "csat"), 1, 5), Scale("nps", ("nps",), 0, 10), Scale("ces", ("ces",), 1, 7))
RATED = tuple(kind for scale in SCALES for kind in scale.event_types)
SATISFACTION_SCHEMA = {
    "score": pl.String,
    "n": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "is_few": pl.Boolean,
}


def on_scale(events: pl.DataFrame) -> pl.DataFrame:
    """Ratings on the scale of their event type, with `score` String and `points` Float64: a score is their mean.

    events  `event_type` String, `rating` Float64, and what else they have, which stays
    points  csat: 1 or 0; nps: 100, 0 or -100; ces: the rating
    """
    rating = pl.col("rating")
    nps = pl.when(rating >= 9).then(100.0).when(rating <= 6).then(-100.0).otherwise(0.0)
    points = {"csat": (rating >= 4).cast(pl.Float64), "nps": nps, "ces": rating}
    rated = []
    for scale in SCALES:
        is_of = pl.col("event_type").is_in(scale.event_types) & rating.is_between(scale.worst, scale.best)
        rated.append(events.filter(is_of).with_columns(score=pl.lit(scale.score), points=points[scale.score]))
    return pl.concat(rated)


def satisfaction(rated: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The scores of what on_scale returns: a row for each of `by` and score, with the columns of SATISFACTION_SCHEMA.

    low, high   the 95 % interval of value, in its unit; null for nps and ces of a single rating
    is_few      fewer than FEW ratings
    """
    n, mean, error = pl.col("n"), pl.col("value"), pl.col("deviation") / pl.col("n").sqrt() * Z
    center = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    wilson = (mean * (1 - mean) / n + Z**2 / (4 * n**2)).sqrt() * Z / (1 + Z**2 / n)
    is_share = pl.col("score") == "csat"
    worst = pl.when(pl.col("score") == "nps").then(-100.0).otherwise(1.0)
    best = pl.when(pl.col("score") == "nps").then(100.0).otherwise(7.0)
    grouped = rated.group_by([*by, "score"]).agg(
        n=pl.len().cast(pl.Int64), value=pl.col("points").mean(), deviation=pl.col("points").std()
    )
    return grouped.select(
        *by,
        "score",
        "n",
        "value",
        low=pl.when(is_share).then((center - wilson).clip(0, 1)).otherwise(pl.max_horizontal(mean - error, worst)),
        high=pl.when(is_share).then((center + wilson).clip(0, 1)).otherwise(pl.min_horizontal(mean + error, best)),
        is_few=n < FEW,
    ).with_columns(
        [pl.when((n > 1) | is_share).then(name).alias(name) for name in ("low", "high")]
    ).sort([*by, "score"])  # fmt: skip
