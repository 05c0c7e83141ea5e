"""What every warehouse promises, as tests: a subclass names the fixtures that make one.

A new kind of warehouse is tested by

    class TestMine(WarehouseContract):
        @pytest.fixture
        def place(self) -> ...            what `open_at` opens; each test has one of its own
        def open_at(self, place, **options)
        def leftovers(self, warehouse)    what runs have staged and not removed
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from pipelines.warehouse.ask import run_query
from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import Column, Table, histogram_column, metric_table, polars_schema
from transforms.errors import OptionError, WarehouseError

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
MEASURES = [Column("n", "INT64"), Column("value", "NUMERIC"), histogram_column("spread", "values by bin")]
VISITS = metric_table("visits_1d", "Visits of a day.", ["channel"], MEASURES)
NAME, VIEW = VISITS.name, "visits_1d_current"


def rows(*counts: int, day: date | None = FIRST, channel: str | None = "web", table: Table = VISITS) -> pl.DataFrame:
    """A row for each count, at noon of one day."""
    noon = None if day is None else datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    stated = {
        "bucket_start": pl.lit(noon),
        "bucket_end": pl.lit(noon or datetime(1970, 1, 1, tzinfo=UTC)),
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


def put(warehouse: Warehouse, *staged: tuple[date | None, list[int]], table: Table = VISITS, **commit) -> None:
    """Commit counts by day, in a run of its own."""
    with warehouse.writer() as run:
        run.declare([table])
        run.commit([write_file(run.staging, NAME, day, rows(*n, day=day, table=table)) for day, n in staged], **commit)


def counts(warehouse: Warehouse, days: list[date | None] | None = None) -> list[int]:
    return sorted(warehouse.scan(NAME, days).collect()["n"])


class WarehouseContract:
    """The tests; see the file."""

    def open_at(self, place: Any, **options) -> Warehouse:
        """The warehouse that is there."""
        raise NotImplementedError

    def leftovers(self, warehouse: Any) -> list[str]:
        """What runs have staged and not removed."""
        raise NotImplementedError

    @pytest.fixture
    def warehouse(self, place) -> Iterator[Warehouse]:
        with closing(self.open_at(place, create=True)) as made:
            yield made

    def test_a_new_one_is_utc_and_its_time_zone_stays(self, place):
        with pytest.raises(WarehouseError, match="make it with `audience backfill"):
            self.open_at(place)
        with closing(self.open_at(place, create=True)) as warehouse:
            assert warehouse.time_zone == "UTC"
        other = f"{place}_berlin"
        for options in ({"time_zone": "Europe/Berlin", "create": True}, {"create": True}, {}):
            with closing(self.open_at(other, **options)) as warehouse:
                assert warehouse.time_zone == "Europe/Berlin"
        with pytest.raises(WarehouseError, match=r"time zone 'Europe/Berlin', not 'UTC'.*leave the option out"):
            self.open_at(other, time_zone="UTC", create=True)

    def test_days_append_and_named_days_are_replaced(self, warehouse):
        first, *others = VISITS.columns
        nullable = replace(VISITS, columns=(replace(first, mode="NULLABLE"), *others))
        put(warehouse, (FIRST, [1]), (SECOND, [2, 3]), (None, [4]), table=nullable)
        assert warehouse.rows_by_day(NAME) == {FIRST: 1, SECOND: 2, None: 1}
        put(warehouse, (FIRST, [10]), (SECOND, [20]), table=nullable, replace_days={NAME: {SECOND}})
        assert counts(warehouse) == [1, 4, 10, 20]
        assert counts(warehouse, [SECOND, None]) == [4, 20]
        put(warehouse, table=nullable, replace_days={NAME: {FIRST, None}})
        assert warehouse.rows_by_day(NAME) == {SECOND: 1}
        put(warehouse, table=nullable, replace_days={NAME: None})
        assert warehouse.rows_by_day(NAME) == {}
        assert self.leftovers(warehouse) == []

    def test_values_come_back_as_they_were_written(self, warehouse):
        with warehouse.writer() as run:
            run.declare([VISITS])
            kept = write_file(run.staging, NAME, FIRST, rows(3))
            write_file(run.staging, NAME, FIRST, rows(2))  # as a worker whose bundle was tried again
            run.may_write([FIRST])
            assert run.discard([NAME], [FIRST]).files == []
            run.commit([kept])
            assert not run.has_committed(), "it was not handed over"
            run.purge()
        assert warehouse.scan(NAME).collect().equals(rows(3))
        assert warehouse.scan(NAME, columns=["n", "value"]).collect().equals(rows(3).select("n", "value"))
        assert warehouse.scan(NAME, [SECOND]).collect().equals(rows())
        assert pl.read_parquet(warehouse.files(NAME, [FIRST]), hive_partitioning=False)["n"].to_list() == [3]
        assert warehouse.files(NAME, []) == []
        assert (warehouse.table(NAME), warehouse.tables()[NAME]) == (VISITS, VISITS)
        assert self.leftovers(warehouse) == []

    def test_of_a_replaced_day_the_rows_that_are_kept_stay(self, warehouse):
        with warehouse.writer() as run:
            run.declare([VISITS])
            frames = [rows(1, channel="it's"), rows(2), rows(3, channel=None)]
            run.commit([write_file(run.staging, NAME, FIRST, pl.concat(frames))])
        stay = {NAME: Without(("channel",), frozenset(["it's"]))}
        assert warehouse.days_with(NAME, "channel", "it's") == {FIRST}
        put(warehouse, (FIRST, [9]), replace_days={NAME: {FIRST}}, keep=stay)
        assert counts(warehouse) == [2, 3, 9]
        assert warehouse.days_with(NAME, "channel", "it's") == set()

    def test_a_run_that_ends_without_a_commit_leaves_nothing(self, warehouse):
        with pytest.raises(ZeroDivisionError), warehouse.writer() as run:
            run.declare([VISITS])
            write_file(run.staging, NAME, FIRST, rows(1))
            raise ZeroDivisionError
        assert not run.staging.exists()
        put(warehouse)
        assert (counts(warehouse), self.leftovers(warehouse)) == ([], [])
        assert list(warehouse.unlisted_files()) == []
        assert warehouse.written_by() is None

    def test_a_file_of_an_unknown_table_or_with_other_columns_is_not_committed(self, warehouse):
        with warehouse.writer() as run:
            unknown = write_file(run.staging, "nope", FIRST, rows(1))
            with pytest.raises(WarehouseError, match="table 'nope' is not declared"):
                run.commit([unknown])
            run.declare([VISITS])
            wrong = write_file(run.staging, NAME, FIRST, pl.DataFrame({"n": ["1"]}))
            with pytest.raises(WarehouseError, match="column 'n' is String, but table visits_1d declares Int64"):
                run.commit([wrong])
            run.commit([])
        assert warehouse.rows_by_day(NAME) == {}

    def test_a_table_gains_columns_and_keeps_those_that_a_run_lacks(self, warehouse):
        users = Column("users", "INT64", "REQUIRED", "who's")
        put(warehouse, (FIRST, [1]))
        put(warehouse, (SECOND, [2]), table=metric_table(NAME, "Visits of a day.", ["channel"], [*MEASURES, users]))
        put(warehouse, (SECOND, [3]), table=metric_table(NAME, "Visits of a day.", ["channel"], MEASURES[:1]))
        table = warehouse.table(NAME)
        assert table.columns[-1] == replace(users, mode="NULLABLE")
        assert (table.key, table.partition, table.description) == (VISITS.key, VISITS.partition, VISITS.description)
        assert warehouse.scan(NAME).select("n", "users").sort("n").collect().rows() == [(1, None), (2, None), (3, None)]
        assert pl.concat(warehouse.ask(f"SELECT n, users FROM {VIEW} WHERE n = 1")).rows() == [(1, None)]

    def test_a_table_that_changed_its_meaning_is_refused(self, warehouse):
        put(warehouse)
        other_type = metric_table(NAME, "", ["channel"], [Column("n", "STRING")])
        other_key = metric_table(NAME, "", ["channel", "device"], MEASURES)
        with warehouse.writer() as run:
            with pytest.raises(WarehouseError, match=r"column 'n' is INT64 .* and STRING in this run"):
                run.declare([other_type])
            with pytest.raises(
                WarehouseError, match=r"identified by bucket_start, channel .* by bucket_start, channel, d"
            ):
                run.declare([other_key])
            with pytest.raises(WarehouseError, match=rf"table .*{VIEW}: .*(view has this name|it is a VIEW)"):
                run.declare([VISITS, metric_table(VIEW, "", ["channel"], MEASURES)])

    def test_tables_and_views_are_asked_in_the_sql_of_bigquery(self, warehouse):
        put(warehouse)
        (empty,) = warehouse.ask(f"SELECT n, channel FROM {VIEW}")
        assert empty.schema == {"n": pl.Int64, "channel": pl.String}
        put(warehouse, (FIRST, [1, 2]))
        assert {NAME, VIEW} <= warehouse.names()
        asked = (
            f"SELECT SUM(n) AS n, COUNTIF(channel = 'web') AS web, DATE(bucket_start) AS day FROM {NAME} GROUP BY day"
        )
        assert pl.concat(warehouse.ask(asked)).rows() == [(3, 2, FIRST)]
        answer = run_query(warehouse, f"SELECT n FROM {NAME} ORDER BY n", "bigquery")
        assert (answer.columns, answer.frame()["n"].to_list()) == (["n"], [1, 2])
        for refused in (f"DELETE FROM {NAME} WHERE TRUE", "SELECT 1; SELECT 2"):
            with pytest.raises(OptionError, match="query: "):
                run_query(warehouse, refused, "bigquery")
        with pytest.raises(OptionError, match=rf"(?s)query: .*nope.*{NAME}.*{VIEW}"):
            run_query(warehouse, "SELECT * FROM nope", "bigquery").frame()
        with pytest.raises(WarehouseError, match=rf"'nope' is no table of this warehouse; tables are .*{NAME}"):
            warehouse.table("nope")
        assert counts(warehouse) == [1, 2]

    def test_a_run_is_handed_over_and_commits_once_or_says_that_it_cannot_be(self, warehouse, tmp_path):
        (folder := tmp_path / "staged").mkdir()
        with warehouse.writer() as run:
            run.declare([VISITS])
            if warehouse.local_path is not None:
                with pytest.raises(WarehouseError, match="a job elsewhere needs --dataset"):
                    run.hand_over(str(folder), rows_were_read=False)
                return
            token = run.hand_over(str(folder), rows_were_read=False)
        for again in (False, True):  # a runner may start the last step of a job twice
            with warehouse.writer(token) as late:
                assert late.has_committed() is again
                late.commit([write_file(late.folder, NAME, FIRST, rows(1))])
                assert late.has_committed()
        assert counts(warehouse) == [1]
        warehouse.remove_staged(token.folder)
        assert not folder.exists()

    def test_it_says_where_it_is_and_where_deleted_rows_remain(self, warehouse, place):
        assert warehouse.name == str(place)
        assert warehouse.option.endswith(str(place))
        assert warehouse.local_path is None or str(warehouse.local_path) == str(place)
        assert bool(warehouse.retention()) == (warehouse.local_path is None)
