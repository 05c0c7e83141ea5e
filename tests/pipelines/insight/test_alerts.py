"""Alerts: what each rule finds as of a time, what becomes of it, and that each is sent once whatever is cut short."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.insight.alerts import findings
from pipelines.insight.alerts.changes import changes, mute_row, open_alerts
from pipelines.insight.alerts.findings import At
from pipelines.insight.alerts.run import alert, log_of, mute
from pipelines.insight.alerts.table import ALERTS
from pipelines.settings.alerts import (
    Alerts,
    AnomalyRule,
    FunnelDrop,
    NegativeFeedback,
    NoNewData,
    QualityRule,
    Secret,
    Silence,
    Webhook,
)
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import QUALITY_1M, TABLES, polars_schema
from tests.servers.needed import LIMIT
from tests.servers.receiver import receiving

T = datetime(2026, 3, 9, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TIME = pl.Datetime("us", "UTC")
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
EMPTY = pl.DataFrame(schema=polars_schema(ALERTS))


def last(**sources: int) -> pl.DataFrame:
    """(source, last), so many minutes before T."""
    ends = [T - minutes * MINUTE for minutes in sources.values()]
    return pl.DataFrame({"source": list(sources), "last": ends}, schema={"source": pl.String, "last": TIME})


def found(frame: pl.DataFrame) -> list[tuple]:
    return frame.sort("subject").select("subject", "opened_time", "value", "threshold").rows()


def test_silence_is_of_each_source_and_began_when_its_time_was_over():
    frame = findings.silent(last(web=1, shop=31, app=30), Silence(name="s", after="30m"), T)
    assert found(frame) == [("shop", T - MINUTE, 31 * 60.0, 1800.0)]
    assert frame["text"][0] == "shop: no record since 2026-03-09 11:29 UTC, 31 min"


def test_no_new_data_is_of_the_newest_source_and_by_the_clock():
    rule = NoNewData(name="n", after="1h")
    assert found(findings.stale(last(web=1, shop=600), rule, T)) == []
    late = findings.stale(last(web=1, shop=600), rule, T + HOUR)
    assert found(late) == [("all sources", T + 59 * MINUTE, 3660.0, 3600.0)]
    assert found(findings.stale(last(), rule, T)) == []


def test_quality_is_the_share_of_refused_records_and_a_balance_that_is_off():
    counts = pl.DataFrame(
        {"source": ["a", "b", "c"], "records": [100, 99, 200], "quarantined": [6, 99, 10], "off": [0, 3, 0]}
    )
    start = T - HOUR
    assert found(findings.refused(counts, QualityRule(name="q"), T)) == [
        ("a", start, 0.06, 0.05),
        ("b: balance", start, 3.0, 0.0),
    ]
    assert found(findings.refused(counts, QualityRule(name="q", balance=False), T + MINUTE)) == [("a", T, 0.06, 0.05)]
    assert found(findings.refused(counts, QualityRule(name="q", source="c", quarantine_share=0.04), T)) == [
        ("c", start, 0.05, 0.04)
    ]


def test_a_step_of_the_funnel_drops_against_the_days_before_in_the_time_zone_of_the_warehouse():
    days = [date(2026, 3, 8), date(2026, 3, 7), date(2026, 3, 6)]
    rows = {
        "day": days * 2,
        "step": [2] * 3 + [3] * 3,
        "event_type": ["cart"] * 3 + ["buy"] * 3,
        "persons": [100, 210, 190, 50, 60, 40],
        "previous_persons": [200, 200, 200, 100, 100, 100],
    }
    at = At(T, T, "Europe/Berlin")
    frame = findings.dropped(pl.DataFrame(rows), FunnelDrop(name="f", drop=0.3), at)
    assert found(frame) == [("step 2: cart", datetime(2026, 3, 8, 23, tzinfo=UTC), pytest.approx(0.5), 0.3)]
    assert frame["text"][0] == "step 2: cart converts 50.0 %, usually 100.0 %"
    assert found(findings.dropped(pl.DataFrame(rows), FunnelDrop(name="f", least_persons=201), at)) == []
    assert found(findings.dropped(pl.DataFrame(rows), FunnelDrop(name="f", step=3), at)) == []


def test_an_anomaly_is_one_alert_for_each_series_since_its_first_hour():
    rows = {
        "metric": ["events", "events", "sessions"],
        "channel": ["web", "web", None],
        "kind": ["point", "point", "silence"],
        "direction": ["above", "above", "below"],
        "since": [T - 2 * HOUR, T - 2 * HOUR, T - HOUR],
        "value": [20.0, 30.0, 0.0],
        "expected": [10.0, 10.0, 25.0],
        "surprise": [7.0, 9.0, 25.0],
    }
    frame = findings.anomalous(pl.DataFrame(rows), AnomalyRule(name="a"))
    assert found(frame) == [
        ("events of web: point", T - 2 * HOUR, 9.0, 0.0),
        ("sessions of all channels: silence", T - HOUR, 25.0, 0.0),
    ]
    assert "30.0, expected 10.0" in frame["text"][0]
    assert findings.anomalous(pl.DataFrame(rows), AnomalyRule(name="a", surprise=10))["subject"].len() == 1
    assert findings.anomalous(pl.DataFrame(rows), AnomalyRule(name="a", channel="web"))["subject"].len() == 1


def test_feedback_is_negative_by_its_share_of_the_texts_with_a_sentiment():
    rows = pl.DataFrame({"content_id": ["a", "b", None], "scored": [20, 19, 21], "negative": [11, 19, 1]})
    start = T - 3 * HOUR
    rule = NegativeFeedback(name="n")
    assert found(findings.negative(rows, rule, T)) == [("a", start, 0.55, 0.5), ("all content", start, 31 / 60, 0.5)]
    assert found(findings.negative(rows, NegativeFeedback(name="n", content="b", least_texts=19), T)) == [
        ("b", start, 1.0, 0.5)
    ]
    assert found(findings.negative(rows, NegativeFeedback(name="n", share=0.55), T)) == []
    assert found(findings.negative(rows.head(0), rule, T)) == []


RULE = Silence(name="s", after="30m", cooldown="1h")


class Log:
    """The rows so far, of one rule over sources."""

    def __init__(self):
        self.rows = EMPTY

    def at(self, as_of: datetime, now: datetime | None = None, rules=(RULE,), **sources: int) -> list[tuple]:
        """(state, subject, is_muted) of what is new when the sources were heard of so many minutes before `as_of`."""
        ends = last(**sources).with_columns(pl.col("last") + (as_of - T))
        parts = [findings.silent(ends, rule, as_of) for rule in rules]
        frame = pl.concat([pl.DataFrame(schema=findings.FINDINGS), *parts])
        new = changes(frame, self.rows, rules, [rule.name for rule in rules], as_of, now or as_of)
        self.rows = pl.concat([self.rows, new])
        return sorted(new.select("state", "subject", "is_muted").rows())


def test_an_alert_opens_once_resolves_once_and_rests_for_its_cooldown():
    log = Log()
    assert log.at(T, web=40, shop=1) == [("opened", "web", False)]
    assert log.at(T, web=40, shop=1) == [], "a rerun as of the same time"
    assert log.at(T + MINUTE, web=41, shop=1) == []
    assert open_alerts(log.rows)["subject"].to_list() == ["web"]
    assert log.at(T + 2 * MINUTE, web=1, shop=1) == [("resolved", "web", False)]
    assert log.at(T + 2 * MINUTE, web=1, shop=1) == []
    assert log.at(T + HOUR, web=40, shop=40) == [("opened", "shop", False)], "web rests"
    assert log.at(T + HOUR + 2 * MINUTE, web=42, shop=42) == [("opened", "web", False)]
    assert log.at(T, web=40, shop=1) == [], "a rerun as of an earlier time"
    assert log.rows.height == log.rows.select("alert_id", "state").unique().height


def test_a_muted_alert_is_kept_and_sent_when_it_is_open_at_the_end_of_the_mute():
    log = Log()
    log.rows = pl.concat([log.rows, mute_row("s", "silence", T + HOUR, T - HOUR)])
    assert log.at(T, web=40) == [("opened", "web", True)]
    assert log.at(T + HOUR, web=100) == [("unmuted", "web", False)]
    assert log.at(T + HOUR + MINUTE, web=101) == []
    assert log.at(T + HOUR + 2 * MINUTE, web=1) == [("resolved", "web", False)]
    muted = Log()
    rule = Silence(name="s", after="30m", mute_until=(T + HOUR).isoformat())
    assert muted.at(T, rules=(rule,), web=40) == [("opened", "web", True)]
    assert muted.at(T + MINUTE, rules=(rule,), web=1) == [("resolved", "web", True)]


def test_alerts_of_a_rule_that_is_gone_are_resolved_without_a_message():
    log = Log()
    log.at(T, web=40)
    assert log.at(T + MINUTE, rules=(), web=41) == [("resolved", "web", True)]


def minute(source: str, before: int, records: int, refused: int) -> dict:
    start = T - before * MINUTE
    counts = {each.name: 0 for each in QUALITY_1M.columns if each.type == "INT64"}
    counts |= {"received": records, "quarantined": refused, "events": records - refused, "generation": 1}
    return {"source": source, "input": "i", "bucket_start": start, "bucket_end": start + MINUTE, **counts}


@pytest.fixture
def place(tmp_path) -> Place:
    """A warehouse whose audit counts have a source that is silent and one that is refused."""
    rows = [minute("web", 1, 300, 100), minute("shop", 200, 5, 0)]
    with open_warehouse(None, str(tmp_path / "w"), create=True) as warehouse, warehouse.writer() as run:
        full = pl.DataFrame(rows).with_columns(
            pl.lit("on_time").alias("firing"),
            *(pl.lit(None).alias(name) for name in ("emitted_time", "pipeline_version")),
        )
        run.declare([*TABLES, *map(table_of, read_config(None).metrics)])
        frame = shaped(full, QUALITY_1M)
        parts = by_day(frame, QUALITY_1M.partition, warehouse.time_zone)
        run.commit([write_file(run.folder, QUALITY_1M.name, day, part) for day, part in parts])
    return Place(None, str(tmp_path / "w"))


RUN = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from pipelines.insight.alerts import channels, outbox
from pipelines.insight.alerts.run import alert
from pipelines.settings.config import read_config
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

folder, config, as_of, point = sys.argv[1:]
if point == "committed":
    outbox.Outbox.add = dies
elif point == "written":
    channels._post = dies
elif point == "sent":
    outbox.Outbox._move = dies
alert(Place(None, folder), read_config(config).alerts, datetime.fromisoformat(as_of), True, None)
"""


