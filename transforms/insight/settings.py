"""The section `insight` of the configuration; predict/settings.py has that of predictions."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from transforms.insight.predict.settings import Predictions

Positive = Annotated[float, Meta(gt=0, le=1000)]


class Trends(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a content item, category, campaign or channel rises or falls."""

    rising: Annotated[
        Positive,
        Meta(
            description="A bucket is rising from this `z` on, in units of `spread`",
            examples=[4.0],
            extra={"unit": "standard deviations"},
        ),
    ] = 3.5
    falling: Annotated[
        Positive,
        Meta(
            description="A bucket is falling from minus this `z` down, in units of `spread`",
            examples=[5.0],
            extra={"unit": "standard deviations"},
        ),
    ] = 3.5
    min_count: Annotated[
        int,
        Meta(
            ge=1,
            description="Fewest events, or expected events, for a row of its own; what has fewer is folded",
            examples=[20],
            extra={"unit": "events in a bucket"},
        ),
    ] = 10
    min_persons: Annotated[
        int,
        Meta(
            ge=0,
            description="Fewest persons for a bucket to be rising, so that one program is no trend",
            examples=[20],
            extra={"unit": "persons in a bucket"},
        ),
    ] = 5
    max_keys: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Content items, categories, campaigns and channels with rows of their own; others are folded",
            examples=[200],
            extra={"unit": "keys of each dimension, those with most events"},
        ),
    ] = 500
    half_life: Annotated[
        float,
        Meta(
            gt=0,
            le=168,
            description="Age at which an event counts half in `hot`",
            examples=[2.0],
            extra={"unit": "hours"},
        ),
    ] = 6.0


class Anomalies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an hour of a series is an anomaly."""

    point: Annotated[
        Positive,
        Meta(
            description="One hour is an anomaly from this distance to what was expected on",
            examples=[8.0],
            extra={"unit": "standard deviations of the series' own distances"},
        ),
    ] = 6.0
    shift: Annotated[
        Positive,
        Meta(
            description="The level has shifted from this distance of the mean of 6 hours on",
            examples=[6.0],
            extra={"unit": "standard deviations of the series' own distances of 6 hours"},
        ),
    ] = 4.5
    silence: Annotated[
        Positive,
        Meta(
            description="A series is silent once it has had no event where so many were expected",
            examples=[50.0],
            extra={"unit": "events"},
        ),
    ] = 20.0


Kind = Annotated[str, Meta(pattern=r"^[^'\\\x00-\x1f]{1,100}$")]  # it stands in SQL
Kinds = Annotated[tuple[Kind, ...], Meta(max_length=20)]


def _kinds(description: str, *example: str) -> Meta:
    return Meta(description=description, examples=[list(example)], extra={"unit": "event types, at most 20"})


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events are feedback, ratings and tickets. An event has its text in `text` and its rating in `rating`."""

    texts: Annotated[
        Annotated[Kinds, Meta(min_length=1)] | None,
        _kinds("Event types whose texts have a sentiment; null: all but answers", "comment", "review"),
    ] = None
    csat: Annotated[Kinds, _kinds("Event types rated 1 to 5, of CSAT", "feedback", "review")] = ("feedback", "csat")
    nps: Annotated[Kinds, _kinds("Event types rated 0 to 10, of NPS", "nps_survey")] = ("nps",)
    ces: Annotated[Kinds, _kinds("Event types rated 1 to 7, of CES", "effort_survey")] = ("ces",)
    opened: Annotated[Kinds, _kinds("Event types that open a ticket", "ticket_created")] = ("support_ticket",)
    answered: Annotated[Kinds, _kinds("Event types of answers of the staff", "agent_reply")] = ("support_reply",)
    resolved: Annotated[Kinds, _kinds("Event types that resolve a ticket", "ticket_solved")] = ("support_resolved",)
    reopened: Annotated[Kinds, _kinds("Event types that reopen a ticket", "ticket_reopened")] = ("support_reopened",)
    ticket: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")],
        Meta(
            description="Key of `properties` with the number of a ticket",
            examples=["case_number"],
            extra={"unit": "a key: letters, digits and _"},
        ),
    ] = "ticket_id"

    def __post_init__(self):
        for names in (("csat", "nps", "ces"), ("opened", "answered", "resolved", "reopened")):
            seen: dict[str, str] = {}
            for name in names:
                for kind in getattr(self, name):
                    if kind in seen:
                        raise ValueError(f".{name}: got {kind!r}, which {seen[kind]} has; allowed: each type once")
                    seen[kind] = name

    @property
    def rated(self) -> tuple[str, ...]:
        """Event types with a rating."""
        return (*self.csat, *self.nps, *self.ces)

    @property
    def tickets(self) -> tuple[str, ...]:
        """Event types about tickets."""
        return (*self.opened, *self.answered, *self.resolved, *self.reopened)


