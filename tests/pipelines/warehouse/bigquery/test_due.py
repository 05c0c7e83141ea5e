"""Days that are due for a recompute: noted in the dataset, joined, rewritten as far as that may be, and taken off."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.warehouse.bigquery import due
from pipelines.warehouse.bigquery.dataset import Choice
from pipelines.warehouse.bigquery.due import add_due, finish_due, next_due, read_due
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.tables import EVENTS
from transforms.days import Days

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def warehouse(bigquery) -> Iterator[BigQueryWarehouse]:
    name = f"demo-project.due_{uuid.uuid4().hex[:12]}"
    with closing(BigQueryWarehouse.open(name, "Asia/Tokyo", True, Choice(settled_after=2 * DAY))) as opened:
        with opened.writer() as run:
            run.declare([EVENTS])
        yield opened


def test_the_days_are_those_of_the_warehouse_s_time_zone_and_two_drains_leave_one_range(warehouse):
    assert read_due(warehouse) is None
    late = NOON.replace(hour=16)  # the next day in Tokyo
    assert add_due(warehouse, late, 3 * DAY) == Days(date(2026, 3, 8), date(2026, 3, 12), "Asia/Tokyo")
    add_due(warehouse, NOON - 5 * DAY, DAY)
    assert read_due(warehouse) == Days(date(2026, 3, 4), date(2026, 3, 12), "Asia/Tokyo")


def test_while_a_stream_writes_only_days_that_it_has_closed_may_be_rewritten(warehouse, monkeypatch):
    days = add_due(warehouse, NOON, DAY)
    assert next_due(warehouse, NOON) == days  # no stream writes
    monkeypatch.setattr(due, "streaming_buffer", lambda table: object())  # the emulator has none
    assert next_due(warehouse, NOON) is None
    assert next_due(warehouse, NOON + 2 * DAY) == days._replace(end=date(2026, 3, 10))
    assert next_due(warehouse, NOON + 9 * DAY) == days


def test_what_was_recomputed_is_taken_off_and_nothing_that_was_added_meanwhile(warehouse):
    days = add_due(warehouse, NOON, 3 * DAY)
    finish_due(warehouse, days._replace(end=date(2026, 3, 9)))
    assert read_due(warehouse) == days._replace(start=date(2026, 3, 9))
    add_due(warehouse, NOON - 20 * DAY, DAY)  # of earlier days, which the recompute did not rewrite
    finish_due(warehouse, days)
    assert read_due(warehouse) is not None
    finish_due(warehouse, Days(date(2026, 1, 1), date(2026, 4, 1), "Asia/Tokyo"))
    assert read_due(warehouse) is None


def test_recompute_rewrites_what_is_due_once_and_says_when_nothing_is(bigquery, tmp_path, capsys):
    dataset = f"demo-project.due_{uuid.uuid4().hex[:12]}"
    day = datetime.now(UTC).date() - DAY
    event = f'{{"event_id": "1", "event_type": "click", "event_time": "{day}T10:00:00Z", "user_id": "u1"}}\n'
    (tmp_path / "events.jsonl").write_text(event)
    assert main(["backfill", "--input", str(tmp_path / "events.jsonl"), "--dataset", dataset, "--workers", "1"]) == 0
    with closing(BigQueryWarehouse.open(dataset)) as opened:
        add_due(opened, datetime.now(UTC), DAY)
        before = generations(opened)
        capsys.readouterr()
        assert main(["recompute", "--due", "--dataset", dataset, "--workers", "1"]) == 0
        assert f"recomputing due days from {day}" in capsys.readouterr().err
        assert generations(opened) > before
        assert read_due(opened) is None
    assert main(["recompute", "--due", "--dataset", dataset]) == 0
    assert "no days are due" in capsys.readouterr().err


def generations(warehouse: BigQueryWarehouse) -> int:
    return pl.concat(warehouse.ask("SELECT MAX(generation) AS g FROM user_days_current")).item()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--warehouse", "w"], "--due needs --dataset"),
        (["--dataset", "my-project.a", "--start", "2026-03-01", "--end", "2026-03-02"], "--due and --start exclude"),
    ],
    ids=["local", "range"],
)
def test_due_days_are_those_of_a_dataset_alone(words, said, capsys):
    assert main(["recompute", "--due", *words]) == 2
    assert said in capsys.readouterr().err
