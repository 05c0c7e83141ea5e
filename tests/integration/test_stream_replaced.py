"""A stream replaces another one while both run, on Prism into one dataset of the BigQuery emulator: no view shows less
at any moment, and in the end every table is that of a backfill."""

import random
import uuid
from contextlib import closing
from typing import NamedTuple

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.warehouse.bigquery.held import find_smaller, held_generations
from pipelines.warehouse.bigquery.restore import of_input
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from pipelines.warehouse.tables import SESSIONS
from tests.integration.same import METRICS, assert_alike
from tests.servers.needed import wait_until
from tests.servers.pubsub import Queue
from tests.servers.stream import Stream, drain, publish, received_times, streaming
from transforms.errors import AudienceError

TRUSTED = ("--timestamp_attribute", "received_time", "--early_firing", "2s")
EVENTS = "SELECT * EXCEPT (received_time, sent_time) FROM events_unique"
A_LOOK = 1.0  # seconds between two looks: one costs the emulator what the streams need of it


class Side(NamedTuple):
    """What `streaming` reads of a queue."""

    subscription: str


class Watch:
    """What the `_current` views have shown so far: a look fails if one counts less than at the look before. Sums of
    money may shrink: the end alone compares them."""

    def __init__(self, warehouse: BigQueryWarehouse):
        self.warehouse, self.looks = warehouse, 0
        self.seen: dict[str, pl.DataFrame] = {}

    def look(self) -> None:
        for name in METRICS:
            try:
                rows = pl.concat(self.warehouse.ask(self._sql(name)))
            except AudienceError:  # no run has made it yet
                continue
            self._compare(name, rows)
        self.looks += 1

    def _sql(self, name: str) -> str:
        if name == SESSIONS.name:  # which join: all of their events
            return "SELECT 'all' AS k, SUM(events) AS events, SUM(views) AS views FROM sessions_current"
        table = self.warehouse.table(name)
        measures = [
            each.name
            for each in table.columns
            if each.type == "INT64" and each.name not in {*table.key, "generation", "revision"}
        ]
        return f"SELECT {', '.join([*table.key, *measures])} FROM {name}_current"

    def _compare(self, name: str, rows: pl.DataFrame) -> None:
        before = self.seen.get(name)
        if before is not None and before.height:
            keys = ["k"] if name == SESSIONS.name else list(self.warehouse.table(name).key)
            measures = [column for column in rows.columns if column not in keys]
            both = before.join(rows, on=keys, how="left", nulls_equal=True, suffix="_now", coalesce=True)
            less = both.filter(
                pl.any_horizontal(
                    (pl.col(f"{each}_now").fill_null(-1) < pl.col(each)).fill_null(False) for each in measures
                )
            )
            assert less.is_empty(), f"{name}_current shows less after look {self.looks}: {less.head(3).to_dicts()}"
        self.seen[name] = rows


def number(warehouse: Warehouse, sql: str) -> int:
    try:
        return pl.concat(warehouse.ask(sql)).item() or 0
    except AudienceError:
        return 0


def received(side: Side) -> str:
    return f"SELECT SUM(received) FROM quality_1m_current WHERE {of_input(side.subscription)}"


def until(watch: Watch, stream: Stream, holds, what: str) -> None:
    """Wait until something holds, and look at the views all the while."""
    stream.until(lambda: watch.look() or holds(), what=what, every=A_LOOK)


@pytest.fixture
def dataset(bigquery) -> str:
    return f"demo-project.replaced_{uuid.uuid4().hex[:12]}"


def test_no_view_shows_less_while_a_stream_replaces_another_and_in_the_end_all_is_that_of_a_backfill(
    few_records, dataset, queue: Queue, prism, tmp_path, capsys
):
    lines = list(few_records.lines)
    random.Random(7).shuffle(lines)
    third = len(lines) // 3 + 1
    parts = [lines[:third], lines[third : 2 * third], lines[2 * third :]]
    old, new = Side(queue.subscription), Side(f"{queue.subscription}-new")
    folders = [tmp_path / name for name in ("old", "new")]
    for folder in folders:
        folder.mkdir()
    with (
        streaming(old, prism, folders[0], *TRUSTED, dataset=dataset) as first,
        closing(opened(first, dataset)) as warehouse,
    ):
        watch = Watch(warehouse)
        publish(queue, parts[0], received_times(parts[0]))
        until(watch, first, lambda: number(warehouse, received(old)) >= len(parts[0]), "the old stream alone")
        queue.pubsub.make_subscription(new.subscription, queue.topic, ack_deadline_seconds=10)
        with streaming(new, prism, folders[1], *TRUSTED, "--held", dataset=dataset) as second:
            until(watch, second, lambda: "reading" in second.said(), "the new stream starts")
            assert len(held_generations(warehouse)) == 1
            publish(queue, parts[1], received_times(parts[1]))
            sent = len(parts[0]) + len(parts[1])
            until(watch, first, lambda: number(warehouse, received(old)) >= sent, "the old stream next to the new one")
            until(watch, second, lambda: number(warehouse, received(new)) >= len(parts[1]), "the new stream")
            drain("--dataset", dataset, "--landing", str(folders[0] / "landing"))
            wait_until(lambda: watch.look() or first.process.poll() is not None, 120, first.said(), A_LOOK)
            assert first.process.returncode == 0, first.said()
            publish(queue, parts[2], received_times(parts[2]))
            until(watch, second, lambda: number(warehouse, received(new)) >= len(lines) - third, "the rest")
            until(watch, second, lambda: not find_smaller(warehouse), "the new stream has caught up")
            held = pl.concat(warehouse.ask("SELECT SUM(events) FROM activity_1m_current")).item()
            assert main(["deploy", "release", "--dataset", dataset]) == 0, capsys.readouterr().err
            watch.look()
            assert held_generations(warehouse) == []
            assert number(warehouse, "SELECT SUM(events) FROM activity_1m_current") > held
            drain("--dataset", dataset, "--landing", str(folders[1] / "landing"))
            wait_until(lambda: watch.look() or second.process.poll() is not None, 120, second.said(), A_LOOK)
            assert second.process.returncode == 0, second.said()
        assert watch.looks > 10
        assert {name for name, rows in watch.seen.items() if rows.height} == set(METRICS)
        warehouse.forget()
        local = LocalWarehouse.open(few_records.batch)
        for sql in (EVENTS, *(f"SELECT * FROM {metric}_current" for metric in METRICS)):
            assert_alike(warehouse, local, sql)
        assert differences(warehouse) == []
        assert number(warehouse, "SELECT COUNTIF(balance <> 0) FROM quality_1m_current") == 0


def opened(stream: Stream, dataset: str) -> BigQueryWarehouse:
    """The dataset, once the stream has made it."""
    found: list[BigQueryWarehouse] = []

    def is_there() -> bool:
        try:
            found.append(BigQueryWarehouse.open(dataset))
        except AudienceError:
            return False
        return True

    stream.until(is_there, what="the dataset", every=A_LOOK)
    return found[0]
