"""The tables that passes write. Only those of persons (profile_tables.py) name one; none has a text that one wrote."""

from pipelines.warehouse.answers import AS_OF
from pipelines.warehouse.tables import Column, Table


def answers_table(name: str, description: str, columns: tuple[Column, ...], key: tuple[str, ...], **more) -> Table:
    """The table of a pass: `as_of`, its columns, `pipeline_version`; its key after `as_of`.

    partition  of `more`: a TIMESTAMP column; `as_of` if it is left out
    """
    first = Column(AS_OF, "TIMESTAMP", "REQUIRED", "the time as of which it was computed, UTC")
    last = Column("pipeline_version", "STRING", "REQUIRED", "version of the pipeline that computed it")
    return Table(name, description, (first, *columns, last), **({"partition": AS_OF} | more), key=(AS_OF, *key))


def count_column(name: str, description: str) -> Column:
    """A whole number that each row has."""
    return Column(name, "INT64", "REQUIRED", description)


def number_column(name: str, description: str) -> Column:
    """A number that a row may lack."""
    return Column(name, "FLOAT64", "NULLABLE", description)


FRESHNESS = answers_table(
    "freshness",
    "How fresh each source is: when its newest record was received, and what is usual for it.",
    (
        Column("source", "STRING", "REQUIRED", "name of the source"),
        Column("last_received", "TIMESTAMP", "REQUIRED", "end of the last minute that has records of it, UTC"),
        Column("silent_seconds", "INT64", "REQUIRED", "seconds from then to `as_of`"),
        Column(
            "longest_gap_seconds",
            "INT64",
            "NULLABLE",
            "the longest time without a record in the 7 days before `last_received`, seconds; NULL: one minute alone",
        ),
        Column("received_1h", "INT64", "REQUIRED", "records of the hour before `as_of`"),
        Column("received_24h", "INT64", "REQUIRED", "records of the 24 hours before `as_of`"),
        Column("quarantined_24h", "INT64", "REQUIRED", "records of these that were refused"),
    ),
    key=("source",),
)


def _trends(name: str, buckets: str) -> Table:
    """The table of the trends in buckets of a length."""
    return answers_table(
        name,
        f"What rose and fell in the 24 hours before `as_of`, in buckets of {buckets}; what is small is folded.",
        (
            Column("bucket_start", "TIMESTAMP", "REQUIRED", "start of the bucket, UTC"),
            Column("bucket_end", "TIMESTAMP", "REQUIRED", "end of the bucket, UTC"),
            Column("dimension", "STRING", "REQUIRED", "whole, channel, category, campaign, content"),
            Column("key", "STRING", "NULLABLE", "channel, category, campaign or content_id; NULL: whole, or folded"),
            Column("folded_keys", "INT64", "REQUIRED", "keys that this row is about together; 0: a row of one key"),
            Column("count", "INT64", "REQUIRED", "events"),
            Column("persons", "INT64", "NULLABLE", "distinct persons; 0 below `min_count` events; NULL: folded"),
            Column("expected", "FLOAT64", "NULLABLE", "events that were to be expected at the bucket's start"),
            Column("z", "FLOAT64", "NULLABLE", "2 (sqrt(count + 3/8) - sqrt(expected + 3/8))"),
            Column("spread", "FLOAT64", "NULLABLE", "root mean square of `z` in the 24 hours before; at least 1"),
            Column("growth", "FLOAT64", "NULLABLE", "count / expected; NULL: nothing was expected"),
            Column("hot", "FLOAT64", "NULLABLE", "events of 24 hours, each half for each half-life of its age"),
            Column("trend", "STRING", "NULLABLE", "rising, falling; NULL: neither"),
        ),
        key=("bucket_start", "dimension", "key"),
    )


TRENDS_10M = _trends("trends_10m", "10 minutes")
TRENDS_1H = _trends("trends_1h", "an hour")

ANOMALIES_1H = answers_table(
    "anomalies_1h",
    "Hours of the 24 before `as_of` in which a series was not what was to be expected.",
    (
        Column("bucket_start", "TIMESTAMP", "REQUIRED", "start of the hour, UTC"),
        Column("bucket_end", "TIMESTAMP", "REQUIRED", "end of the hour, UTC"),
        Column("metric", "STRING", "REQUIRED", "events, events:<event_type>, sessions, purchases, revenue:<currency>"),
        Column("channel", "STRING", "NULLABLE", "channel; NULL: all together"),
        Column("kind", "STRING", "REQUIRED", "point, shift, silence"),
        Column("direction", "STRING", "REQUIRED", "above, below"),
        Column("value", "FLOAT64", "REQUIRED", "value of the hour; of a shift the mean of 6 hours that end with it"),
        Column("expected", "FLOAT64", "REQUIRED", "what was to be expected of it by the hours before"),
        Column("lower", "FLOAT64", "NULLABLE", "lower end of the 95 % interval of a forecast a day before; NULL: none"),
        Column("upper", "FLOAT64", "NULLABLE", "upper end of it"),
        Column("surprise", "FLOAT64", "REQUIRED", "distance in deviations of the series; of a silence events missed"),
        Column("since", "TIMESTAMP", "REQUIRED", "start of the first of the hours in a row that are so"),
    ),
    key=("bucket_start", "metric", "channel", "kind"),
)
