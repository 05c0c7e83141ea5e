"""The table `alerts`: a row for each change of an alert. Rows are only appended.

It is no table of answers, as rows as of an earlier time decide what is new. An erasure keeps it: no row names a person,
and an alert that was forgotten would be sent again.
"""

from pipelines.warehouse.tables import Column, Table

OPENED, RESOLVED, UNMUTED, MUTED = "opened", "resolved", "unmuted", "muted"
# The newest row of each alert that is open, as changes.open_alerts; BigQuery and DuckDB share the SQL.
OPEN_ALERTS = (
    "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY alert_id ORDER BY evaluated_time DESC, state DESC) "
    f"AS place FROM alerts WHERE state IN ('{OPENED}', '{UNMUTED}') "
    f"AND alert_id NOT IN (SELECT alert_id FROM alerts WHERE state = '{RESOLVED}')) AS of_each WHERE place = 1"
)

ALERTS = Table(
    name="alerts",
    description="What became of each alert: opened, resolved; and which rules were muted. Rows are only appended.",
    partition="evaluated_time",
    key=("alert_id", "state"),
    columns=(
        Column("evaluated_time", "TIMESTAMP", "REQUIRED", "the time as of which it was found, UTC; of muted the clock"),
        Column("alert_id", "STRING", "REQUIRED", "hash of rule, subject and opened_time"),
        Column("state", "STRING", "REQUIRED", "opened, resolved; unmuted: still open when a mute ended; muted"),
        Column("rule", "STRING", "REQUIRED", "name of the rule"),
        Column("kind", "STRING", "REQUIRED", "kind of the rule"),
        Column("subject", "STRING", "REQUIRED", "what it is about: a source, a step, a series"),
        Column("opened_time", "TIMESTAMP", "REQUIRED", "since when by the data, UTC"),
        Column("value", "FLOAT64", "NULLABLE", "what was measured, in the unit of the rule"),
        Column("threshold", "FLOAT64", "NULLABLE", "what the rule allows, in the same unit"),
        Column("text", "STRING", "REQUIRED", "one line for a person"),
        Column("is_muted", "BOOL", "REQUIRED", "whether nothing was sent, as the rule was muted"),
        Column("until", "TIMESTAMP", "NULLABLE", "of muted: the time until which nothing is sent, UTC"),
        Column("pipeline_version", "STRING", "REQUIRED", "version of the pipeline that wrote it"),
    ),
)
