"""The tables of the passes `profiles` and `recommendations`: of rows of a person only those of the newest time stay."""

from pipelines.insight.tables import answers_table, count_column, number_column
from pipelines.warehouse.tables import Column

PERSON = Column("person", "STRING", "REQUIRED", "the user id, or the anonymous id of whom no user is known")

USER_PROFILES = answers_table(
    "user_profiles",
    "Each person of the history before `as_of`: how lately, how often and where it was there, and its segment.",
    (
        PERSON,
        Column("is_user", "BOOL", "REQUIRED", "a user id is known"),
        Column("first_seen", "TIMESTAMP", "REQUIRED", "its first event of the history, UTC"),
        Column("last_seen", "TIMESTAMP", "REQUIRED", "its last event, UTC"),
        Column("recency_days", "FLOAT64", "REQUIRED", "days from then to `as_of`"),
        count_column("events", "events of the history"),
        count_column("events_1d", "events of the 24 hours before `as_of`"),
        count_column("events_7d", "events of the 7 days before it"),
        count_column("events_28d", "events of the 28 days before it"),
        count_column("active_days_28d", "local days of these with an event"),
        count_column("sessions_28d", "sessions that began in the 28 days and were over: 30 minutes without an event"),
        count_column("engaged_sessions_28d", "of these, engaged ones"),
        number_column("session_seconds_28d", "mean length of these sessions, seconds; NULL without one"),
        Column("channel", "STRING", "NULLABLE", "channel with the largest weight of events; NULL: none is stated"),
        Column("hour", "INT64", "NULLABLE", "local hour of the day with the largest weight, 0 to 23"),
        Column("category", "STRING", "NULLABLE", "category with the largest weight"),
        Column("content_id", "STRING", "NULLABLE", "content with the largest weight"),
        Column("segment", "STRING", "REQUIRED", "new, regular, occasional, dormant, lost"),
    ),
    key=("person",),
    cluster=("person",),
)
USER_INTERESTS = answers_table(
    "user_interests",
    "The categories and contents of each person with the largest weights: events, each half for each half-life of age.",
    (
        PERSON,
        Column("dimension", "STRING", "REQUIRED", "`category` or `content`"),
        count_column("place", "1: the largest weight"),
        Column("key", "STRING", "REQUIRED", "the category or content_id"),
        Column("weight", "FLOAT64", "REQUIRED", "weight of its events"),
        Column("share", "FLOAT64", "REQUIRED", "of the weight of all events of the person with one, 0 to 1"),
    ),
    key=("person", "dimension", "place"),
    cluster=("person",),
)
USER_VALUES = answers_table(
    "user_values",
    "What each buyer of the history bought, by currency, and what is to be expected of it.",
    (
        PERSON,
        Column("currency", "STRING", "NULLABLE", "currency; NULL: none is stated"),
        count_column("purchases", "purchases of the history"),
        Column("revenue", "NUMERIC", "REQUIRED", "their value, summed; refunds are not subtracted"),
        Column("last_purchase", "TIMESTAMP", "REQUIRED", "the last one, UTC"),
        count_column("purchase_days", "local days with a purchase"),
        number_column("alive", "probability that it still buys, 0 to 1 (BG/NBD); NULL in what follows: no fit"),
        number_column("expected_purchases", "days with a purchase to be expected in the time ahead"),
        number_column("purchases_low", "low end of their 80 % interval"),
        number_column("purchases_high", "high end of it"),
        number_column("purchase_value", "what one of them is to be worth (Gamma-Gamma)"),
        number_column("expected_value", "the value to be expected in the time ahead: the product of both"),
        number_column("value_low", "low end of the interval: that of the purchases, at this value of each"),
        number_column("value_high", "high end of it"),
    ),
    key=("person", "currency"),
    cluster=("person",),
)
LIFETIME_FITS = answers_table(
    "lifetime_fits",
    "The parameters by which `user_values` expects purchases and their value, by currency; times are in weeks.",
    (
        Column("currency", "STRING", "NULLABLE", "currency; NULL: none is stated"),
        count_column("buyers", "buyers that they are fitted to"),
        count_column("repeat_buyers", "of these, buyers of more than one day"),
        count_column("days_ahead", "the time ahead of the expectations, days"),
        number_column("r", "BG/NBD: shape of the rates of purchase; NULL: fewer than 30 repeat buyers, or no maximum"),
        number_column("alpha", "BG/NBD: rate of these, weeks"),
        number_column("a", "BG/NBD: first parameter of the probabilities to be gone after a purchase"),
        number_column("b", "BG/NBD: second parameter of these"),
        number_column("p", "Gamma-Gamma: shape of the values of a buyer"),
        number_column("q", "Gamma-Gamma: shape of the rates of these; at most 1: no mean value, nothing is expected"),
        number_column("v", "Gamma-Gamma: rate of these, in the currency"),
    ),
    key=("currency",),
)
USER_ATTRIBUTES = answers_table(
    "user_attributes",
    "Attributes of each person that the configuration declares (`insight.profiles.attributes`).",
    (
        PERSON,
        Column("attribute", "STRING", "REQUIRED", "its name in the configuration"),
        Column("number", "NUMERIC", "NULLABLE", "its value: a count or a sum"),
        Column("text", "STRING", "NULLABLE", "its value: the first or the last text"),
    ),
    key=("person", "attribute"),
    cluster=("person",),
)

RECOMMENDATIONS = answers_table(
    "recommendations",
    "The contents that each person may like next, and those for whoever has no row.",
    (
        Column("person", "STRING", "NULLABLE", "as in `user_profiles`; NULL: whoever has no row of its own"),
        count_column("place", "1: the first to show"),
        Column("content_id", "STRING", "REQUIRED", "the content"),
        Column(
            "reason", "STRING", "REQUIRED", "`similar` to what the person saw; `popular`, `rising` where nothing is"
        ),
        Column("because", "STRING", "NULLABLE", "of `similar`: the content seen that adds most to the score"),
        number_column("score", "of `similar`: sum of weight * similarity over what the person saw"),
    ),
    key=("person", "place"),
    cluster=("person",),
)
SIMILAR_CONTENTS = answers_table(
    "similar_contents",
    "The contents that were seen by the same persons as each content, the most similar first.",
    (
        Column("content_id", "STRING", "REQUIRED", "the content"),
        count_column("place", "1: the most similar"),
        Column("similar_content_id", "STRING", "REQUIRED", "the similar one"),
        Column("similarity", "FLOAT64", "REQUIRED", "0 to 1"),
        count_column("persons", "persons who saw both"),
    ),
    key=("content_id", "place"),
)
