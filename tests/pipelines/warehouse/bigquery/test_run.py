"""A commit in BigQuery, on the emulator: what goes, what stays, what is refused; it is whole whatever fails."""

import threading
import uuid
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from google.cloud import bigquery as google

from pipelines.warehouse.bigquery import (
    clients as bigquery_clients,
)
from pipelines.warehouse.bigquery import (
    commit_token as bigquery_claim,
)
from pipelines.warehouse.bigquery import (
    load as bigquery_load,
)
from pipelines.warehouse.bigquery import (
    run as bigquery_run,
)
from pipelines.warehouse.bigquery.run import open_days, refuse_open
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.tables import Column, Table, histogram_column, metric_table, polars_schema
from tests.servers.faulty import faulty_http
from transforms.errors import WarehouseError

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
MEASURES = [Column("n", "INT64"), Column("value", "NUMERIC"), histogram_column("spread", "values by bin")]
VISITS = metric_table("visits_1d", "Visits of a day.", ["channel"], MEASURES)
OTHER = metric_table("other_1d", "Another table.", ["channel"], MEASURES)
VIEW = "visits_1d_current"


def rows(*counts: int, day: date | None = FIRST, channel: str = "web", table: Table = VISITS) -> pl.DataFrame:
    """A row for each count, on one day."""
    start = None if day is None else datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    stated = {
        "bucket_start": pl.lit(start or datetime(1970, 1, 1, tzinfo=UTC)),
        "bucket_end": pl.lit(start or datetime(1970, 1, 1, tzinfo=UTC)),
        "channel": pl.lit(channel),
        "n": pl.col("n"),
        "value": pl.col("n") / 4,
        "spread": pl.concat_list(pl.struct(bin=pl.col("n"), count=pl.lit(2))),
        "firing": pl.lit("on_time"),
        "generation": pl.lit(1),
        "revision": pl.lit(1),
    }
    named = pl.DataFrame({"n": counts}, schema={"n": pl.Int64})
    return named.select(
        stated.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in polars_schema(table).items()
    )


class Writer:
    """Commits, each in a run of its own."""

    def __init__(self, warehouse: BigQueryWarehouse):
        self.warehouse = warehouse

    def put(self, *staged, table: Table = VISITS, **commit) -> None:
        with self.warehouse.writer() as run:
            run.declare([table, OTHER])
            entries = [write_file(run.staging, table.name, day, rows(*n, day=day, table=table)) for day, n in staged]
            run.commit(entries, **commit)

    def counts(self, days=None) -> list[int]:
        return sorted(self.warehouse.scan("visits_1d", days).collect()["n"])

    def staging(self) -> list[str]:
        listed = self.warehouse.client.list_tables(self.warehouse.dataset)
        return [item.table_id for item in listed if item.table_id.startswith("staging")]


@pytest.fixture
def name(bigquery) -> str:
    return f"demo-project.d{uuid.uuid4().hex}"


@pytest.fixture
def warehouse(name):
    made = BigQueryWarehouse.open(name, create=True)
    yield made
    made.close()
    assert bigquery_clients._shared == {}, "a client was left open"


@pytest.fixture
def writer(warehouse) -> Writer:
    return Writer(warehouse)


def test_a_long_backfill_is_cut_by_days_and_its_files_are_merged(writer, warehouse, monkeypatch):
    monkeypatch.setattr(bigquery_run, "STATEMENT_PARTITIONS", 2)
    days = [FIRST + timedelta(days=n) for n in range(5)]
    writer.put(*((day, [1]) for day in days), *((day, [2]) for day in days))
    monkeypatch.setattr(bigquery_load, "LOAD_BYTES", 1)
    writer.put(*((day, [3]) for day in days), replace_days={"visits_1d": days[:3]})
    assert warehouse.rows_by_day("visits_1d") == dict(zip(days, [1, 1, 1, 3, 3], strict=True))
    monkeypatch.setattr(bigquery_run, "MOST_PARTITIONS", 4)
    with pytest.raises(WarehouseError, match=r"touches 5 days in 1 tables.*takes 4 in 99; cut it .* --start and --end"):
        writer.put(*((day, [3]) for day in days))


