"""Recommendations: the next contents of each person, and similar ones of each content.

The warehouse answers with the contents of each person and their weights; transforms/insight/recommended.py does the
rest. Who is a person, and the weight of an event, are those of profiles.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from pipelines.insight.people import WHOLE, is_liked, oldest, totals, weight
from pipelines.insight.profile_tables import RECOMMENDATIONS, SIMILAR_CONTENTS
from pipelines.insight.shape import Inputs, Pass
from pipelines.warehouse.conditions import DAY, moment, one_of

if TYPE_CHECKING:
    import polars as pl

MOST_SEEN = 2_000  # contents of a person that are not recommended again


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of both tables."""
    from transforms.insight.recommended import recommended

    settings = inputs.configuration.insight.recommendations
    found = recommended(saw(inputs), recent(inputs), hidden(inputs), settings)
    return dict(zip((RECOMMENDATIONS.name, SIMILAR_CONTENTS.name), found, strict=True))


def saw(inputs: Inputs) -> "pl.DataFrame":
    """person, content_id, weight, place by weight: the contents of each person, at most MOST_SEEN."""
    import polars as pl

    settings = inputs.configuration.insight.recommendations
    most = max(MOST_SEEN, settings.of_person)
    half_life = timedelta(days=settings.half_life)
    summed = {"weight": f"SUM({weight(inputs, 'event_time', half_life)})"}
    found = totals(inputs, oldest(inputs, half_life), {"content_id": "content_id"}, summed, _liked(inputs))
    weighted = f"SELECT person, content_id, SUM(weight) AS weight FROM ({found}) AS found GROUP BY person, content_id"
    asked = inputs.ask(
        "SELECT person, content_id, weight, ROW_NUMBER() OVER (PARTITION BY person ORDER BY weight DESC, content_id) "
        f"AS place FROM ({weighted}) AS weighted WHERE weight > 0 QUALIFY place <= {most}"
    )
    return asked.select(
        pl.col("person", "content_id").cast(pl.String),
        pl.col("weight").cast(pl.Float64) / WHOLE,
        pl.col("place").cast(pl.Int64),
    )


def recent(inputs: Inputs) -> "pl.DataFrame":
    """content_id, persons_7d, persons_before: of the 7 days before as_of, and of the 21 days before these."""
    import polars as pl

    begin = moment(inputs.as_of - 7 * DAY)
    ends = {"first_seen": "MIN(event_time)", "last_seen": "MAX(event_time)"}
    found = totals(inputs, inputs.as_of - 28 * DAY, {"content_id": "content_id"}, ends, _liked(inputs))
    asked = inputs.ask(
        f"SELECT content_id, COUNT(DISTINCT CASE WHEN last_seen >= {begin} THEN person END) AS persons_7d, "
        f"COUNT(DISTINCT CASE WHEN first_seen < {begin} THEN person END) AS persons_before "
        f"FROM ({found}) AS found GROUP BY content_id"
    )
    return asked.with_columns(pl.col("content_id").cast(pl.String))


def hidden(inputs: Inputs) -> "pl.Series":
    """The contents that are never recommended: those that the configuration names, or whose category it does."""
    import polars as pl

    settings = inputs.configuration.insight.recommendations
    named = pl.Series("content_id", settings.hidden_contents, pl.String)
    if not settings.hidden_categories:
        return named
    asked = inputs.ask(
        f"SELECT DISTINCT content_id FROM events WHERE content_id IS NOT NULL AND event_time < {moment(inputs.as_of)} "
        f"AND event_time >= {moment(inputs.as_of - inputs.configuration.insight.profiles.history * DAY)} "
        f"AND {one_of('category', settings.hidden_categories)}"
    )
    return pl.concat([named, asked["content_id"].cast(pl.String)])


def _liked(inputs: Inputs) -> str:
    return f"e.content_id IS NOT NULL AND {is_liked(inputs)}"


PASS = Pass("recommendations", (RECOMMENDATIONS, SIMILAR_CONTENTS), compute, keeps="none")
