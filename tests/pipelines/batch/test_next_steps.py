"""What the summary of a run proposes to type next, and what a run into days that have rows says that it wrote."""

import json
import re
import shlex

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse

TIME = "2026-03-01T10:00:0{second}Z"
SHOP = [("page_view", "web"), ("add_to_cart", "web"), ("purchase", "web"), ("page_view", "mobile")]
SOCIAL = [("like", None), ("share", None), ("like", None)]


def run(capfd, *words: str) -> str:
    assert main([*words, "--workers", "1"]) == 0
    return capfd.readouterr().err


@pytest.fixture
def backfill(tmp_path, capfd):
    def fills(kinds, *words: str) -> str:
        lines = [
            {"event_id": f"e{n}", "event_type": kind, "user_id": "u", "event_time": time, "received_time": time}
            | ({"channel": channel} if channel else {})
            for n, (kind, channel) in enumerate(kinds)
            for time in [TIME.format(second=n)]
        ]
        path = tmp_path / "events.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run(capfd, "backfill", "--input", str(path), "--warehouse", str(tmp_path / "w"), *words)

    return fills


def proposed(said: str) -> list[list[str]]:
    return [shlex.split(line)[2:] for line in said.splitlines() if line.startswith("next: ")]


def test_a_shop_is_offered_its_channels_and_its_funnel_and_each_query_has_an_answer(backfill, capfd):
    words = proposed(backfill(SHOP))
    views = [re.search(r"FROM (\w+)", each[-1])[1] for each in words]
    assert views[:2] == ["engagement_by_channel", "funnel_by_day"]
    for each in words:
        assert main([*each, "--csv"]) == 0
        assert capfd.readouterr().out.count("\n") > 1


def test_events_without_channels_or_steps_are_offered_neither(backfill, capfd):
    [words] = proposed(backfill(SOCIAL))
    assert main([*words, "--csv"]) == 0
    assert capfd.readouterr().out == "event_type,events\nlike,2\nshare,1\n"


def test_a_configuration_without_the_metric_is_offered_what_there_is(backfill, tmp_path, capfd):
    path = tmp_path / "config.yaml"
    path.write_text("metrics: {activity_1m: null}\n")
    [words] = proposed(backfill(SOCIAL, "--config", str(path)))
    assert main([*words, "--csv"]) == 0
    assert capfd.readouterr().out == "event_type,events\nlike,2\nshare,1\n"


def test_what_is_written_to_days_that_have_rows_is_said_by_table(backfill, tmp_path, capfd):
    assert "  wrote " not in backfill(SHOP)
    folder = tmp_path / "w"
    for said in (
        backfill(SHOP, "--add"),
        backfill(SHOP, "--replace", "--start", "2026-03-01", "--end", "2026-03-02"),
        run(capfd, "recompute", "--warehouse", str(folder)),
    ):
        told = dict(re.findall(r"^  (?:wrote)? +(\w+) +([\d,]+) rows? of 1 day$", said, re.MULTILINE))
        warehouse = LocalWarehouse.open(folder)
        rewritten = told.keys() - {"quality_1m"}  # whose rows are added to
        counts = {name: sum(warehouse.rows_by_day(name).values()) for name in rewritten}
        assert {name: int(told[name]) for name in rewritten} == counts
        assert counts["events"] == pl.scan_parquet(warehouse.files("events")).select(pl.len()).collect().item() == 4
        assert {"sessions", "user_days", "activity_1m"} <= told.keys()


def test_a_replay_of_nothing_says_so(backfill, tmp_path, capfd):
    backfill(SHOP)
    assert "  wrote         nothing\n" in run(capfd, "replay", "--warehouse", str(tmp_path / "w"))


def test_a_warehouse_named_through_the_folder_above_is_read_again(backfill, tmp_path, monkeypatch, capfd):
    backfill(SHOP)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    run(capfd, "backfill", "--input", "../events.jsonl", "--warehouse", "../other")
    assert main(["query", "SELECT count(*) AS n FROM events", "--warehouse", "../other", "--csv"]) == 0
    assert capfd.readouterr().out == f"n\n{len(SHOP)}\n"
