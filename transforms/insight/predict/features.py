"""FEATURES and TARGETS: what a prediction is made of, and what is predicted; all other code reads these lists.

A row is a person as of a time T. All features are of the 28 days before T, so that they mean the same in a young and
in an old warehouse; nothing that happens at T or later is in one. Each is a Float64 without NULL.
"""

from typing import NamedTuple

WINDOW_DAYS = 28


class Feature(NamedTuple):
    """A feature: its name, what it means, and whether a model sees log(1 + x) of it."""

    name: str
    definition: str
    is_log: bool = True


FEATURES = (
    Feature("recency_days", "days from the last event to T"),
    Feature("first_seen_days", "days from the first event of the 28 days to T"),
    Feature("is_user", "1: a user id is known, 0: an anonymous id alone", is_log=False),
    Feature("events_1d", "events of the 24 hours before T"),
    Feature("events_7d", "events of the 7 days before T"),
    Feature("events_28d", "events of the 28 days before T"),
    Feature("active_days_28d", "local days of these with an event"),
    Feature(
        "missed_days", "recency_days * active_days_28d / first_seen_days: active days to be expected since the last"
    ),
    Feature("sessions_28d", "sessions that began in the 28 days and were over by T"),
    Feature("engaged_sessions_28d", "of these, engaged ones"),
    Feature("session_seconds_28d", "mean length of these sessions, seconds; 0 without one"),
    Feature("purchases_7d", "purchases of the 7 days before T"),
    Feature("purchases_28d", "purchases of the 28 days before T"),
    Feature("purchase_recency_days", "days from the last purchase of the 28 days to T; 28 without one"),
)
NAMES = [feature.name for feature in FEATURES]
RECENCY = "recency_days"


class Target(NamedTuple):
    """What is predicted of a person as of T: whether it is so in the days from T to before T + `days`.

    event_type   the type of event that is meant; None: any
    is_absence   it is so if there is no such event
    seen_days    the persons whom it is predicted of: those with an event in so many days before T
    """

    name: str
    days: int
    event_type: str | None
    is_absence: bool
    seen_days: int
    definition: str


TARGETS = (
    Target("conversion_7d", 7, "purchase", False, WINDOW_DAYS, "a purchase within 7 days; of persons seen in 28 days"),
    Target("churn_14d", 14, None, True, 14, "no event within 14 days; of persons seen in the 14 days before"),
)


def target_named(name: str) -> Target:
    """The target of a name."""
    return next(target for target in TARGETS if target.name == name)