@pytest.fixture
def configured(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_OF_ALERTS", SECRET)

    def write(url: str, kind: str = "silence") -> Path:
        path = tmp_path / "own.yaml"
        path.write_text(
            f"alerts:\n  channels: {{ops: {{kind: webhook, url: '{url}', secret: {{env: KEY_OF_ALERTS}}}}}}\n"
            f"  rules: [{{name: s, kind: {kind}, send: [ops]}}]\n"
        )
        return path

    return write


def started(place: Place, config: Path, point: str = "", as_of: datetime = T) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, str(place.warehouse), str(config), as_of.isoformat(), point]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


@pytest.mark.parametrize(("point", "times"), [("committed", 1), ("written", 1), ("sent", 2)])
def test_a_kill_at_any_point_sends_an_alert_once_by_its_id(point, times, place, configured):
    with receiving() as receiver:
        config = configured(receiver.url)
        assert started(place, config, point).wait(LIMIT) == -signal.SIGKILL
        assert len(receiver.got) == times - 1
        for _ in range(2):
            assert started(place, config).wait(LIMIT) == 0
    assert len(receiver.got) == times
    assert len(set(receiver.ids)) == 1 and len({got.body for got in receiver.got}) == 1


def test_a_refresh_sends_an_alert_of_feedback_that_it_has_just_scored(tmp_path, configured):
    events = [
        {"event_id": str(at), "event_type": "comment", "event_time": f"2026-03-09T10:{at:02}:00Z", "user_id": f"u{at}"}
        | {"content_id": "a", "text": "This is terrible, the worst article that I have read in my life."}
        for at in range(30)
    ]
    events.append({"event_id": "e", "event_type": "page_view", "event_time": "2026-03-09T12:01:00Z", "user_id": "u"})
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")
    warehouse = str(tmp_path / "w")
    assert main(["backfill", "--input", str(tmp_path / "e.jsonl"), "--warehouse", warehouse]) == 0
    with receiving() as receiver:
        words = ["refresh", "--warehouse", warehouse, "--config", str(configured(receiver.url, "negative_feedback"))]
        assert [main([*words, "--as_of", "2026-03-09T12:00:00Z"]) for _ in range(2)] == [0, 0]
    sent = sorted((json.loads(each.body)["data"] for each in receiver.got), key=lambda data: data["subject"])
    assert [(data["subject"], data["state"]) for data in sent] == [("a", "opened"), ("all content", "opened")]
    assert all("30 of 30 texts negative in 3h" in data["text"] for data in sent)


