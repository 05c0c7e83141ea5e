"""Measures whose trend an agent may ask, each with the expression that is right over any rows of its view.

Counts are summed, and a rate is the sum of its numerator divided by that of its denominator; people of several days or
channels cannot be summed, so a view that counts them has one row a day.
"""

from typing import NamedTuple


class Measure(NamedTuple):
    """A number by day.

    view    that has it
    sql     over the rows of a group
    metric  the page that defines it
    by      columns to split it by
    always  columns that it is always split by: money is never summed across currencies
    """

    view: str
    sql: str
    metric: str
    by: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


def _each(view: str, metric: str, names: str, **how: tuple[str, ...]) -> dict[str, Measure]:
    return {name: Measure(view, f"SUM({name})", metric, **how) for name in names.split()}


def _rate(numerator: str, denominator: str) -> str:
    return f"SUM({numerator}) / NULLIF(SUM({denominator}), 0)"


_CHANNEL: dict[str, tuple[str, ...]] = {"by": ("channel",)}
_CAMPAIGN: dict[str, tuple[str, ...]] = {"by": ("campaign", "channel")}
_MONEY: dict[str, tuple[str, ...]] = {"by": ("channel", "country"), "always": ("currency",)}
_ATTRIBUTED: dict[str, tuple[str, ...]] = {
    "by": ("channel", "campaign"),
    "always": ("model", "event_type", "currency"),  # a conversion counts once in each model
}
MEASURES: dict[str, Measure] = {
    **_each("activity_by_day", "active-people", "dau wau mau"),
    "stickiness": Measure("activity_by_day", _rate("dau", "mau"), "active-people"),
    **_each(
        "lifecycle_by_day",
        "lifecycle",
        "active_persons new_persons returning_persons resurrecting_persons dormant_persons",
    ),
    **_each("engagement_by_channel", "content-engagement", "events views clicks impressions", **_CHANNEL),
    **_each("engagement_by_channel", "content-engagement", "likes shares comments", **_CHANNEL),
    "click_through_rate": Measure(
        "engagement_by_channel", _rate("clicks", "impressions"), "content-engagement", **_CHANNEL
    ),
    **_each("engagement_by_day", "session-engagement", "sessions engaged_sessions bounces", **_CHANNEL),
    "engagement_rate": Measure(
        "engagement_by_day", _rate("engaged_sessions", "sessions"), "session-engagement", **_CHANNEL
    ),
    "bounce_rate": Measure("engagement_by_day", _rate("bounces", "sessions"), "session-engagement", **_CHANNEL),
    **_each("conversion_by_campaign", "conversion", "converted_sessions", **_CAMPAIGN),
    "session_conversion_rate": Measure(
        "conversion_by_campaign", _rate("converted_sessions", "sessions"), "conversion", **_CAMPAIGN
    ),
    **_each("revenue_by_day", "revenue", "orders revenue refunds net_revenue", **_MONEY),
    "attributed_conversions": Measure("attribution_by_day", "SUM(conversions)", "attribution", **_ATTRIBUTED),
    "attributed_revenue": Measure("attribution_by_day", "SUM(revenue)", "attribution", **_ATTRIBUTED),
}
