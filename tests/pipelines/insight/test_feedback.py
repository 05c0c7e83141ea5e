"""The pass `feedback` of a local warehouse: counts as a plain query of the raw events has them, and rows by hand."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from pipelines.cli import main
from pipelines.insight.feedback import PASS, compute
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, TABLES
from tests.support.rows import write
from transforms.errors import ConfigError

T = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
HOUR = T.replace(minute=0)  # the last hour that is over ends here


def event(number: int, kind: str, before: timedelta, **columns) -> dict:
    time = HOUR - before
    given = {"event_id": f"e{number}", "event_type": kind, "event_time": time, "received_time": time, "source": "web"}
    return given | {"user_id": f"u{number}", "channel": "web"} | columns


HOURS = timedelta(hours=1)
ENGLISH = ["I love how search is fast and easy. Thank you!", "The checkout is slow and keeps failing."]
EVENTS_BY_HAND = [
    event(1, "feedback", HOURS, content_id="a", rating=5.0, text=ENGLISH[0]),
    event(2, "feedback", HOURS / 2, content_id="a", rating=2.0, text=ENGLISH[1]),
    event(3, "comment", HOURS, content_id="a", text="Leider war die Lieferung sehr spät."),
    event(4, "nps", HOURS, rating=10.0),
    event(5, "nps", 8 * 24 * HOURS, rating=0.0),
    event(6, "ces", HOURS, rating=6.0),
    event(7, "feedback", timedelta(0), rating=1.0, text="This is of the hour that is not over."),
    event(8, "feedback", HOURS, rating=1.0, text="This is a terrible program.", is_bot=True),
    event(9, "support_ticket", 30 * 24 * HOURS, properties='{"ticket_id": "old"}', channel="email"),
    event(10, "support_ticket", 2 * HOURS, properties='{"ticket_id": "t"}', channel="email"),
    event(11, "support_reply", HOURS, text="We are so sorry.", properties='{"ticket_id": "t"}'),
    event(11, "support_reply", HOURS, text="We are so sorry.", properties='{"ticket_id": "t"}'),  # a copy
]


def frames(warehouse: LocalWarehouse, as_of: datetime = T, config: str | None = None) -> dict[str, pl.DataFrame]:
    with warehouse.asking() as ask:
        found = compute(Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), read_config(config)))
    shapes = {table.name: table for table in PASS.tables}
    assert set(found) == set(shapes)
    for name, rows in found.items():
        columns = [each.name for each in shapes[name].columns if each.name not in ("as_of", "pipeline_version")]
        assert set(rows.columns) == set(columns), name
        assert not rows.select(shapes[name].key[1:]).is_duplicated().any(), name
    return found


@pytest.fixture
def by_hand(tmp_path) -> LocalWarehouse:
    return stored(tmp_path / "w", EVENTS_BY_HAND)


def stored(folder: Path, events: list[dict]) -> LocalWarehouse:
    warehouse = LocalWarehouse.open(folder, time_zone="Europe/Berlin", create=True)
    write(warehouse, (EVENTS, events), declared=TABLES)
    return warehouse


def test_rows_by_hand(by_hand):
    found = frames(by_hand)
    hours = {(row["bucket_start"], row["content_id"]): row for row in found["feedback_1h"].to_dicts()}
    row = hours[HOUR - HOURS, "a"]
    assert [row[name] for name in ("texts", "scored", "unscored", "positive", "negative")] == [3, 2, 1, 1, 1]
    assert row["sentiment"] == pytest.approx(
        sum(SentimentIntensityAnalyzer().polarity_scores(each)["compound"] for each in ENGLISH) / 2
    )
    assert (row["csat_ratings"], row["csat_satisfied"], row["nps_ratings"]) == (2, 1, 0)
    other = hours[HOUR - HOURS, None]
    assert (other["texts"], other["nps_promoters"], other["ces_ratings"], other["ces_sum"]) == (0, 1, 1, 6.0)
    assert len(hours) == 2, "answers of the staff, bots and the open hour do not count"
    whole = {(row["span_days"], row["score"]): row for row in found["satisfaction"].to_dicts() if row["scope"] == "all"}
    assert (whole[7, "nps"]["value"], whole[7, "nps"]["n"]) == (100.0, 1)
    assert (whole[28, "nps"]["value"], whole[28, "nps"]["n"], whole[28, "nps"]["is_few"]) == (0.0, 2, True)
    assert found["feedback_languages"].rows() == [("de", 1, 0), ("en", 2, 2)]
    assert found["support_1h"].select(
        "bucket_start", "channel", "opened", "first_answer_p50_seconds", "backlog"
    ).rows() == [(HOUR - 2 * HOURS, "email", 1, 3600.0, 2)]


def test_nothing_after_the_time_matters(by_hand):
    early = frames(by_hand, HOUR - HOURS)
    assert early["feedback_1h"].is_empty()
    assert early["support_1h"]["answered"].to_list() == [0]


OWN = """
insight:
  feedback:
    texts: [review, comment]
    csat: [review]
    nps: [nps_survey]
    ces: []
    opened: [case_opened]
    answered: [agent_reply]
    ticket: case_number