def test_two_at_once_send_an_alert_once(place, configured):
    with receiving() as receiver:
        config = configured(receiver.url)
        assert [each.wait(LIMIT) for each in [started(place, config), started(place, config)]] == [0, 0]
    assert len(receiver.got) == 1
    assert log_of(LocalWarehouse.open(place.warehouse)).height == 1


def alerts_to(url: str, *rules) -> Alerts:
    return Alerts({"ops": Webhook(url, Secret(env="KEY_OF_ALERTS"))}, rules)


def test_what_a_receiver_does_not_take_waits_and_keeps_its_order(place, configured, monkeypatch):
    monkeypatch.setattr("pipelines.insight.alerts.run.sender", lambda channel: sender_of(channel, 0))
    rules = (Silence(name="s", send=("ops",)), QualityRule(name="q", send=("ops",), window="2h", least_records=10))
    with receiving(503) as receiver:
        alerts = alerts_to(receiver.url, *rules)
        first = alert(place, alerts, T, True, None)
        assert first.changed == {"opened": 2} and first.sent == [] and len(first.problems) == 1
        assert len(receiver.got) == 1, "a channel that takes nothing is asked once"
        second = alert(place, alerts, T, True, None)
        assert second.changed == {} and len(second.sent) == 2 and second.problems == []
        assert alert(place, alerts, T, True, None) == ({}, [], [])
    assert receiver.ids[0] == receiver.ids[1] != receiver.ids[2]
    modes = {path.stat().st_mode & 0o077 for path in (Path(place.warehouse) / "alerts").rglob("*")}
    assert modes == {0}, "private"