def test_a_commit_that_fails_in_its_middle_changes_nothing(writer, warehouse):
    writer.put((FIRST, [1]))
    with warehouse.writer() as run:
        run.declare([VISITS, OTHER])
        entries = [
            write_file(run.staging, "visits_1d", FIRST, rows(2)),
            write_file(run.staging, "other_1d", FIRST, rows(2, table=OTHER)),
        ]
        warehouse.client.delete_table(f"{warehouse.name}.other_1d")  # after `visits_1d` in the transaction
        with pytest.raises(WarehouseError, match=r"refused to swap the rows in: .*other_1d"):
            run.commit(entries, replace_days={"visits_1d": [FIRST]})
        assert writer.staging() == []
    assert writer.counts() == [1]
    writer.put((SECOND, [3]))
    assert writer.counts() == [1, 3]


def test_rows_that_were_not_all_loaded_are_not_swapped_in(writer, warehouse):
    with warehouse.writer() as run:
        run.declare([VISITS])
        entry = write_file(run.staging, "visits_1d", FIRST, rows(1, 2))
        with pytest.raises(WarehouseError, match="not each row of visits_1d was loaded once"):
            run.commit([replace(entry, rows=3)])
    assert writer.counts() == []


def test_a_reader_sees_the_old_rows_or_the_new_ones(writer, warehouse):
    # The emulator answers nobody while a script runs. So this shows that a swap is one script; that the script is one
    # transaction, the failure in its middle shows.
    old, new = list(range(1, 20_001)), list(range(20_001, 40_001))
    writer.put((FIRST, old), (SECOND, [1]))
    seen, done = [], threading.Event()

    def poll():
        asked = f"SELECT COUNT(*) AS rows_now, SUM(n) AS total FROM `{warehouse.name}.visits_1d` WHERE n > 1"
        while not done.is_set():
            seen.append(tuple(next(iter(warehouse.query(asked))).values()))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for _ in range(3):
            writer.put((FIRST, new), replace_days={"visits_1d": {FIRST}})
            writer.put((FIRST, old), replace_days={"visits_1d": {FIRST}})
    finally:
        done.set()
        reader.join()
    assert set(seen) <= {(19_999, sum(old) - 1), (20_000, sum(new))}
    assert len(set(seen)) == 2, f"of {len(seen)} looks none came between two commits"


def test_of_two_runs_at_once_the_second_to_commit_is_refused(writer, warehouse):
    with warehouse.writer() as slow:
        slow.declare([VISITS])
        entry = write_file(slow.staging, "visits_1d", FIRST, rows(1))
        writer.put((SECOND, [2]))
        with pytest.raises(WarehouseError, match=r"another run has committed since this one began; .* run it again"):
            slow.commit([entry])
    assert writer.counts() == [2]


def test_a_run_of_answers_and_another_run_do_not_refuse_each_other_but_two_of_answers_do(writer, warehouse):
    with ExitStack() as open_runs:
        backfill, first, late = (
            open_runs.enter_context(warehouse.writer(of_answers=each)) for each in (False, True, True)
        )
        entries = {}
        for run, table in ((first, OTHER), (backfill, VISITS), (late, OTHER)):
            run.declare([table])
            entries[run] = [write_file(run.staging, table.name, FIRST, rows(1, table=table))]
        for run in (first, backfill, first):
            run.commit(entries[run])
        with pytest.raises(WarehouseError, match="another run has committed since this one began"):
            late.commit(entries[late])
    assert writer.counts() == [1]
    assert len(warehouse.scan("other_1d").collect()) == 2


def test_a_purge_removes_what_other_runs_have_staged_and_leaves_the_right_to_commit(writer, warehouse, monkeypatch):
    with warehouse.writer() as run, monkeypatch.context() as dying:
        dying.setattr(google.Client, "delete_table", lambda *_, **__: None)  # as of a process that is killed
        writer.put((FIRST, [1]))
        run.declare([VISITS])
        token = run.hand_over("gs://bucket/folder", rows_were_read=False)
    assert len(writer.staging()) == 2
    with warehouse.writer() as run:
        run.purge()
    assert writer.staging() == [bigquery_claim.table_of(token)]
    assert writer.counts() == [1]


