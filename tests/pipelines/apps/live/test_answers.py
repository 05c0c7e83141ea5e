"""The cards over the answers of refreshes: their numbers, when they are shown, and that a tick sees a refresh."""

import uuid
from datetime import datetime, timedelta

import pytest

from pipelines.apps.live.insight import INSIGHT
from pipelines.apps.live.tick import CALM, Live
from pipelines.apps.live.viewers import Viewers
from pipelines.insight.tables import TRENDS_10M
from pipelines.warehouse.answers import REFRESHES
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.apps.live.answers import MINUTE, expected_answers, fill_answers, trends, write_answers
from tests.pipelines.apps.live.rows import AT, CANARIES, HOSTILE, ZONE, events
from tests.pipelines.apps.live.test_tick import Clock, plain
from tests.pipelines.warehouse.test_metric_views import write

NAMES = {each.name for each in INSIGHT}


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("answers") / "w", ZONE, create=True)
    write(warehouse, (EVENTS, events(AT, 1, 9)))
    fill_answers(warehouse, AT)
    return warehouse


def answers(live: Live) -> dict:
    """The keys of the cards, rounded; without when they were asked, and how many hours there are."""
    own = {key: value for key, value in live.keys.items() if key.partition(".")[0] in NAMES}
    own = {key: value for key, value in own.items() if not key.endswith((".asked", ".written"))}
    own.pop("forecast.rows", None)
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in own.items()}


def right(warehouse, at=AT) -> dict:
    found = {key: plain(value) for key, value in expected_answers(warehouse, at).items()}
    return {key: value for key, value in found.items() if value is not None}


def ticked(warehouse, at=AT) -> Live:
    live = Live(warehouse, 1.0)
    live.tick(at)
    assert live.problem == ""
    return live


def test_every_number_is_that_of_sql_over_the_tables(answered):
    live = ticked(answered)
    assert answers(live) == right(answered)
    assert len(answers(live)) > 300 and live.keys["trends.rows"] == 6 and live.keys["alerts.rows"] == 3
    written = (AT.replace(second=0) - 4 * MINUTE).timestamp()
    assert {live.keys[f"{name}.written"] for name in NAMES - {"alerts"}} == {written}
    assert "3 open alerts; the newest: rule-0, shop." in live.keys.values()
    assert HOSTILE in live.keys.values()
    assert [canary for canary in CANARIES if any(canary in str(value) for value in live.keys.values())] == []


def test_the_sql_of_a_card_gives_its_numbers_when_it_is_typed(answered):
    live = ticked(answered)
    for each in live.described():
        if each["name"] not in NAMES:
            continue
        sql = each["sql"]
        for name in sorted((key for key in live.keys if key.startswith("calm_at.")), key=len, reverse=True):
            text, parameter = str(live.keys[name]), name.partition(".")[2]
            value = f"DATE '{text}'" if len(text) == 10 else f"TIMESTAMPTZ '{text}+00:00'"
            sql = sql.replace(f"@{parameter}", value).replace(f"${parameter}", value)
        rows = answered.answer(sql).frame().drop("written").rows(named=True)
        assert len(rows) == live.keys[f"{each['name']}.rows"]
        for place, row in enumerate(rows):
            at = row.pop("minute", place)
            for column, value in row.items():
                value = value.timestamp() if isinstance(value, datetime) else value
                assert plain(live.keys.get(f"{each['name']}.{at}.{column}")) == plain(value)


def test_a_dataset_has_the_same_numbers(answered, bigquery):
    with open_warehouse(f"demo-project.d{uuid.uuid4().hex}", None, time_zone=ZONE, create=True) as dataset:
        write(dataset, (EVENTS, events(AT, 1, 9)))
        fill_answers(dataset, AT)
        assert answers(ticked(dataset)) == right(answered)


def test_a_card_is_there_from_the_first_refresh_on_and_gone_two_days_after_the_last(tmp_path):
    warehouse, clock = LocalWarehouse.open(tmp_path / "w", ZONE, create=True), Clock()
    write(warehouse, (EVENTS, events(AT, 1, 9)))
    live = Live(warehouse, 1.0)
    live.tick(AT, clock)
    edition = live.edition
    assert "trends.written" not in live.keys and "trends" not in {each["name"] for each in live.described()}
    clock.seconds += CALM + 1  # less than STILL: only a commit makes it due
    as_of = AT.replace(second=0) - MINUTE
    write_answers(warehouse, {TRENDS_10M: [], REFRESHES: [{"as_of": as_of, "table_name": "trends_10m"}]})
    changed = live.tick(AT, clock)  # no event came in: the answers alone are new
    assert changed["trends.written"] == as_of.timestamp() and live.edition == edition + 1
    assert "trends" in {each["name"] for each in Viewers(live, print).described()["questions"]}
    assert "trends.0.trend" not in live.keys, "nothing rises or falls, and that is said"
    for days, is_shown in ((2, True), (3, False)):
        write(
            warehouse,
            (EVENTS, [events(AT, 1, 1)[0] | {"event_id": f"{days}", "event_time": AT + timedelta(days=days)}]),
        )
        assert ("trends.written" in ticked(warehouse, AT + timedelta(days=days, minutes=-1)).keys) == is_shown


def test_an_older_refresh_shows_nothing_where_the_newest_found_nothing(tmp_path):
    import random

    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(warehouse, (EVENTS, events(AT, 1, 9)))
    before, as_of = AT.replace(second=0) - 6 * MINUTE, AT.replace(second=0) - MINUTE
    noted = [{"as_of": each, "table_name": "trends_10m"} for each in (before, as_of)]
    rows = trends(before, random.Random(1), 10 * MINUTE, 9)
    write_answers(warehouse, {TRENDS_10M: rows, REFRESHES: noted})
    live = ticked(warehouse)
    assert live.keys["trends.written"] == as_of.timestamp() and "trends.0.trend" not in live.keys