def sender_of(channel, limit):
    from pipelines.insight.alerts.channels import sender

    return sender(channel, limit)


def test_the_command_lists_and_mutes(place, configured, capsys):
    with receiving() as receiver:
        config = str(configured(receiver.url))
        there = ["--warehouse", str(place.warehouse), "--config", config]
        assert main(["alert", *there, "--mute", "t", "--until", "2026-03-09T13:00:00Z"]) == 2
        assert "--mute: got 't'; allowed: a name of a rule: s" in capsys.readouterr().err
        assert main(["alert", *there, "--mute", "s", "--until", "tomorrow"]) == 2
        assert "--until: got 'tomorrow'; allowed: a time with its zone" in capsys.readouterr().err
        assert main(["alert", *there, "--mute", "s", "--until", "2999-03-09T13:00:00Z"]) == 0
        alerts = read_config(config).alerts
        assert alert(place, alerts, T, False, None) == ({"opened": 1}, [], [])
        capsys.readouterr()
        assert main(["alert", *there, "--csv"]) == 0
        head, line = capsys.readouterr().out.splitlines()
        assert head.startswith("rule,subject,") and line.startswith("s,shop,") and ",true," in line
        assert receiver.got == []
        assert main(["alert", *there, "--mute", "s", "--until", "2026-03-09T13:00:00Z"]) == 0
        done = alert(place, alerts, T, False, None)
        assert done.changed == {"unmuted": 1} and done.sent == receiver.ids and done.problems == []
    [id] = receiver.ids
    assert id.endswith("_unmuted")


def test_a_dataset_needs_a_folder_for_what_is_sent(configured, capsys):
    config = str(configured("http://127.0.0.1:9/x"))
    assert main(["refresh", "--dataset", "p-12345.d", "--config", config]) == 2
    assert "--outbox is missing" in capsys.readouterr().err


def test_a_rule_whose_table_does_not_exist_says_so_and_resolves_nothing(place):
    done = alert(place, Alerts(rules=(AnomalyRule(name="a"),)), T, True, None)
    assert done == ({}, [], ["rule a waits: anomalies_1h does not exist yet"])
    assert mute(place, Alerts(rules=(RULE,)), "s", T + DAY) is None
