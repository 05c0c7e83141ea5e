"""A refresh: answers as of a time, written once, replaced when what they were computed of changes, and gone with it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.insight import freshness
from pipelines.insight import refresh as machinery
from pipelines.insight.passes import PASSES
from pipelines.insight.shape import Pass
from pipelines.insight.tables import FRESHNESS, answers_table
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.answers import AS_OF, REFRESHES, is_answer
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.answers import FOLDER
from pipelines.warehouse.local.manifest import NAME
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, TABLES, Column, metric_table
from tests.servers.needed import LIMIT
from tests.support.rows import write
from transforms.errors import OptionError, WarehouseError

CONFIGURATION = read_config(None)
ACTIVITY = next(table_of(spec) for spec in CONFIGURATION.metrics if spec.name == "activity_1m")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
T = datetime(2026, 3, 9, 12, tzinfo=UTC)
# source -> minutes before T in which it sent so many records, and how many of them were refused
SENT = {
    "web": [(1, 5, 1), (2, 5, 0), (59, 7, 0), (61, 2, 2), (23 * 60, 1, 0), (25 * 60, 90, 9)],
    "shop": [(10 * 1440, 3, 0), (10 * 1440 + 30, 4, 1), (18 * 1440, 8, 0)],  # the last is no part of the 7 days
    "once": [(300, 1, 0)],
}


add = partial(write, declared=[*TABLES, ACTIVITY])


def refresh(place: Place, as_of: datetime | None = None) -> machinery.Refreshed:
    """A refresh of freshness alone."""
    return machinery.refresh(place, CONFIGURATION, as_of, [freshness.PASS])


def minute(start: datetime, **columns) -> dict:
    stated = {"bucket_start": start, "bucket_end": start + MINUTE, "firing": "on_time", "generation": 1, "revision": 1}
    return stated | columns


def sent(source: str, before: int, records: int, refused: int, **columns) -> dict:
    counts = {"received": records, "quarantined": refused, "events": records - refused}
    return minute(T - before * MINUTE, source=source, input="i", **counts, **columns)


@pytest.fixture(params=["local", "bigquery"])
def place(request, tmp_path) -> Place:
    """A warehouse whose newest closed bucket ends at T, with one that is open after it."""
    if request.param == "bigquery":
        request.getfixturevalue("bigquery")
        found = Place(f"demo-project.d{uuid.uuid4().hex}", None)
    else:
        found = Place(None, str(tmp_path / "w"))
    with open_warehouse(*found, time_zone="Europe/Berlin", create=True) as warehouse:
        fill(warehouse)
    return found


@pytest.fixture
def local(tmp_path) -> Place:
    with open_warehouse(None, str(tmp_path / "w"), create=True) as warehouse:
        fill(warehouse)
    return Place(None, str(tmp_path / "w"))


def fill(warehouse: Warehouse) -> None:
    event = {
        "event_id": "1",
        "event_type": "click",
        "event_time": T - 20 * 24 * HOUR,
        "received_time": T,
        "source": "web",
    }
    activity = [minute(T - MINUTE, channel="web", event_type="click", events=1)]
    activity.append(minute(T, channel="web", event_type="click", events=1) | {"firing": "early"})
    add(
        warehouse,
        (EVENTS, [event]),
        (ACTIVITY, activity),
        (QUALITY_1M, [sent(source, *each) for source, minutes in SENT.items() for each in minutes]),
    )


def rows_of(place: Place, sql: str) -> list[tuple]:
    with open_warehouse(*place) as warehouse:
        return pl.concat(warehouse.ask(sql)).rows()


def latest(place: Place) -> list[tuple]:
    listed = "source, last_received, silent_seconds, longest_gap_seconds, received_1h, received_24h, quarantined_24h"
    return rows_of(place, f"SELECT {listed} FROM freshness_latest ORDER BY source")


def by_hand(as_of: datetime, sent: dict[str, list[tuple[int, int, int]]]) -> list[tuple]:
    """What freshness has to say, minute by minute."""
    found = []
    for source, minutes in sorted(sent.items()):
        starts = {T - before * MINUTE: (received, refused) for before, received, refused in minutes}
        starts = {start: counts for start, counts in sorted(starts.items()) if start + MINUTE <= as_of}
        last = max(starts) + MINUTE
        usual = [start for start in starts if start >= last - 7 * 24 * HOUR]
        gaps = [int((b - a - MINUTE).total_seconds()) for a, b in pairwise(usual)]
        hour, day = ([n for start, n in starts.items() if start >= as_of - span] for span in (HOUR, 24 * HOUR))
        counts = (sum(n for n, _ in hour), sum(n for n, _ in day), sum(n for _, n in day))
        refused = sum(refused for _, refused in day)
        silent = int((as_of - last).total_seconds())
        found.append((source, last, silent, max(gaps, default=None), *counts[:2], refused))
    return found


def test_a_refresh_answers_as_of_the_newest_closed_bucket_and_writes_equal_answers_once(place):
    first = refresh(place)
    assert (first.as_of, first.stated) == (T, False)
    assert latest(place) == by_hand(T, SENT)
    everything = "SELECT * FROM refreshes", "SELECT * FROM freshness ORDER BY source"
    before = [rows_of(place, sql) for sql in everything]
    again = refresh(place, T)
    assert [each.is_new for each in (*first.answers, *again.answers)] == [True, False]
    assert [rows_of(place, sql) for sql in everything] == before


def test_late_records_change_the_answers_and_an_earlier_time_has_its_own(place):
    refresh(place)
    with open_warehouse(*place) as warehouse:
        add(warehouse, (QUALITY_1M, [sent("web", 30, 11, 3)]))
    assert latest(place) == by_hand(T, SENT), "until the next refresh"
    assert [each.is_new for each in refresh(place).answers] == [True]
    changed = SENT | {"web": [*SENT["web"], (30, 11, 3)]}
    assert latest(place) == by_hand(T, changed)
    early = T - 24 * HOUR
    assert refresh(place, early).stated
    assert latest(place) == by_hand(T, changed), "the newest"
    asked = f"SELECT COUNT(*) FROM freshness WHERE as_of = TIMESTAMP '{early:%Y-%m-%d %H:%M:%S+00:00}'"
    assert rows_of(place, asked) == [(2,)]
    assert rows_of(place, "SELECT COUNT(*) FROM freshness") == [(5,)]


def test_of_a_day_the_last_answers_stay_and_those_of_other_days(local):
    for before in (0, 5, 10, 13, 30):  # 12:00, 07:00, 02:00, 23:00 and 06:00 the day before
        refresh(local, T - before * HOUR)
    kept = {time for (time,) in rows_of(local, "SELECT DISTINCT as_of FROM freshness")}
    assert kept == {T - before * HOUR for before in (0, 5, 10, 13, 30)}, "an earlier time takes no later answers away"
    refresh(local, T)
    assert {time for (time,) in rows_of(local, "SELECT DISTINCT as_of FROM freshness")} == kept, "nothing has changed"
    with open_warehouse(*local) as warehouse:
        add(warehouse, (QUALITY_1M, [sent("web", 30, 11, 3)]))
    refresh(local)
    kept = {time for (time,) in rows_of(local, "SELECT DISTINCT as_of FROM freshness")}
    assert kept == {T, T - 13 * HOUR, T - 30 * HOUR}


def test_what_a_pass_no_longer_finds_is_in_no_answer(local):
    table = answers_table(
        "findings", "What was found.", (Column("source", "STRING", "REQUIRED", "a source"),), ("source",)
    )

    def compute(inputs):
        asked = "SELECT source, SUM(received) AS n FROM quality_1m_current GROUP BY source"
        return {"findings": inputs.ask(asked).filter(pl.col("n") < 10).select("source")}

    finding = [Pass("findings", (table,), compute)]
    assert [each.rows for each in machinery.refresh(local, CONFIGURATION, passes=finding).answers] == [1]
    assert rows_of(local, "SELECT source FROM findings_latest") == [("once",)]
    with open_warehouse(*local) as warehouse:
        add(warehouse, (QUALITY_1M, [sent("once", 200, 50, 0)]))
    assert [each.rows for each in machinery.refresh(local, CONFIGURATION, passes=finding).answers] == [0]
    assert rows_of(local, "SELECT source FROM findings_latest") == rows_of(local, "SELECT source FROM findings") == []


@pytest.mark.parametrize(
    ("as_of", "said"),
    [
        (datetime(2999, 1, 1, tzinfo=UTC), "allowed: a time that is over; it is "),
        (T - 20 * 24 * HOUR, "allowed: a time after the first event, which is of 2026-02-17 12:00:00 UTC"),
    ],
)
def test_a_time_that_cannot_be_answered_for_is_refused(as_of, said, local):
    with pytest.raises(OptionError, match="--as_of: got ") as refused:
        refresh(local, as_of)
    assert said in str(refused.value)
    assert "freshness" not in LocalWarehouse.open(local.warehouse).names()


@pytest.mark.parametrize("kind", ["local", "bigquery"])
def test_a_warehouse_without_a_closed_bucket_has_nothing_to_compute(kind, request, tmp_path):
    if kind == "bigquery":
        request.getfixturevalue("bigquery")
    where = Place(f"demo-project.d{uuid.uuid4().hex}", None) if kind == "bigquery" else Place(None, str(tmp_path / "w"))
    with open_warehouse(*where, create=True) as warehouse:
        add(warehouse, (ACTIVITY, [minute(T, channel="web", event_type="click", events=1) | {"firing": "early"}]))
    with pytest.raises(WarehouseError, match="has no closed bucket: nothing to compute yet"):
        refresh(where)


def test_a_metric_of_the_name_of_an_answer_is_refused(local):
    with open_warehouse(*local) as warehouse, warehouse.writer() as run:
        run.declare([metric_table("freshness", "A metric.", ["source"], [Column("n", "INT64")])])
        run.commit([])
    with pytest.raises(WarehouseError, match="table freshness: a metric has this name"):
        refresh(local)


def test_a_refresh_writes_beside_a_run_that_holds_the_warehouse_and_two_at_once_do_not(local):
    warehouse = LocalWarehouse.open(local.warehouse)
    with warehouse.writer() as run:
        assert [each.is_new for each in refresh(local).answers] == [True]
        run.commit([])
        run.compact_all(above=0)
    assert latest(local) == by_hand(T, SENT), "a commit of the warehouse leaves them"
    with open(warehouse.folder / FOLDER / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WarehouseError, match="is being written by process"):
            refresh(local, T - HOUR)


def test_answers_are_among_the_tables_for_whoever_reads_the_warehouse(local, capsys):
    refresh(local)
    warehouse = LocalWarehouse.open(local.warehouse)
    assert {"freshness", "freshness_latest", "refreshes"} <= warehouse.names()
    assert warehouse.rows_by_day("freshness") == {T.date(): 3}
    assert warehouse.scan("freshness").collect().height == 3
    capsys.readouterr()
    assert main(["query", "--json", "--warehouse", local.warehouse, "SELECT count(*) AS n FROM freshness_latest"]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": 3}
    main(["doctor", "--warehouse", local.warehouse])
    assert "freshness" in capsys.readouterr().out


def test_a_damaged_answer_is_named_with_what_brings_it_back(local, capsys):
    refresh(local)
    [path] = LocalWarehouse.open(local.warehouse).files("freshness")
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["query", "--warehouse", local.warehouse, "SELECT * FROM freshness"]) == 2
    said = capsys.readouterr().err
    folder = f"{local.warehouse}/{FOLDER}"
    assert (
        f"{path} is damaged" in said
        and f"remove {folder}, and `audience refresh --warehouse {local.warehouse}`" in said
    )
    assert main(["query", "--warehouse", local.warehouse, "SELECT * FROM quality_1m"]) == 0
    manifest = os.path.join(folder, NAME)
    with open(manifest, "w") as file:
        file.write("{")
    capsys.readouterr()
    assert main(["query", "--warehouse", local.warehouse, "SELECT 1"]) == 2
    said = capsys.readouterr().err
    assert f"{manifest} is damaged" in said and f"remove {folder}" in said and "backfill" not in said


def test_files_of_a_killed_refresh_are_left_over_and_the_next_one_removes_them(local, capsys):
    refresh(local)
    left = os.path.join(local.warehouse, FOLDER, "staging", "killed", "freshness")
    os.makedirs(left)
    write_file(os.path.dirname(left), "freshness", date(2026, 3, 9), pl.DataFrame({"source": ["s"]}))
    assert [each.table for each in LocalWarehouse.open(local.warehouse).unlisted_files()] == ["freshness"]
    main(["doctor", "--warehouse", local.warehouse])
    assert os.path.dirname(left) in capsys.readouterr().out
    refresh(local, T - HOUR)
    assert not os.path.exists(left)


def test_an_erasure_removes_the_answers_that_count_the_person_and_the_next_refresh_counts_the_others(tmp_path):
    lines = [
        {"event_id": f"{n}", "event_type": "click", "event_time": f"2026-03-0{day}T10:00:00Z", "user_id": person}
        for n, (day, person) in enumerate([(1, "gone-7391"), (1, "stays"), (2, "stays")])
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(line | {"source": "shop"}) + "\n" for line in lines))
    where = ["--warehouse", str(tmp_path / "w")]
    assert main(["backfill", "--input", str(tmp_path / "e.jsonl"), *where]) == 0
    assert main(["refresh", *where]) == 0
    place = Place(None, str(tmp_path / "w"))
    assert rows_of(place, "SELECT COUNT(*) FROM freshness_latest") == [(1,)]
    assert main(["person", "--delete", "gone-7391", *where]) == 0
    assert rows_of(place, "SELECT * FROM freshness") == rows_of(place, "SELECT * FROM refreshes") == []
    assert not list((tmp_path / "w" / FOLDER / "data").rglob("*.parquet")), "not on the disk either"
    assert main(["refresh", *where]) == 0
    assert rows_of(place, "SELECT COUNT(*) FROM freshness_latest") == [(1,)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--as_of", "yesterday"], "--as_of: got 'yesterday'; allowed: a time with its zone, such as"),
        (["--as_of", "2026-03-01T10:00:00"], "--as_of: got '2026-03-01T10:00:00'; allowed: a time with its zone"),
        (["--as_of", "2026-03-01T10:00:00Z", "--every", "5m"], "--as_of and --every exclude each other"),
    ],
)
def test_options_that_cannot_be_are_one_line(words, said, capsys):
    assert main(["refresh", "--warehouse", "nowhere", *words]) == 2
    assert said in (told := capsys.readouterr().err) and len(told.splitlines()) == 1


def test_a_refresh_that_follows_a_new_stream_waits_for_its_first_closed_bucket(tmp_path):
    open_bucket = minute(T, channel="web", event_type="click", events=1) | {"firing": "early"}
    with open_warehouse(None, str(tmp_path / "w"), create=True) as warehouse:
        add(warehouse, (ACTIVITY, [open_bucket]))
    code = (
        "import signal, sys; from pipelines.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have set it to be ignored
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "refresh", "--every", "1s", "--warehouse", str(tmp_path / "w")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as following:
        try:
            assert "not refreshed: " in (said := following.stderr.readline()) and "has no closed bucket" in said
            with open_warehouse(None, str(tmp_path / "w")) as warehouse:
                add(warehouse, (ACTIVITY, [open_bucket | {"firing": "on_time", "revision": 2}]))
            lines = iter(following.stderr.readline, "")
            assert "as of 2026-03-09 12:01:00 UTC" in next(line for line in lines if "not refreshed" not in line)
            following.send_signal(signal.SIGINT)
            assert following.wait(timeout=LIMIT) == 130
        finally:
            following.kill()


def test_no_answer_but_those_of_persons_holds_what_names_one_and_each_has_its_time():
    tables = [table for each in PASSES for table in each.tables]
    assert FRESHNESS in tables
    personal = {"user_id", "anonymous_id", "person", "session_id", "visit_id", "text", "payload", "properties", "extra"}
    named = {table.name for table in tables if personal & {column.name for column in table.columns}}
    profiles = {"user_profiles", "user_interests", "user_values", "user_attributes"}
    assert named == profiles | {"recommendations", "predictions"}
    assert {each.keeps for each in PASSES if named & {table.name for table in each.tables}} == {"none"}
    assert [table.name for table in (*tables, REFRESHES) if not is_answer(table)] == []
    assert [
        table.name for table in tables if table.key[0] != AS_OF or table.columns[-1].name != "pipeline_version"
    ] == []
    assert len({table.name for table in tables}) == len(tables) and freshness.PASS in PASSES