"""
OWN_NAMES = {"feedback": "review", "nps": "nps_survey", "support_ticket": "case_opened", "support_reply": "agent_reply"}


def test_events_of_other_names_count_where_the_configuration_names_them(by_hand, tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    events = [row | {"event_type": OWN_NAMES.get(row["event_type"], row["event_type"])} for row in EVENTS_BY_HAND]
    for row in events:
        row["properties"] = row.get("properties", "{}").replace("ticket_id", "case_number")
    noise = event(50, "chat", HOURS, text="This is terrible, but nobody asked for it.", rating=1.0)
    own = frames(stored(tmp_path / "own", [*events, noise]), config=str(tmp_path / "own.yaml"))
    shipped = frames(by_hand)
    for name in ("support_1h", "themes", "feedback_languages"):
        assert own[name].equals(shipped[name]), name
    columns = pl.exclude("ces_ratings", "ces_sum")
    assert own["feedback_1h"].select(columns).equals(shipped["feedback_1h"].select(columns))
    assert own["feedback_1h"]["ces_ratings"].sum() == 0
    assert own["satisfaction"].equals(shipped["satisfaction"].filter(pl.col("score") != "ces"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("csat: [nps]", "$.insight.feedback.nps: got 'nps', which csat has; allowed: each type once"),
        ("""csat: ["it's"]""", "$.insight.feedback.csat[0]: got"),
        ("ticket: 'a b'", "$.insight.feedback.ticket: got"),
    ],
)
def test_a_section_that_cannot_be_is_one_line(keys, said, tmp_path):
    (tmp_path / "own.yaml").write_text(f"insight: {{feedback: {{{keys}}}}}\n")
    with pytest.raises(ConfigError) as refused:
        read_config(str(tmp_path / "own.yaml"))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_simulated_feedback_has_the_counts_of_plain_sql(tmp_path):
    raw, folder = tmp_path / "events.jsonl", tmp_path / "w"
    simulate = [
        "simulate",
        "--events",
        "4000",
        "--seed",
        "5",
        "--days",
        "3",
        "--start",
        "2026-03-16",
        "--faults",
        "none",
    ]
    assert main([*simulate, "--output", str(raw)]) == 0
    assert main(["backfill", "--input", str(raw), "--warehouse", str(folder)]) == 0
    found = frames(LocalWarehouse.open(folder), datetime(2026, 3, 20, tzinfo=UTC))
    sql = duckdb.connect()
    oracle = sql.execute(
        "SELECT count(*) FILTER (text IS NOT NULL), count(*) FILTER (event_type = 'feedback'), "
        "count(*) FILTER (event_type = 'feedback' AND rating >= 4), count(*) FILTER (event_type = 'support_ticket') "
        f"FROM (SELECT DISTINCT ON (event_id) * FROM read_json_auto('{raw}'))"
    ).fetchone()
    hours, support = found["feedback_1h"], found["support_1h"]
    sums = [hours[name].sum() for name in ("texts", "csat_ratings", "csat_satisfied")]
    assert (*sums, support["opened"].sum()) == oracle
    assert min(oracle) > 10
    assert support["backlog"].max() <= oracle[3]
    written = sql.execute(
        "SELECT DISTINCT ON (event_id) coalesce(user_id, anonymous_id), lower(text) "
        f"FROM read_json_auto('{raw}') WHERE text IS NOT NULL"
    ).fetchall()
    themes = found["themes"].to_dicts()
    assert themes, "some phrases are frequent"
    for theme in themes:
        pattern = re.compile(rf"(?<![a-z'-]){re.escape(theme['phrase'])}(?![a-z'-])")
        assert theme["texts"] == sum(bool(pattern.search(text)) for _, text in written), theme
        assert theme["persons"] == len({person for person, text in written if pattern.search(text)}) >= 5
    assert Counter(found["feedback_languages"]["language"].to_list())["en"] == 1
