"""Alike records of a file are kept apart by how many came before, whatever the order in which they are gathered."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.block import FLOW_SCHEMA
from transforms.deduplicate import KEY, keep_smallest, split

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = "derived:" + "a" * 32, "derived:" + "b" * 32


def events(*rows, stored=False, input="f"):
    """Events of (id, mark)."""
    same = {"source": "s", "input": input, "stored": stored, "event_type": "x", "event_time": NOON}
    times = {"client_time": NOON, "received_time": NOON}
    made = [same | times | {"event_id": id + mark, "id_source": "derived"} for id, mark in rows]
    return pl.DataFrame(made, schema=FLOW_SCHEMA)


def ids(block, shards=3):
    """(ids of the kept events, number of duplicates) as a batch run finds them."""
    parts = split(block, timedelta(days=1), shards, alike=True)
    kept = [keep_smallest(part.events) for part in parts]
    return sorted(id for each in kept for id in each.events["event_id"]), sum(len(each.duplicates) for each in kept)


def test_the_second_and_the_third_of_a_content_have_ids_of_their_own():
    block = events((A, "@/x/f:9"), (A, "@/x/f:10"), (B, "@/x/f:11"), (A, "@/x/f:100"))
    assert ids(block) == ([A, f"{A}-2", f"{A}-3", B], 0)


def test_the_nth_in_one_file_is_the_nth_in_another():
    block = events((A, "@f:1"), (A, "@f:2"), (A, "@g:7"), (A, "@g:8"), (A, "@g:9"))
    assert ids(block) == ([A, f"{A}-2", f"{A}-3"], 2)


def test_places_are_numbers_of_any_kind():
    marks = ["@f:0:9", "@f:0:10", "@f:1:0", "@g@999", "@g@1000", "@h:3#2", "@h:3#10", "@u@v:5:1/w:2", "@u@v:5:1/w:10"]
    block = events(*((A, mark) for mark in marks))
    assert ids(block) == ([A, f"{A}-2", f"{A}-3"], 6)


def test_a_rule_is_a_part_of_what_is_counted():
    block = events((A, "@f:1"), (A + "/click", "@f:1/click"), (A, "@f:2"), (A + "/click", "@f:2/click"))
    assert ids(block) == ([A, f"{A}-2", f"{A}/click", f"{A}/click-2"], 0)


def test_stored_events_are_the_same_as_what_is_read_again_and_those_of_the_same_input_come_before():
    stored = events((A, ""), (f"{A}-2", ""), stored=True)
    again = events((A, "@g:1"), (A, "@g:2"), (A, "@g:3"), input="g")
    assert ids(pl.concat([stored, again])) == ([A, f"{A}-2", f"{A}-3"], 2)
    replayed = events((A, "@f:7"))
    assert ids(pl.concat([stored, replayed])) == ([A, f"{A}-2", f"{A}-3"], 0)


def test_ids_without_a_mark_stay():
    block = pl.concat(
        [events((A, ""), (A, "")), events(("x@y:1", ""), ("x@y:1", "")).with_columns(id_source=pl.lit("client"))]
    )
    assert ids(block) == ([A, "x@y:1"], 2)


ROWS = st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from(["f", "g", "h"]), st.integers(1, 40)), max_size=30)


@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_and_shards_change_nothing(rows, random, shards):
    rows = list(dict.fromkeys(rows))
    block = events(*((id, f"@{file}:{line}") for id, file, line in rows))
    most = {id: max((sum(row[:2] == (id, file) for row in rows) for file in "fgh"), default=0) for id in (A, B)}
    expected = sorted(id if n == 1 else f"{id}-{n}" for id, count in most.items() for n in range(1, count + 1))
    shuffled = block[random.sample(range(len(block)), len(block))] if len(block) else block
    for some in (block, shuffled):
        assert ids(some, shards) == (expected, len(rows) - len(expected))
        assert all(part.events[KEY].n_unique() <= 2 for part in split(some, timedelta(days=1), shards, alike=True))


@pytest.mark.parametrize("content", ["new", "newer", "other", "x"])
@pytest.mark.parametrize(("seconds", "stays"), [(-9, False), (0, True), (9, True)])
def test_of_two_contents_the_one_received_first_stays_else_the_stored_one_and_a_conflict_is_counted(
    content, seconds, stays
):
    stored = events(("d", ""), stored=True).with_columns(id_source=pl.lit("client"), content_id=pl.lit("old"))
    copy = events(("d", "")).with_columns(
        id_source=pl.lit("client"),
        content_id=pl.lit(content),
        received_time=pl.col("received_time") + timedelta(seconds=seconds),
    )
    for block in (pl.concat([copy, stored]), pl.concat([stored, copy])):
        (part,) = split(block, timedelta(days=1), 1, alike=True)
        kept = keep_smallest(part.events)
        assert kept.events["content_id"].to_list() == ["old" if stays else content]
        assert kept.conflicts["content_id"].to_list() == [content]


def test_the_place_decides_which_of_alike_records_has_which_id():
    block = events((A, "@f:10"), (A, "@f:9"), (A, "@f:100"))
    block = block.with_columns(sent_time=pl.Series([NOON + timedelta(seconds=n) for n in (10, 9, 100)]))
    (part,) = split(block, timedelta(days=1), 1, alike=True)
    sent = dict(keep_smallest(part.events).events.select("event_id", "sent_time").iter_rows())
    assert {id: (at - NOON).seconds for id, at in sent.items()} == {A: 9, f"{A}-2": 10, f"{A}-3": 100}