TEXTS = ("category", "channel", "campaign", "content_id", "content_type", "country", "device", "event_type", "currency")
SUMS = ("value", "quantity")
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,62}$")]


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attribute of a person: a number or a text of its events, bots left out."""

    of: Annotated[
        Literal["count", "sum", "distinct", "first", "last"],
        Meta(
            description="`count` of events, `sum` of a number, number of `distinct` texts, `first` or `last` text",
            examples=["last"],
            extra={"unit": "one of these"},
        ),
    ]
    column: Annotated[
        str | None,
        Meta(
            description="The column, for all but `count`",
            examples=["country"],
            extra={"unit": "a column of events"},
        ),
    ] = None
    event_types: Annotated[
        tuple[str, ...],
        Meta(
            description="Only events of these types; empty: all",
            examples=[["newsletter_open"]],
            extra={"unit": "event types"},
        ),
    ] = ()
    days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="Only events of so many days before `as_of`",
            examples=[90],
            extra={"unit": "days"},
        ),
    ] = 28

    def __post_init__(self):
        allowed = {"count": (None,), "sum": SUMS}.get(self.of, TEXTS)
        if self.column not in allowed:
            listed = "no column" if self.of == "count" else ", ".join(str(each) for each in allowed)
            raise ValueError(f"column: got {self.column!r} for `{self.of}`; allowed: {listed}")


class Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a profile of a person is computed of."""

    history: Annotated[
        int,
        Meta(
            ge=28,
            le=3650,
            description="A profile reads the events of so many days before `as_of`, purchases too",
            examples=[365],
            extra={"unit": "days"},
        ),
    ] = 730
    half_life: Annotated[
        float,
        Meta(
            gt=0,
            le=365,
            description="Age at which an event counts half in interests, in the channel and in the hour",
            examples=[7.0],
            extra={"unit": "days"},
        ),
    ] = 14.0
    places: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Categories and contents of each person in `user_interests`",
            examples=[10],
            extra={"unit": "rows of each dimension"},
        ),
    ] = 5
    no_interest: Annotated[
        tuple[str, ...],
        Meta(
            description="Event types that tell of no interest in a category or content",
            examples=[["impression", "refund"]],
            extra={"unit": "event types"},
        ),
    ] = ("impression",)
    days_ahead: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="The time for which purchases and their value are expected",
            examples=[90],
            extra={"unit": "days"},
        ),
    ] = 365
    attributes: Annotated[
        dict[Name, Attribute],
        Meta(
            description="Attributes of a person in `user_attributes`, by name",
            examples=[{"country": {"of": "last", "column": "country"}}],
            extra={"unit": "see an attribute"},
        ),
    ] = {}


class Recommendations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recommended to a person. What tells of no interest is that of profiles."""

    half_life: Annotated[
        float,
        Meta(
            gt=0,
            le=365,
            description="Age at which an event counts half; what is ten times as old neither counts nor was seen",
            examples=[7.0],
            extra={"unit": "days"},
        ),
    ] = 30.0
    places: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Contents for each person, and similar ones for each content",
            examples=[20],
            extra={"unit": "contents"},
        ),
    ] = 10
    contents: Annotated[
        int,
        Meta(
            ge=1,
            le=50_000,
            description="Contents that are compared and recommended: those that most persons saw",
            examples=[2_000],
            extra={"unit": "contents; time and memory grow with its square"},
        ),
    ] = 10_000
    of_person: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Contents of each person that count: those with the largest weights",
            examples=[50],
            extra={"unit": "contents"},
        ),
    ] = 100
    neighbours: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Similar contents of each that add to a score",
            examples=[50],
            extra={"unit": "contents"},
        ),
    ] = 100
    least_persons: Annotated[
        int,
        Meta(
            ge=1,
            description="Fewest persons who saw both of two contents that are similar",
            examples=[5],
            extra={"unit": "persons"},
        ),
    ] = 3
    again: Annotated[
        bool,
        Meta(
            description="Whether what a person saw may be recommended to it",
            examples=[True],
            extra={"unit": "true or false"},
        ),
    ] = False
    hidden_contents: Annotated[
        tuple[str, ...],
        Meta(
            description="Contents that are never recommended",
            examples=[["sold-out-7"]],
            extra={"unit": "content ids"},
        ),
    ] = ()
    hidden_categories: Annotated[
        tuple[str, ...],
        Meta(
            description="Contents with an event of one of these categories are never recommended",
            examples=[["adult"]],
            extra={"unit": "categories"},
        ),
    ] = ()


class Insight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trends, anomalies, feedback, profiles, recommendations and predictions."""

    trends: Trends = Trends()
    anomalies: Anomalies = Anomalies()
    feedback: Feedback = Feedback()
    profiles: Profiles = Profiles()
    recommendations: Recommendations = Recommendations()
    predictions: Predictions = Predictions()
