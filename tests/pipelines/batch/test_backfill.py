"""Days: a run writes whole days or nothing, and says why it will not."""

import errno
import json
import os
import textwrap
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from pipelines.batch.backfill import backfill
from pipelines.batch.replay import replay
from pipelines.settings.resolve import resolve
from pipelines.sources.files.read import ReadFiles
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.support.rows import asked
from transforms.errors import WarehouseError

DAY_ONE, DAY_TWO = "2026-03-01", "2026-03-02"


def event(id: str, time: str, **fields) -> str:
    """A line of the native form, received a second after it happened."""
    return json.dumps({"event_id": id, "event_type": "page_view", "event_time": time, "received_time": time} | fields)


def file(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


@pytest.fixture
def run(tmp_path):
    """Backfill files into one warehouse; the summary."""

    def backfilled(*inputs: str, **options):
        given = {"input": list(inputs), "warehouse": str(tmp_path / "warehouse"), "workers": "1", **options}
        return backfill(resolve(given))

    return backfilled


def ask(tmp_path: Path, sql: str) -> list[tuple]:
    return asked(tmp_path / "warehouse", sql).rows()


def ids(tmp_path: Path) -> list[str]:
    return [id for (id,) in ask(tmp_path, "SELECT event_id FROM events ORDER BY 1")]


def snapshot(tmp_path: Path) -> list[list[tuple]]:
    """What the warehouse says, without the stamps of who published it when."""
    return [
        ask(tmp_path, "SELECT * FROM events ORDER BY ALL"),
        ask(tmp_path, "SELECT * EXCLUDE (failed_time) FROM quarantine ORDER BY ALL"),
        ask(tmp_path, "SELECT * EXCLUDE (generation, revision, emitted_time) FROM quality_1m_current ORDER BY ALL"),
        ask(tmp_path, "SELECT * EXCLUDE (generation, revision, emitted_time) FROM user_days_current ORDER BY ALL"),
    ]


def test_a_day_that_has_rows_is_refused_and_nothing_is_changed(tmp_path, run):
    first = file(tmp_path, "one.jsonl", event("a", f"{DAY_ONE}T10:00:00Z"))
    both = file(tmp_path, "both.jsonl", event("b", f"{DAY_ONE}T11:00:00Z"), event("c", f"{DAY_TWO}T11:00:00Z"))
    run(first)
    before = snapshot(tmp_path)
    with pytest.raises(WarehouseError) as refused:
        run(both)
    assert f"already has rows for {DAY_ONE} (1 rows): nothing was changed; give --add" in str(refused.value)
    assert f"--replace --start {DAY_ONE} --end {DAY_TWO}" in str(refused.value)
    with pytest.raises(WarehouseError, match="already has rows"):
        run(both, start=DAY_ONE, end="2026-03-03")
    assert snapshot(tmp_path) == before
    run(both, start=DAY_TWO, end="2026-03-03")
    assert ids(tmp_path) == ["a", "c"]


def test_replace_takes_out_the_days_it_names_and_the_books_of_the_other_input_say_so(tmp_path, run):
    old = file(tmp_path, "old.jsonl", event("a", f"{DAY_ONE}T10:00:00Z"), event("b", f"{DAY_TWO}T10:00:00Z"))
    new = file(tmp_path, "new.jsonl", event("c", f"{DAY_ONE}T12:00:00Z"), event("d", f"{DAY_TWO}T12:00:00Z"))
    run(old)
    done = run(new, start=DAY_ONE, end=DAY_TWO, replace=True)
    assert ids(tmp_path) == ["b", "c"]
    assert done.days == [date(2026, 3, 1)]
    assert (done.counts["events"], done.counts["out_of_range"]) == (1, 1)
    books = "SELECT sum(received), sum(events), sum(replaced), sum(out_of_range), sum(balance) FROM quality_1m_current"
    assert ask(tmp_path, f"{books} WHERE input LIKE 'old%'") == [(2, 1, 1, 0, 0)]
    assert ask(tmp_path, f"{books} WHERE input LIKE 'new%'") == [(2, 1, 0, 1, 0)]
    again = snapshot(tmp_path)
    run(new, start=DAY_ONE, end=DAY_TWO, replace=True)
    assert snapshot(tmp_path) == again


def test_replace_with_an_input_that_has_nothing_for_a_day_leaves_the_day_empty(tmp_path, run):
    run(file(tmp_path, "old.jsonl", event("a", f"{DAY_ONE}T10:00:00Z"), event("b", f"{DAY_TWO}T10:00:00Z")))
    run(file(tmp_path, "new.jsonl", event("c", f"{DAY_ONE}T12:00:00Z")), start=DAY_ONE, end="2026-03-03", replace=True)
    assert ids(tmp_path) == ["c"]
    assert ask(tmp_path, "SELECT count(*) FROM user_days_current WHERE bucket_start >= '2026-03-02'") == [(0,)]


@pytest.mark.parametrize("named", [{}, {"start": DAY_ONE, "end": DAY_TWO}])
def test_add_joins_the_stored_events_of_its_days_and_twice_is_once(tmp_path, run, named):
    time = f"{DAY_ONE}T10:00:00Z"
    run(file(tmp_path, "old.jsonl", event("a", time, user_id="u1"), event("b", time, user_id="u1")))
    more = file(tmp_path, "more.jsonl", event("b", time, user_id="u1"), event("c", time, user_id="u1"), "{broken")
    done = run(more, add=True, **named)
    assert ids(tmp_path) == ["a", "b", "c"]
    assert ask(tmp_path, "SELECT person, events FROM user_days_current") == [("u1", 3)]
    assert (done.counts["received"], done.counts["quarantined"]) == (3, 1)
    assert ask(tmp_path, "SELECT sum(balance), sum(events) FROM quality_1m_current") == [(0, 3)]
    once = snapshot(tmp_path)
    run(more, add=True, **named)
    assert snapshot(tmp_path) == once


def test_added_events_that_were_received_earlier_take_the_place_of_stored_ones_and_the_books_say_so(tmp_path, run):
    time = f"{DAY_ONE}T10:00:00Z"
    run(file(tmp_path, "old.jsonl", event("a", time, received_time=f"{DAY_ONE}T10:30:00Z", content_id="late copy")))
    run(file(tmp_path, "more.jsonl", event("a", time, content_id="first copy")), add=True)
    assert ask(tmp_path, "SELECT content_id FROM events") == [("first copy",)]
    books = "SELECT sum(received), sum(events), sum(replaced), sum(balance) FROM quality_1m_current"
    assert ask(tmp_path, f"{books} WHERE input LIKE 'old%'") == [(1, 0, 1, 0)]
    assert ask(tmp_path, f"{books} WHERE input LIKE 'more%'") == [(1, 1, 0, 0)]


def test_a_repeat_that_was_dated_outside_the_range_still_meets_its_first_copy(tmp_path, run):
    client = "2026-03-02T00:00:30Z"  # the second delivery proves that this clock is five minutes fast
    first = json.dumps(
        {"event_id": "a", "event_type": "click", "event_time": client, "received_time": "2026-03-02T00:00:31Z"}
    )
    second = json.dumps(
        {
            "event_id": "a",
            "event_type": "click",
            "event_time": client,
            "sent_time": "2026-03-02T00:06:00Z",
            "received_time": "2026-03-02T00:01:00Z",
        }
    )
    both = file(tmp_path, "both.jsonl", first, second)
    done = run(both, start=DAY_ONE, end=DAY_TWO)
    assert ids(tmp_path) == []
    assert (done.counts["duplicates"], done.counts["out_of_range"], done.counts["events"]) == (1, 1, 0)


def test_days_are_those_of_the_warehouses_time_zone(tmp_path, run):
    lines = [event("a", "2026-03-01T22:30:00Z", user_id="u"), event("b", "2026-03-01T23:30:00Z", user_id="u")]
    run(file(tmp_path, "e.jsonl", *lines), time_zone="Europe/Berlin")
    assert LocalWarehouse.open(tmp_path / "warehouse").rows_by_day("events") == {
        date(2026, 3, 1): 1,
        date(2026, 3, 2): 1,
    }
    starts = [time.isoformat() for (time,) in ask(tmp_path, "SELECT bucket_start FROM user_days_current ORDER BY 1")]
    assert starts == ["2026-02-28T23:00:00+00:00", "2026-03-01T23:00:00+00:00"]
    with pytest.raises(WarehouseError, match="was made with time zone 'Europe/Berlin', not 'UTC'"):
        run(file(tmp_path, "f.jsonl", *lines), time_zone="UTC", add=True)


def test_a_metric_of_ones_own_needs_no_code_and_a_shipped_one_can_be_left_out(tmp_path, run):
    config = tmp_path / "audience.yaml"
    config.write_text(
        textwrap.dedent(
            """
            metrics:
              searches_1h:
                bucket: 1h
                dimensions: [country]
                measures: {searches: {count: all, where: {event_type: search}}}
              campaign_1h: null
            """
        )
    )
    time = f"{DAY_ONE}T10:20:00Z"
    lines = [event(str(n), time, event_type="search", country="FR") for n in range(3)]
    run(file(tmp_path, "e.jsonl", *lines), config=str(config))
    assert ask(tmp_path, "SELECT country, searches FROM searches_1h_current") == [("FR", 3)]
    tables = {name for (name,) in ask(tmp_path, "SHOW TABLES")}
    assert "searches_1h" in tables
    assert "campaign_1h" not in tables


def test_a_malformed_record_never_stops_a_run(tmp_path, run):
    hostile = tmp_path / "hostile.jsonl"
    lines = [
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"event_id": 7}',
        b'{"value": 1e40, "event_type": "a"}',
        b"[" * 100_000,
    ]
    hostile.write_bytes(b"\n".join([*lines, event("ok", f"{DAY_ONE}T10:00:00Z").encode()]))
    done = run(str(hostile))
    assert (done.counts["received"], done.counts["quarantined"], done.counts["events"]) == (8, 7, 1)
    assert ask(tmp_path, "SELECT count(DISTINCT position) FROM quarantine") == [(7,)]
    assert {payload for (payload,) in ask(tmp_path, "SELECT payload FROM quarantine")} == set(lines)


