"""The tables of the pass `feedback`. None has a person or a text in it, but phrases that several people used."""

from pipelines.insight.tables import answers_table, count_column, number_column
from pipelines.warehouse.tables import Column

_HOUR = Column("bucket_start", "TIMESTAMP", "REQUIRED", "begin of the hour, UTC")
_CONTENT = Column("content_id", "STRING", "NULLABLE", "what the feedback is about; NULL: nothing is stated")
_CHANNEL = Column("channel", "STRING", "NULLABLE", "channel; NULL: none is stated")

FEEDBACK_1H = answers_table(
    "feedback_1h",
    "Feedback by hour, content and channel, of the 7 days before `as_of`: sentiment of texts, and counts of ratings.",
    (
        _HOUR,
        _CONTENT,
        _CHANNEL,
        count_column("texts", "texts that people wrote"),
        count_column("scored", "texts with a sentiment"),
        count_column("unscored", "texts without one: in another language than English, or in none that can be told"),
        count_column("positive", "texts whose sentiment is at least 0.05"),
        count_column("negative", "texts whose sentiment is at most -0.05"),
        number_column("sentiment", "mean sentiment of the scored texts, -1 to 1; NULL without one"),
        count_column("csat_ratings", "ratings of 1 to 5 of events `feedback` and `csat`"),
        count_column("csat_satisfied", "of these, ratings of 4 and 5"),
        count_column("nps_ratings", "ratings of 0 to 10 of events `nps`"),
        count_column("nps_promoters", "of these, ratings of 9 and 10"),
        count_column("nps_detractors", "of these, ratings of 0 to 6"),
        count_column("ces_ratings", "ratings of 1 to 7 of events `ces`"),
        number_column("ces_sum", "their sum"),
    ),
    key=("bucket_start", "content_id", "channel"),
)
SATISFACTION = answers_table(
    "satisfaction",
    "CSAT, NPS and CES of the 7 and 28 days before `as_of`, of the whole and of each channel, with a 95 % interval.",
    (
        count_column("span_days", "7 or 28"),
        Column("scope", "STRING", "REQUIRED", "`all` or `channel`"),
        Column("channel", "STRING", "NULLABLE", "the channel of scope `channel`; NULL there: none is stated"),
        Column("score", "STRING", "REQUIRED", "`csat` (0 to 1), `nps` (-100 to 100) or `ces` (1 to 7)"),
        count_column("n", "ratings that it is computed of"),
        number_column("value", "the score"),
        number_column("low", "low end of the 95 % interval; NULL of a single rating of nps or ces"),
        number_column("high", "high end of it"),
        Column("is_few", "BOOL", "REQUIRED", "fewer than 30 ratings: the score says little"),
    ),
    key=("span_days", "scope", "channel", "score"),
)
SUPPORT_1H = answers_table(
    "support_1h",
    "Support by hour and channel, of the 7 days before `as_of`: hours in which a ticket of the channel changed.",
    (
        _HOUR,
        Column("channel", "STRING", "NULLABLE", "channel of the ticket's beginning; NULL: none is stated"),
        count_column("opened", "tickets opened: the first `support_ticket` of each"),
        count_column("answered", "of the tickets opened in this hour, those with a `support_reply` by now"),
        number_column(
            "first_answer_p50_seconds", "median of the time to their first answer, seconds; NULL without one"
        ),
        number_column("first_answer_p90_seconds", "90 % of them were answered within this time, seconds"),
        count_column("resolved", "tickets that went from open to resolved"),
        count_column("reopened", "tickets that went from resolved to open"),
        count_column("backlog", "tickets open at the end of the hour, of those opened in the 90 days before `as_of`"),
    ),
    key=("bucket_start", "channel"),
)
THEMES = answers_table(
    "themes",
    "Frequent phrases of English texts of the 7 days before `as_of`, each used by at least 5 people; at most 100.",
    (
        Column("phrase", "STRING", "REQUIRED", "two or three words, in lower case"),
        count_column("texts", "texts that it is in"),
        count_column("persons", "different people who wrote them"),
        number_column("sentiment", "mean sentiment of these texts, -1 to 1"),
    ),
    key=("phrase",),
)
FEEDBACK_LANGUAGES = answers_table(
    "feedback_languages",
    "Languages of the texts of the 7 days before `as_of`, and how many of them have a sentiment.",
    (
        Column("language", "STRING", "REQUIRED", "code of ISO 639; `und` if it cannot be told"),
        count_column("texts", "texts in it"),
        count_column("scored", "of these, texts with a sentiment: all English ones, and no other"),
    ),
    key=("language",),
)
