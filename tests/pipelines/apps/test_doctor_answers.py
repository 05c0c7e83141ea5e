"""What the doctor says of refreshes and of channels of alerts: a line each."""

import json
from datetime import datetime, timedelta

import pytest

from pipelines.cli import main
from pipelines.warehouse.answers import REFRESHES
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.apps.live.answers import write_answers
from tests.pipelines.apps.live.rows import AT
from tests.pipelines.apps.test_report import minutes
from tests.pipelines.warehouse.test_metric_views import METRICS, at, write

CLOSED = at(12, 12, 1)
CHANNELS = """
alerts:
  channels:
    good: {kind: webhook, url: "https://example.org/hook", secret: {env: GOOD_SECRET}}
    unset: {kind: webhook, url: "https://example.org/hook", secret: {env: NO_SUCH_SECRET}}
    short: {kind: webhook, url: "https://example.org/hook", secret: {env: SHORT_SECRET}}
    open: {kind: slack, url: {file: slack_url}}
    plain: {kind: slack, url: {env: PLAIN_URL}}
"""


@pytest.fixture
def warehouse(tmp_path):
    made = LocalWarehouse.open(tmp_path / "w", create=True)
    write(made, (METRICS["activity_1m"], minutes((12,), ("web", "click"))))
    return made


def rows(warehouse, capsys, *words: str) -> dict[str, dict]:
    assert main(["doctor", "--warehouse", str(warehouse.folder), "--json", *words]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["name"]: row for row in listed if row["section"] == "answers"}


def refreshed(warehouse, as_of: datetime) -> None:
    write_answers(warehouse, {REFRESHES: [{"as_of": as_of, "table_name": "trends_10m"}]})


def test_the_last_refresh_is_told_and_that_it_is_behind(warehouse, capsys):
    assert (rows(warehouse, capsys)["refresh"]["state"], CLOSED < AT) == ("missing", True)
    refreshed(warehouse, CLOSED - timedelta(hours=5))
    behind = rows(warehouse, capsys)["refresh"]
    assert behind["state"] == "wrong" and behind["behind_seconds"] == 5 * 3600
    assert behind["detail"] == "as of 2026-03-12 06:01 UTC, 5 h behind the newest closed bucket"
    assert behind["get"].endswith("--every 5m")
    refreshed(warehouse, CLOSED)
    assert rows(warehouse, capsys)["refresh"]["detail"] == "as of 2026-03-12 11:01 UTC"


def test_a_channel_that_cannot_send_is_told_without_its_secret(warehouse, tmp_path, monkeypatch, capsys):
    secret = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"
    for name, value in {
        "GOOD_SECRET": secret,
        "SHORT_SECRET": "whsec_QUI=",
        "PLAIN_URL": "http://hooks.example",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slack_url").write_text("https://hooks.example/T/B/X")
    (tmp_path / "slack_url").chmod(0o644)
    (tmp_path / "own.yaml").write_text(CHANNELS)
    found = rows(warehouse, capsys, "--config", "own.yaml")
    assert {name: row["state"] for name, row in found.items() if name != "refresh"} == {
        "channel good": "found",
        **dict.fromkeys(("channel open", "channel plain", "channel short", "channel unset"), "wrong"),
    }
    assert found["channel unset"]["detail"] == "the environment variable NO_SUCH_SECRET is not set"
    assert "may be read by others" in found["channel open"]["detail"]
    assert "whsec_ and 24 to 64 bytes" in found["channel short"]["detail"]
    assert "https, or http on loopback" in found["channel plain"]["detail"]
    assert "QUJD" not in json.dumps(found)
