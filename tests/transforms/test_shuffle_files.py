import pickle
from datetime import UTC, datetime
from decimal import Decimal
from unittest.mock import patch

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.testing.util import assert_that

from transforms import deduplicate
from transforms.block import EVENT_SCHEMA
from transforms.deduplicate import Deduplicate, _KeepSmallest, _SplitGathered
from transforms.shuffle_files import INLINE_BYTES, INLINE_ROWS, join, parts, spill

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def events(rows: int) -> pl.DataFrame:
    """A block with a value of many types, and nulls."""
    ids = [f"e{n}" for n in range(rows)]
    values = [Decimal(n) / 8 for n in range(rows)]
    stated = pl.DataFrame({"event_id": ids, "value": values, "event_time": [NOON] * rows}, strict=False)
    return stated.select(
        (pl.col(name) if name in stated.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVENT_SCHEMA.items()
    )


@pytest.mark.parametrize("rows", [INLINE_ROWS, INLINE_ROWS + 1])
def test_a_large_block_crosses_as_the_path_of_a_file(tmp_path, rows):
    block = events(rows)
    crossed = spill(block, str(tmp_path))
    assert (crossed[0], crossed[2].height, crossed[2].schema) == (rows, 0, block.schema)
    assert len(pickle.dumps(crossed)) < 10_000
    (part,) = parts([crossed])
    assert part.load().equals(block, null_equal=True)
    assert part.load().schema == block.schema
    assert part.block is None  # memory stays flat until it is loaded


@pytest.mark.parametrize(("rows", "folder"), [(INLINE_ROWS - 1, True), (0, True), (INLINE_ROWS * 2, False)])
def test_a_small_block_and_one_without_a_folder_cross_as_they_are(tmp_path, rows, folder):
    block = events(rows)
    (part,) = parts([spill(block, str(tmp_path) if folder else None)])
    assert part.rows == rows
    assert part.load().equals(block, null_equal=True)
    assert list(tmp_path.iterdir()) == []


def test_blocks_that_are_spilled_twice_do_not_share_a_file(tmp_path):
    block = events(INLINE_ROWS)
    paths = {spill(block, str(tmp_path))[1] for _ in range(3)}
    assert len(paths) == len(list(tmp_path.iterdir())) == 3


def long_events(rows: int, size: int, begin: str = "") -> pl.DataFrame:
    """Events of which each has a long text of its own."""
    texts = pl.Series("extra", [f"{n}{begin}" + "x" * size for n in range(rows)])
    ids = pl.lit(begin) + pl.col("event_id")
    return events(rows).with_columns(
        texts, event_id=ids, source=pl.lit("s"), stored=pl.lit(False), received_time=pl.lit(NOON)
    )


def test_few_rows_that_are_long_cross_as_a_path_too(tmp_path):
    block = long_events(3, INLINE_BYTES)
    (part,) = parts([spill(block, str(tmp_path))])
    assert (part.rows, part.block) == (3, None)
    assert part.held > 3 * INLINE_BYTES
    assert part.load().equals(block, null_equal=True)


@pytest.mark.parametrize("spilled", [True, False])
def test_what_is_joined_of_several_steps_is_all_that_they_made(tmp_path, spilled):
    sides = [events(INLINE_ROWS), events(5), events(INLINE_ROWS + 7)]

    def heights(found):
        assert sorted(block.height for block in found) == sorted(side.height for side in sides)
        assert all(block.schema == sides[0].schema for block in found)

    with beam.Pipeline("FnApiRunner") as pipeline:
        each = [pipeline | f"{n}" >> beam.Create([block]) for n, block in enumerate(sides)]
        assert_that(join(each, "Join them", str(tmp_path) if spilled else None), heights)
    assert len(list(tmp_path.iterdir())) == (2 if spilled else 0)


def test_long_events_are_gathered_by_their_bytes(tmp_path):
    options = Deduplicate(shards=1, spill_folder=str(tmp_path))
    gather, keep = _SplitGathered(options), _KeepSmallest()
    gather.most_bytes = keep.most_bytes = 2_500_000
    with patch.object(deduplicate, "GROUP_BYTES", 2_500_000):
        gather.start_bundle()
        flushed = [list(gather.process(long_events(10, 100_000, f"{n}-"))) for n in range(6)]
        assert [len(made) for made in flushed] == [0, 0, 1, 0, 0, 1]
        keep.start_bundle()
        made = list(keep.process(((0, 0), [crossed for each in flushed for _, crossed in each])))
    assert sum(block.height for block in made) == 60
    assert len(made) == 3