def test_a_commit_that_finds_the_disk_full_says_so_and_leaves_nothing_behind(tmp_path, run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pipelines.warehouse.local.run.save", full)
    with pytest.raises(WarehouseError, match="No space left on device; free space"):
        run(file(tmp_path, "e.jsonl", event("a", f"{DAY_ONE}T10:00:00Z")))
    left = [path.name for path in (tmp_path / "warehouse").rglob("*") if path.is_file()]
    assert sorted(left) == ["lock", "manifest.json", "warehouse.json"]
    assert LocalWarehouse.open(tmp_path / "warehouse").rows_by_day("events") == {}


LOG = """
source: access
derived_id: occurrence
fields:
  event_time: {path: ts, time: rfc3339}
  event_type: {const: page_view}
  content_id: {path: path}
"""


def hits(*paths: str) -> list[str]:
    return [json.dumps({"ts": f"{DAY_ONE}T10:00:01Z", "path": path}) for path in paths]


# A file that is one block is one worker's.
@pytest.mark.parametrize(("block_bytes", "workers"), [(150, "1"), (150, "2"), (None, "1")])
def test_alike_records_of_a_log_that_grows_and_is_rotated_are_counted_once_each(
    tmp_path, run, monkeypatch, block_bytes, workers
):
    if block_bytes is not None:  # alike records in different parts of a file
        monkeypatch.setattr("pipelines.batch.backfill.ReadFiles", partial(ReadFiles, block_bytes=block_bytes))
    mapping = file(tmp_path, "m.yaml", LOG)
    monday, tuesday = hits("/a", "/a", "/b"), hits("/a", "/a", "/b", "/c", "/a")
    counts = []
    for name, lines in (("access.jsonl", monday), ("access.jsonl", tuesday), ("access.jsonl.1", tuesday)):
        done = run(file(tmp_path, name, *lines), mapping=(mapping,), add=True, workers=workers)
        counts.append(ask(tmp_path, "SELECT count(*), count(*) FILTER (content_id = '/a') FROM events")[0])
        assert done.counts["conflicts"] == 0
    assert counts == [(3, 2), (5, 3), (5, 3)]


def test_alike_records_that_are_replayed_are_kept_apart_from_each_other_and_from_what_is_stored(tmp_path, run):
    strict = LOG + "  rating: {path: n}\n"
    mapping = file(tmp_path, "m.yaml", strict)
    lines = [json.dumps({"ts": f"{DAY_ONE}T10:00:01Z", "path": "/a", "n": "bad"})] * 3
    path = file(tmp_path, "access.jsonl", *lines, *hits("/a", "/a"))
    assert run(path, mapping=(mapping,)).counts["events"] == 2
    file(tmp_path, "m.yaml", strict + "on_error: 'null'\n")
    done = replay(resolve({"warehouse": str(tmp_path / "warehouse"), "mapping": (mapping,), "workers": "1"}, "replay"))
    assert (done.counts["events"], done.counts["duplicates"]) == (3, 0)
    assert ask(tmp_path, "SELECT count(*), count(DISTINCT event_id) FROM events") == [(5, 5)]


def test_a_conflicting_copy_that_is_added_is_counted_and_the_stored_event_stays(tmp_path, run):
    time = f"{DAY_ONE}T10:00:00Z"
    run(file(tmp_path, "a.jsonl", event("d", time, content_id="first")))
    for n, content in enumerate(["x", "y", "z"]):
        done = run(file(tmp_path, f"b{n}.jsonl", event("d", time, content_id=content)), add=True)
        assert (done.counts["duplicates"], done.counts["conflicts"], done.counts["replaced"]) == (1, 1, 0)
    assert ask(tmp_path, "SELECT content_id FROM events") == [("first",)]