def test_a_commit_whose_answer_is_lost_was_made_once(bigquery, name, monkeypatch):
    with faulty_http(bigquery.rest, "/jobs") as (url, plan):
        monkeypatch.setenv(bigquery_clients.REST, url)
        warehouse = BigQueryWarehouse.open(name, create=True)
        with warehouse.writer() as run:
            run.declare([VISITS])
            entry = write_file(run.staging, "visits_1d", FIRST, rows(1))
            jobs = plan.requests
            run.commit([entry])
            swap = plan.requests - jobs  # requests of a commit, of which the last sends the transaction
        for lost in range(swap):
            with warehouse.writer() as run:
                run.declare([VISITS])
                entry = write_file(run.staging, "visits_1d", FIRST, rows(lost + 2))
                plan.set(*["pass"] * lost, "lost")
                run.commit([entry])
                assert plan.met == ["lost"]
        assert sorted(warehouse.scan("visits_1d").collect()["n"]) == list(range(1, swap + 2))
        warehouse.close()


def test_a_view_of_another_text_is_made_anew(writer, warehouse):
    writer.put((FIRST, [1]))
    warehouse.query(f"CREATE OR REPLACE VIEW `{warehouse.name}.{VIEW}` AS SELECT 1 AS old")
    writer.put((FIRST, [2]))
    assert "n" in next(warehouse.ask(f"SELECT * FROM {VIEW}")).columns


def test_what_takes_more_than_new_columns_is_refused_before_anything_is_changed(writer, warehouse):
    writer.put((FIRST, [1]))
    before = {item.table_id for item in warehouse.client.list_tables(warehouse.dataset)}
    new = metric_table("new_1d", "", ["channel"], MEASURES)
    remade = rf"nothing was changed; remove it with `bq rm -t {warehouse.name.replace('.', ':')}\.visits_1d` and"
    remade += rf" rebuild it with `audience recompute --dataset {warehouse.name}`"
    text = metric_table("visits_1d", "", ["channel"], [Column("n", "STRING")])
    keyed = metric_table("visits_1d", "", ["channel", "country"], MEASURES)
    other_day = metric_table("visits_1d", "", ["channel"], MEASURES, partition="bucket_end")
    for table, told in (
        (text, rf"column 'n' is INT64 there and STRING in this run; {remade}"),
        (keyed, rf"identified by bucket_start, channel there and by bucket_start, channel, country in .*{remade}"),
        (other_day, rf"it is partitioned by bucket_start and has to be by bucket_end; {remade}"),
        (metric_table(VIEW, "", ["channel"], MEASURES), "it is a VIEW, and a run writes a table of this name"),
    ):
        with warehouse.writer() as run, pytest.raises(WarehouseError, match=told):
            run.declare([new, table])
    assert {item.table_id for item in warehouse.client.list_tables(warehouse.dataset)} == before


def test_tables_are_made_as_they_are_declared(name, warehouse):
    with warehouse.writer() as run:
        run.declare([VISITS])
    made = warehouse.client.get_table(f"{name}.visits_1d")
    assert (made.time_partitioning.field, made.time_partitioning.type_) == ("bucket_start", "DAY")
    assert made.time_partitioning.expiration_ms is None
    assert made.clustering_fields == ["channel"]
    assert warehouse.table("visits_1d") == VISITS
    assert warehouse.tables() == {"visits_1d": VISITS}


def test_days_that_a_stream_may_still_write_are_refused():
    now, settled_after = datetime(2026, 3, 10, 2, 0, tzinfo=UTC), timedelta(days=3, hours=2)
    days = [None, *(date(2026, 3, day) for day in range(1, 11))]
    assert open_days(days, now, "UTC", settled_after) == [date(2026, 3, day) for day in (7, 8, 9, 10)]
    assert open_days(days, now, "Asia/Tokyo", settled_after)[0] == date(2026, 3, 7)
    assert open_days(days, now + timedelta(seconds=-1), "UTC", settled_after)[0] == date(2026, 3, 6)
    buffer = {"estimatedRows": "5", "oldestEntryTime": "1773108000000"}
    table = {"tableReference": {"projectId": "p", "datasetId": "d", "tableId": "events"}, "streamingBuffer": buffer}
    with pytest.raises(
        WarehouseError, match=r"since 2026-03-10 02:00 UTC and may still .* 2026-03-07: .*--no_active_stream"
    ):
        refuse_open("p.d", google.Table.from_api_repr(table), [date(2026, 3, 7)])
    refuse_open("p.d", google.Table.from_api_repr({"tableReference": table["tableReference"]}), [date(2026, 3, 7)])
