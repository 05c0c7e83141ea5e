"""Held generations, on the emulator: hidden until they are released, and released only if no view shows less."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import polars as pl
import pytest

from pipelines.warehouse.bigquery.held import MOST_HELD, find_smaller, held_generations, hold, release
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.day_files import write_file
from tests.pipelines.warehouse.bigquery.test_run import FIRST, VISITS, rows
from transforms.errors import WarehouseError

OLD, NEW = 1, 2


@pytest.fixture
def warehouse(bigquery) -> Iterator[BigQueryWarehouse]:
    with closing(BigQueryWarehouse.open(f"demo-project.held_{uuid.uuid4().hex[:12]}", create=True)) as opened:
        write(opened, OLD, web=5, mail=3)
        yield opened


def write(warehouse: BigQueryWarehouse, generation: int, **counts: int) -> None:
    """Write a row for each channel, in a run of its own."""
    stamp = pl.lit(generation, pl.Int64).alias("generation")
    with warehouse.writer() as run:
        run.declare([VISITS])
        made = [rows(count, channel=channel).with_columns(stamp) for channel, count in counts.items()]
        run.commit([write_file(run.staging, VISITS.name, FIRST, pl.concat(made))])


def shown(warehouse: BigQueryWarehouse) -> dict[str, int]:
    """What the view shows: channel -> n."""
    return dict(pl.concat(warehouse.ask(f"SELECT channel, n FROM {VISITS.name}_current")).iter_rows())


def test_held_rows_are_hidden_also_from_a_run_that_makes_the_views_again_until_they_are_released(warehouse):
    hold(warehouse, NEW)
    write(warehouse, NEW, web=7, shop=1)  # which declares its tables, and so brings the views up to date
    assert held_generations(warehouse) == [NEW]
    assert shown(warehouse) == {"web": 5, "mail": 3}
    assert release(warehouse) == NEW
    assert shown(warehouse) == {"web": 7, "mail": 3, "shop": 1}
    assert held_generations(warehouse) == []
    assert release(warehouse) is None


def test_nothing_is_released_while_a_view_would_show_less_unless_forced(warehouse):
    hold(warehouse, NEW)
    write(warehouse, NEW, web=4, mail=3)
    assert find_smaller(warehouse) == {VISITS.name: 1}
    with pytest.raises(WarehouseError, match=r"nothing was released.*1 of visits_1d_current.*--force"):
        release(warehouse)
    assert shown(warehouse) == {"web": 5, "mail": 3}
    assert release(warehouse, force=True) == NEW
    assert shown(warehouse) == {"web": 4, "mail": 3}


def test_of_a_stream_that_was_started_again_the_newest_generation_is_released_and_the_other_stays_hidden(warehouse):
    for generation in (NEW, NEW, NEW + 1):
        hold(warehouse, generation)
    assert held_generations(warehouse) == [NEW, NEW + 1]
    write(warehouse, NEW, web=4, shop=1)
    write(warehouse, NEW + 1, web=9)
    assert shown(warehouse) == {"web": 5, "mail": 3}
    assert release(warehouse) == NEW + 1
    with closing(BigQueryWarehouse.open(warehouse.name)) as again:  # by its other labels it is a warehouse
        assert shown(again) == {"web": 9, "mail": 3}
        assert held_generations(again) == [NEW]


def test_more_held_launches_than_a_label_names_are_refused(warehouse):
    for generation in range(MOST_HELD):
        hold(warehouse, generation + 10)
    with pytest.raises(WarehouseError, match=r"the rows of 3 launches are held.*audience deploy release"):
        hold(warehouse, NEW)
