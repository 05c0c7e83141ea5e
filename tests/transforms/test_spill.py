import pickle
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from transforms.block import EVENT_SCHEMA
from transforms.spill import INLINE_ROWS, parts, spill

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
