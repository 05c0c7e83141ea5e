"""Stream = batch: the same records, shuffled, repeated, late and conflicting, give equal final rows in every table."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.apps.simulator.simulate import Faults, faults, simulate
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.parity import runs
from tests.support.rows import asked
from transforms.settle import judge

BUCKETED = ("activity_1m", "content_1h", "campaign_1h", "user_days")
METRICS = (*BUCKETED, "sessions")
FAULTS = faults(repeats=0.08, conflicts=0.0, late=0.03, too_late=0.02, malformed=0.03, fast_clock=0.02, future=0.01)


def simulated(folder: Path, events: int, seed: int, given: Faults) -> tuple[list[bytes], object]:
    path = folder / "events.jsonl"
    ledger = simulate(events=events, seed=seed, output=path, days=2, start=date(2026, 3, 1), faults=given)
    return path.read_bytes().split(b"\n")[:-1], ledger


def assert_same(one, other, sql: str) -> None:
    first, second = runs.rows(one, sql), runs.rows(other, sql)
    assert first.height > 0
    assert first.equals(second), f"{sql}: {first.height} rows, {second.height} rows"


@pytest.mark.parametrize("seed", [1])
def test_a_shuffled_late_repeated_stream_gives_the_rows_of_a_backfill(tmp_path, seed):
    lines, ledger = simulated(tmp_path, 500, seed, FAULTS)
    batch = runs.bounded(tmp_path / "batch", lines, seed)
    stream = runs.streamed(tmp_path / "stream", lines, seed)
    event = "SELECT * EXCLUDE (received_time) FROM events"  # of a repeat, arrival decides which delivery is kept
    assert_same(batch, stream, event)
    accepted = ledger.accepted + ledger.quarantined["no_time"]  # a queue says when it received what tells no time
    assert runs.rows(batch, event).height == accepted
    assert_same(batch, stream, "SELECT * FROM quarantine")
    for metric in METRICS:
        assert_same(batch, stream, f"SELECT * FROM {metric}_current")
    assert_same(
        batch,
        stream,
        "SELECT source, bucket_start, received, quarantined, events + duplicates AS settled FROM quality_1m_current",
    )
    for warehouse in (batch, stream):
        totals = "SELECT sum(received), sum(events), sum(duplicates), sum(conflicts) FROM quality_1m_current"
        assert asked(warehouse, totals).row(0) == (len(lines), accepted, ledger.repeats, 0)
        unbalanced = "SELECT count(*) FROM quality_1m_current WHERE balance <> 0"
        assert asked(warehouse, unbalanced).row(0) == (0,)
    fired = "SELECT DISTINCT firing FROM activity_1m UNION SELECT DISTINCT firing FROM user_days"
    firings = {firing for (firing,) in asked(stream, fired).rows()}
    assert firings == {"early", "on_time", "late"}


def test_of_a_conflicted_id_each_path_keeps_exactly_one_payload_and_the_rest_is_equal(tmp_path):
    lines, ledger = simulated(tmp_path, 300, 5, faults(repeats=0.03, conflicts=0.03, late=0.02))
    assert len(ledger.conflicted_ids) > 5
    batch = runs.bounded(tmp_path / "batch", lines, 5)
    stream = runs.streamed(tmp_path / "stream", lines, 5)
    listed = ", ".join(f"'{id}'" for id in ledger.conflicted_ids)
    assert_same(batch, stream, f"SELECT * EXCLUDE (received_time) FROM events WHERE event_id NOT IN ({listed})")
    for warehouse in (batch, stream):
        kept = asked(warehouse, f"SELECT event_id FROM events WHERE event_id IN ({listed})").rows()
        assert sorted(id for (id,) in kept) == sorted(ledger.conflicted_ids)


def test_a_watermark_four_days_ahead_drops_nothing_what_no_window_takes_is_in_quarantine(tmp_path):
    lines, _ = simulated(tmp_path, 300, 9, faults(conflicts=0.0, too_late=0.0, late=0.0))
    batch = runs.bounded(tmp_path / "batch", lines, 9)
    limit = runs.utc(1772409600)  # midnight after the first day: what is older is too late for this stream
    now = (limit + timedelta(days=3) - timedelta(hours=1)).timestamp()
    stream = runs.streamed(tmp_path / "stream", lines, 9, jump=now, clock=_Clock(now))
    recent = f"event_time >= TIMESTAMPTZ '{limit.isoformat()}'"
    assert_same(batch, stream, f"SELECT * EXCLUDE (received_time) FROM events WHERE {recent}")
    old = "SELECT count(*) FROM quarantine WHERE code = 'too_late_for_stream'"
    deliveries = "SELECT sum(events + duplicates) FROM quality_1m_current"
    (expected,) = asked(batch, deliveries).row(0)
    (kept,) = asked(stream, deliveries).row(0)
    (aside,) = asked(stream, old).row(0)
    assert 0 < aside == expected - kept
    for metric in BUCKETED:
        since = f"SELECT * FROM {metric}_current WHERE bucket_start >= TIMESTAMPTZ '{limit.isoformat()}'"
        assert_same(batch, stream, since)


class _Clock:
    """A clock that stands, picklable."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def one_block(tmp_path_factory) -> tuple[list[bytes], LocalWarehouse]:
    """Lines with repeats and conflicts, and what comes of them in one block."""
    folder = tmp_path_factory.mktemp("whole")
    lines, _ = simulated(folder, 300, 3, faults(repeats=0.1, conflicts=0.05, malformed=0.05))
    return lines, runs.bounded(folder / "whole", lines, 0, block_rows=10_000)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block_rows=st.sampled_from([7, 60, 333, 2000]), shards=st.integers(1, 9), seed=st.integers(0, 9))
def test_blocks_cut_anywhere_in_any_order_with_any_shards_give_equal_rows(
    tmp_path_factory, one_block, block_rows, shards, seed
):
    lines, whole = one_block
    cut = runs.bounded(tmp_path_factory.mktemp("cut") / "w", lines, seed, block_rows, shards)
    for table in ("events", "quarantine", *(f"{metric}_current" for metric in METRICS), "quality_1m_current"):
        assert_same(whole, cut, f"SELECT * FROM {table}")


def test_a_block_that_is_lost_between_two_stages_shows_in_the_balance(tmp_path, monkeypatch):
    def lose_one(parsed, *rules):
        judged = judge(parsed, *rules)
        return judged._replace(events=judged.events.filter(pl.col("event_id") != victim))

    lines, _ = simulated(tmp_path, 50, 4, faults(malformed=0.0, repeats=0.0, conflicts=0.0))
    victim = runs.msgspec.json.decode(lines[20])["event_id"]
    monkeypatch.setattr("transforms.settle.judge", lose_one)
    warehouse = runs.bounded(tmp_path / "w", lines, 4)
    lost = (
        warehouse.connect()
        .execute("SELECT bucket_start, balance FROM quality_1m_current WHERE balance <> 0")
        .fetchall()
    )
    received = runs.received_seconds(lines[20])
    assert lost == [(runs.utc(received // 60 * 60), 1)]
