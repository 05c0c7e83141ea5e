"""Feedback: the sentiment of texts, satisfaction scores of ratings, support, and what texts are about.

The section `insight.feedback` says which events have texts, ratings and tickets. Texts are those of all events but
answers of the staff unless it names others; the event type tells the scale of a rating
(transforms/insight/satisfaction.py). Only hours that are over count, and events of bots do not.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.days import DayQuestion, ask_days
from pipelines.insight.feedback_tables import FEEDBACK_1H, FEEDBACK_LANGUAGES, SATISFACTION, SUPPORT_1H, THEMES
from pipelines.insight.shape import Inputs, Pass
from pipelines.insight.unique import BESIDE, unique_events
from pipelines.warehouse.conditions import one_of
from pipelines.warehouse.local.kept_days import DayRows

if TYPE_CHECKING:
    import polars as pl

SHORT, LONG, TICKETS = 7, 28, 90  # days before `as_of`
DAY = timedelta(days=1)
READ = ("event_type", "user_id", "anonymous_id", "channel", "content_id", "text", "rating", "properties")


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of each table, over the hours that ended by `as_of`."""
    import polars as pl

    from transforms.insight.sentiment import sentiment
    from transforms.insight.support import SUPPORT_TYPES, support
    from transforms.insight.themes import themes

    end = inputs.as_of.replace(minute=0, second=0, microsecond=0)
    known = inputs.configuration.insight.feedback
    by_staff = one_of("event_type", known.answered)
    written = f"NOT ({by_staff})" if known.texts is None else one_of("event_type", known.texts)
    texts = _events(inputs, end, SHORT, f"text IS NOT NULL AND {written}")
    texts = texts.with_columns(sentiment(texts["text"]))
    ratings = _events(inputs, end, LONG, f"rating IS NOT NULL AND {one_of('event_type', known.rated)}")
    ratings = _named(ratings, {"csat": known.csat, "nps": known.nps, "ces": known.ces})
    kinds = (known.opened, known.answered, known.resolved, known.reopened)
    about = _events(inputs, end, TICKETS, one_of("event_type", known.tickets))
    about = _named(about, dict(zip(SUPPORT_TYPES, kinds, strict=True)))
    tickets = support(about, known.ticket)
    since = end - SHORT * DAY
    return {
        FEEDBACK_1H.name: _by_hour(texts, ratings.filter(pl.col("event_time") >= since)),
        SATISFACTION.name: _satisfaction(ratings, end),
        SUPPORT_1H.name: tickets.filter(pl.col("bucket_start") >= since),
        THEMES.name: themes(texts.filter(pl.col("sentiment").is_not_null())),
        FEEDBACK_LANGUAGES.name: _languages(texts),
    }


def _named(events: "pl.DataFrame", kinds: Mapping[str, Sequence[str]]) -> "pl.DataFrame":
    """The events with the types that the rules know in place of those of the configuration; all are of one of these."""
    import polars as pl

    names = {own: name for name, listed in kinds.items() for own in listed}
    return events.with_columns(pl.col("event_type").replace_strict(names, return_dtype=pl.String))


def _events(inputs: Inputs, end: datetime, days: int, where: str) -> "pl.DataFrame":
    """Events of people in the days before `end`, in a fixed order."""
    wanted = f"is_bot IS NOT TRUE AND {where}"

    def ask(inputs: Inputs, since: datetime, end: datetime) -> "pl.DataFrame":
        import polars as pl

        found = unique_events(inputs, READ, since, end, wanted)
        texts = pl.col("user_id", "anonymous_id", "channel", "content_id", "text", "properties").cast(pl.String)
        typed = found.with_columns(texts, pl.col("rating").cast(pl.Float64))
        return typed.with_columns(person=pl.coalesce("user_id", "anonymous_id"))

    rows = DayRows("feedback_events", ("events",), BESIDE, BESIDE, f"{READ} {wanted}")
    return ask_days(inputs, DayQuestion(rows, ask, "event_time"), end - days * DAY, end)


def _by_hour(texts: "pl.DataFrame", ratings: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    from transforms.insight.satisfaction import on_scale
    from transforms.insight.sentiment import POLAR

    keys = [pl.col("event_time").dt.truncate("1h").alias("bucket_start"), pl.col("content_id"), pl.col("channel")]
    score, points = pl.col("sentiment"), pl.col("points")

    def count(condition: pl.Expr) -> pl.Expr:
        return condition.sum().cast(pl.Int64)

    written = texts.group_by(keys).agg(
        texts=pl.len().cast(pl.Int64),
        scored=count(score.is_not_null()),
        unscored=count(score.is_null()),
        positive=count(score >= POLAR),
        negative=count(score <= -POLAR),
        sentiment=score.mean(),
    )
    csat, nps, ces = (pl.col("score") == name for name in ("csat", "nps", "ces"))
    rated = on_scale(ratings).group_by(keys).agg(
        csat_ratings=count(csat),
        csat_satisfied=count(csat & (points == 1)),
        nps_ratings=count(nps),
        nps_promoters=count(nps & (points > 0)),
        nps_detractors=count(nps & (points < 0)),
        ces_ratings=count(ces),
        ces_sum=points.filter(ces).sum(),
    )  # fmt: skip
    names = ["bucket_start", "content_id", "channel"]
    rows = written.join(rated, on=names, how="full", coalesce=True, nulls_equal=True).sort(names)
    return rows.with_columns(pl.exclude(*names, "sentiment").fill_null(0))


def _satisfaction(ratings: "pl.DataFrame", end: datetime) -> "pl.DataFrame":
    import polars as pl

    from transforms.insight.satisfaction import on_scale, satisfaction

    rated = on_scale(ratings)
    found = []
    for days in (SHORT, LONG):
        recent = rated.filter(pl.col("event_time") >= end - days * DAY)
        span = pl.lit(days, pl.Int64).alias("span_days")
        whole = satisfaction(recent, []).with_columns(span, scope=pl.lit("all"), channel=pl.lit(None, pl.String))
        split = satisfaction(recent, ["channel"]).with_columns(span, scope=pl.lit("channel"))
        found += [whole, split.select(whole.columns)]
    return pl.concat(found)


def _languages(texts: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    counts = texts.group_by("language").agg(
        texts=pl.len().cast(pl.Int64), scored=pl.col("sentiment").count().cast(pl.Int64)
    )
    return counts.sort("language")


PASS = Pass("feedback", (FEEDBACK_1H, SATISFACTION, SUPPORT_1H, THEMES, FEEDBACK_LANGUAGES), compute)
