"""Events that happen now: received when they are published, and as late and as wrong as they were made."""

import msgspec
import polars as pl
import pytest

from pipelines.apps.simulator.faults import USUAL_FAULTS, faults
from pipelines.apps.simulator.live import Live
from transforms.records.times import read_times

NOW = 1_790_000_000.0


def told(lines) -> pl.DataFrame:
    """event_id and times (ms since 1970) of the lines that can be read."""
    found = []
    for _, line in lines:
        try:
            read = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(read, dict):
            times = {name: read.get(name) for name in ("event_time", "sent_time", "received_time")}
            found.append({"id": read.get("event_id")} | times)
    texts = pl.DataFrame(found, dict.fromkeys(("id", "event_time", "sent_time", "received_time"), pl.String))
    return texts.with_columns(read_times(texts[name]).dt.epoch("ms").alias(name) for name in texts.columns[1:])


def published(live: Live, size: int, step: float) -> list:
    """All lines, `size` at a time, every `step` seconds."""
    return [
        line
        for number, first in enumerate(range(0, len(live), size))
        for line in live.lines(first, size, NOW + number * step)
    ]


def test_a_record_is_received_when_it_is_published_and_is_as_late_as_it_was_made():
    live = Live(3_000, 5, faults("none", late=0.1))
    lines = published(live, 100, 0.2)
    times = told(lines)
    assert len(live) == len(lines) == times.height == 3_000
    assert times["received_time"].to_list() == [int((NOW + n // 100 * 0.2) * 1000) for n in range(3_000)]
    behind = (times["received_time"] - times["event_time"]) / 3_600_000
    assert behind.min() > 0
    assert 200 < (behind >= 2).sum() < 400 and (behind >= 2).sum() == live.ledger.late
    assert behind.max() < 20.01
    assert (behind < 0.5).sum() == 3_000 - live.ledger.late


def test_a_copy_tells_the_times_of_its_event_however_they_are_cut():
    live = Live(2_000, 5, faults("none", repeats_near=0.2, repeats_far=0.2, conflicts=0.1))
    times = told(published(live, 37, 1.0))
    twice = times.group_by("id").agg(pl.len(), pl.col("event_time").n_unique(), pl.col("sent_time").n_unique())
    assert twice["len"].sum() == live.ledger.lines
    assert (twice["len"] == 2).sum() == live.ledger.repeats + live.ledger.conflicts > 500
    assert twice["event_time"].max() == twice["sent_time"].max() == 1


def test_a_queue_tells_a_time_of_every_message_and_no_copy_is_a_day_late():
    live = Live(2_000, 5, faults("none", no_time=0.1, missing_time=0.1))
    assert live.ledger.quarantined["no_time"] == 0
    assert live.ledger.accepted == live.ledger.lines == 2_000
    assert live.ledger.time_sources["received_missing"] > 300
    timeless = told(published(live, 500, 1.0)).filter(pl.col("received_time").is_null())
    assert timeless.height > 100  # the line tells none, the queue does
    assert Live(100, 5).ledger.faults == msgspec.structs.replace(USUAL_FAULTS, repeats_too_late=0.0)


@pytest.mark.parametrize("events", [1, 50_001])
def test_every_delivery_is_there_once(events):
    live = Live(events, 3)
    assert live.ledger.lines == len(live) >= events
    assert len(live.lines(len(live) - 1, 10, NOW)) == 1
