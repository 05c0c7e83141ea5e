"""Distinct counts: exact up to LIMIT, an estimate above, both a function of the set alone."""

import datasketches
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.metrics import distinct
from transforms.metrics.distinct import LG_K, LIMIT, REGISTERS, SKETCH, coupons, leading_zeros

RELATIVE_ERROR = 1.04 / np.sqrt(1 << LG_K)


def values(count: int, seed: int = 7) -> np.ndarray:
    """Random 64-bit hashes, each once."""
    return np.unique(np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64))


def sets(*members: np.ndarray) -> pl.DataFrame:
    """One row a set."""
    hashes, codes = np.unique(np.concatenate(members), return_inverse=True)
    group = np.repeat(np.arange(len(members)), [len(each) for each in members])
    return pl.DataFrame(distinct.build_sets("users", len(members), group, codes, hashes))


def union(*frames: pl.DataFrame) -> pl.DataFrame:
    """All rows in one set."""
    rows = pl.concat(frames)
    return pl.DataFrame(distinct.merge("users", 1, np.zeros(rows.height, np.int64), rows))


def finished(frame: pl.DataFrame) -> tuple[int, bytes]:
    return pl.DataFrame(distinct.finish("users", frame)).row(0)


def library_sketch(hashes: np.ndarray) -> datasketches.hll_sketch:
    sketch = datasketches.hll_sketch(LG_K, datasketches.HLL_4)
    for value in hashes.view(np.int64).tolist():  # an int above 2^63 the library takes for a float
        sketch.update(value)
    return sketch


def library_union(sketches) -> datasketches.hll_union:
    union = datasketches.hll_union(LG_K)
    for sketch in sketches:
        union.update(datasketches.hll_sketch.deserialize(sketch))
    return union


def test_leading_zeros_are_counted_in_all_64_bits():
    powers = [1 << bit for bit in range(64)]
    words = np.array([0, *powers, *(power | (power - 1) for power in powers)], np.uint64)
    assert leading_zeros(words).tolist() == [64, *range(63, -1, -1), *range(63, -1, -1)]


def test_a_value_has_the_coupon_that_the_library_gives_it():
    hashes = np.concatenate([np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64), values(3000)])
    theirs = [
        int.from_bytes(library_sketch(hashes[i : i + 1]).serialize_compact()[8:12], "little")
        for i in range(len(hashes))
    ]
    assert coupons(hashes).tolist() == theirs


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7])
def test_the_sketch_of_up_to_seven_values_is_the_librarys_byte_for_byte(count):
    for seed in range(50):
        hashes = values(count, seed)
        hashes = hashes[np.argsort(coupons(hashes))]
        assert finished(sets(hashes))[1] == library_sketch(hashes).serialize_compact()


@pytest.mark.parametrize("count", [8, 24, 25, 48, 49, 96, 97, 192, 193, LIMIT])
def test_the_sketch_of_a_larger_set_reads_as_the_one_that_the_library_builds(count):
    hashes = values(count)
    hashes = hashes[np.argsort(coupons(hashes))]
    sketch, built = finished(sets(hashes))[1], library_sketch(hashes).serialize_compact()
    assert sketch[:12] == built[:12]
    assert datasketches.hll_sketch.deserialize(sketch).serialize_compact() == built


@pytest.mark.parametrize("count", [1_000, 5_000, 60_000])
def test_the_sketch_above_the_limit_is_the_librarys_union_byte_for_byte(count):
    hashes = values(count)
    theirs = library_union([library_sketch(hashes).serialize_compact()] * 2).get_result(datasketches.HLL_4)
    assert finished(sets(hashes)) == (round(theirs.get_estimate()), theirs.serialize_compact())


def test_a_set_at_the_limit_is_a_list_and_one_above_is_registers():
    at, above = sets(values(LIMIT)), sets(values(LIMIT + 1))
    assert (at["users"].list.len().item(), at["users" + REGISTERS].null_count()) == (LIMIT, 1)
    assert (above["users"].list.len().item(), above["users" + REGISTERS].null_count()) == (0, 0)
    assert finished(at)[0] == LIMIT


def test_repeats_count_once_and_an_empty_set_is_zero():
    once = values(3)
    assert finished(sets(np.repeat(once, 4)))[0] == 3
    assert finished(union(sets(once), sets(once[1:])))[0] == 3
    frame = pl.DataFrame(distinct.finish("users", sets(once, np.empty(0, np.uint64), once)))
    assert frame["users"].to_list() == [3, 0, 3]
    assert datasketches.hll_sketch.deserialize(frame["users" + SKETCH][1]).is_empty()


@pytest.mark.parametrize("count", [10, LIMIT, LIMIT + 1, 300, 400, 1_000, 20_000])
def test_the_count_is_within_three_standard_errors(count):
    for seed in range(5):
        hashes = values(count, seed)
        assert abs(finished(sets(hashes))[0] - len(hashes)) <= max(0, 3 * RELATIVE_ERROR * len(hashes)) * (
            count > LIMIT
        )


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([3, 200, LIMIT, LIMIT + 1, 300, 385, 2_000]), st.integers(0, 99))
def test_order_and_merge_tree_do_not_matter(data, count, seed):
    hashes = values(count, seed)
    shuffled = np.random.default_rng(seed).permutation(np.concatenate([hashes, hashes[: count // 3]]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=6)))
    parts = [sets(part) for part in np.split(shuffled, cuts)]
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(union(first, second))
    whole = sets(hashes)
    assert parts[0].equals(whole)
    assert finished(parts[0]) == finished(whole)


def test_sketches_of_hours_union_to_the_estimate_of_the_day():
    day = values(6_000)
    rng = np.random.default_rng(3)
    hours = [day[rng.random(len(day)) < share] for share in (0.001, 0.002, 0.01, 0.04, 0.3, 0.5, 0.6)]
    seen = np.unique(np.concatenate(hours))
    rows = pl.DataFrame(distinct.finish("users", sets(*hours)))
    estimate = library_union(rows["users" + SKETCH]).get_estimate()
    assert abs(estimate - len(seen)) <= 3 * RELATIVE_ERROR * len(seen)
    # every hour's set is in one sketch or another, so nothing is lost by the roll-up
    assert round(estimate) == finished(sets(seen))[0]
