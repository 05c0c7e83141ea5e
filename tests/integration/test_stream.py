"""A stream from the Pub/Sub emulator, on Prism, into a local warehouse: the rows of a backfill, whatever happens."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.apps.doctor.check import FOUND
from pipelines.apps.doctor.warehouse import socket_checks
from pipelines.batch.backfill import backfill
from pipelines.batch.recompute import recompute
from pipelines.settings.resolve import resolve
from tests.integration.records import backfilled, event, write_github
from tests.integration.same import METRICS, UNBALANCED, assert_same
from tests.integration.streams import (
    EVENTS,
    LONG,
    RECEIVED,
    TRUSTED,
    assert_nothing_lost_or_double,
    drained,
    send,
    until_balanced,
)
from tests.servers.needed import LIMIT
from tests.servers.sockets import assert_private
from tests.servers.stream import ROOT, ask, drain, drain_as_a_person, publish, received_times, streaming
from transforms.lateness import MARGIN, allowed_lateness


def test_a_shuffled_repeated_stream_gives_the_rows_of_a_backfill_and_a_backfill_over_it_changes_none(
    records, queue, prism, tmp_path
):
    lines = records.lines
    order = list(zip(lines, received_times(lines), strict=True))
    random.Random(3).shuffle(order)
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        publish(queue, *map(list, zip(*order, strict=True)))
        stream.until_counted(RECEIVED, len(lines))
        listening = assert_private(stream.process.pid)
        assert {each.kind for each in listening} == {"unix"}
        assert {each.program for each in listening} == {"audience", "Prism"}
        [looked] = socket_checks(stream.process.pid)
        assert (looked.state, looked.facts) == (FOUND, {"listening": []})
        drain_as_a_person(stream.warehouse)
        assert stream.process.wait(LIMIT) == 0, stream.said()
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        "SELECT source, stage, code, errors, payload FROM quarantine",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
        # A file tells no minute of what cannot be read.
        "SELECT bucket_start, sum(events + duplicates) AS n FROM quality_1m_current GROUP BY 1 HAVING n > 0",
        "SELECT sum(received), sum(quarantined), sum(duplicates) FROM quality_1m_current",
    ):
        assert_same(stream.warehouse, records.batch, sql)
    assert ask(stream.warehouse, UNBALANCED) == 0


def test_github_events_replayed_at_high_speed_by_their_own_times_give_the_rows_of_a_backfill(queue, prism, tmp_path):
    file = write_github(tmp_path)
    lines = file.read_bytes().splitlines()
    mapping = str(ROOT / "templates/mappings/github-events.yaml")
    with streaming(queue, prism, tmp_path, "--mapping", mapping, *TRUSTED) as stream:
        publish(queue, lines, [json.loads(line)["dt"] for line in lines])
        stream.until_counted(RECEIVED, len(lines))
        drain("--warehouse", str(stream.warehouse))
        assert stream.process.wait(LIMIT) == 0, stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "mapping": [mapping], "warehouse": str(batch), "workers": "1"}))
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS if metric != "campaign_1h"),  # GitHub has none
        "SELECT sum(received), sum(quarantined), sum(duplicates) FROM quality_1m_current",
    ):
        assert_same(stream.warehouse, batch, sql)
    assert ask(stream.warehouse, UNBALANCED) == 0


def test_what_waited_for_days_is_set_aside_and_a_quiet_source_closes_its_windows(queue, prism, tmp_path):
    lines, too_late = backlog(tmp_path)
    send(queue, lines)
    # No bucket is shown before it ends, so that what is shown is closed.
    with streaming(queue, prism, tmp_path, *TRUSTED, "--early_firing", "1h") as stream:
        stream.until_counted(RECEIVED, len(lines), LONG)
        until_balanced(stream)
        now = datetime.now(UTC) - timedelta(seconds=5)
        last = event("last", now)
        send(queue, [last])
        minute = f"TIMESTAMPTZ '{now:%Y-%m-%d %H:%M}:00+00'"
        closed = f"SELECT count(*) FROM activity_1m WHERE firing = 'on_time' AND bucket_start = {minute}"
        stream.until_counted(closed, 1, LONG)
        # Events of the same minute came before: that it is closed does not say that the last one was read.
        stream.until_counted(EVENTS, len(lines) + 1 - too_late, LONG)
        drained(stream)
    late = "SELECT count(*) FROM quarantine_open WHERE code = 'too_late_for_stream'"
    assert ask(stream.warehouse, late) == too_late > 0
    assert ask(stream.warehouse, EVENTS) == len(lines) + 1 - too_late
    recompute(resolve({"warehouse": str(stream.warehouse), "workers": "1"}, "recompute"))
    assert ask(stream.warehouse, late) == 0
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([*lines, last]))
    assert_nothing_lost_or_double(stream.warehouse, backfilled(tmp_path))


def backlog(folder: Path) -> tuple[list[bytes], int]:
    """Events of the last four days, received when they happened, and how many of them no window takes any more."""
    now = datetime.now(UTC)
    oldest = now - allowed_lateness(timedelta(days=1)) + MARGIN
    hours = [now - timedelta(minutes=90 * n) for n in range(64)]
    moments = hours + [now - timedelta(seconds=5 * n) for n in range(240)]
    # None at the bound, which moves on while they are read.
    moments = [moment for moment in moments if abs(moment - oldest) > timedelta(minutes=20)]
    return [event(f"{n}", moment) for n, moment in enumerate(moments)], sum(moment < oldest for moment in moments)
