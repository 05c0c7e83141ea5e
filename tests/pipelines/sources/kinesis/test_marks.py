"""Marks: what they say may be lost, and which shards may be read, in whichever order they are listed and finalized."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.kinesis.client import About
from pipelines.sources.kinesis.marks import Mark, Marks, check_marks, path_of, read_marks, write_marks
from pipelines.sources.kinesis.shards import Shards, Taken, parents_of
from pipelines.sources.watermark import Watermark
from transforms.errors import SourceError

ARN = "arn:aws:kinesis:eu-west-1:000000000000:stream/events"
NOW, DAY = 1_800_000_000.0, 86_400.0
ABOUT = About(ARN, 1_000.0, "ACTIVE", 2, DAY, NOW)
OLD, FRESH = NOW - DAY - 1, NOW - DAY + 1
LINEAGE = {"root": (), "left": ("root",), "right": ("root",), "merged": ("left", "right")}
SAFE = {
    "read lately": {"root": Mark("1", FRESH)},
    "never read": {},
    "read to its end long ago, its children lately": {
        "root": Mark("1", OLD, True),
        "left": Mark("2", FRESH),
        "right": Mark(None, FRESH),
    },
    "ended and expired": {"gone": Mark("1", FRESH, True), "root": Mark("2", FRESH)},
}
LOST = {
    "read long ago": ({"root": Mark("1", OLD)}, "root"),
    "a child of one that ended long ago": ({"root": Mark("1", OLD, True)}, "left"),
    "a merged one whose one parent ended long ago": (
        {"left": Mark("1", OLD, True), "right": Mark("1", FRESH, True), "root": Mark("1", FRESH, True)},
        "merged",
    ),
    "not begun, while the run was away for too long": ({"other": Mark("1", OLD, True)}, "root"),
    "expired before it was read to its end": ({"gone": Mark("1", FRESH)}, "gone"),
}


def checked(shards: dict[str, Mark], created: float = 1_000.0, start: float | None = None) -> None:
    check_marks(path_of("w", ARN), Marks(ARN, created, start, shards), ABOUT, LINEAGE, NOW)


@pytest.mark.parametrize("case", SAFE)
def test_what_is_still_there_is_read_on(case):
    checked(SAFE[case])


@pytest.mark.parametrize("case", LOST)
def test_what_may_be_deleted_is_named_with_its_shard(case):
    shards, named = LOST[case]
    with pytest.raises(SourceError, match=f"^records of {named} may be lost: what came before .* was read"):
        checked(shards)


def test_a_run_that_never_read_and_was_away_for_too_long_lost_what_came_since_its_start():
    checked({}, start=FRESH)
    with pytest.raises(SourceError, match="may be lost"):
        checked({}, start=OLD)


def test_a_stream_that_was_created_again_has_other_records():
    checked({"root": Mark("1", FRESH)}, created=1_000.4)
    with pytest.raises(SourceError, match="was created again since"):
        checked({"root": Mark("1", FRESH)}, created=900.0)


def test_two_streams_of_one_name_have_files_of_their_own(tmp_path):
    other = ARN.replace("eu-west-1", "us-east-1")
    assert path_of(tmp_path, ARN) != path_of(tmp_path, other)
    marks = Marks(ARN, 1.5, None, {"root": Mark("1", 2.5, True), "left": Mark()})
    write_marks(path_of(tmp_path, ARN), marks)
    assert read_marks(path_of(tmp_path, ARN)) == marks
    assert read_marks(path_of(tmp_path, other)) is None


def shards_of(lineage: dict[str, tuple[str, ...]], marks: dict[str, Mark] | None = None) -> Shards:
    shards = Shards(Marks(ARN, 1.0, None, marks or {}), lambda: Watermark(0.0, lambda: NOW))
    shards.update(lineage)
    return shards


@given(st.permutations(list(LINEAGE)))
def test_a_shard_is_read_once_its_parents_ended_in_whichever_order_they_are_listed(names):
    shards, seen = shards_of({name: LINEAGE[name] for name in names}), []
    while readable := shards.readable():
        seen.append({shard.id for shard in readable})
        readable[0].mark = Mark("1", NOW, ended=True)
    assert seen == [{"root"}, {"left", "right"}, seen[2], {"merged"}]
    assert seen[2] in ({"left"}, {"right"})


def test_parents_that_are_listed_no_more_are_not_waited_for():
    listed = [{"ShardId": "left", "ParentShardId": "root"}, {"ShardId": "m", "ParentShardId": "left"}]
    listed[1]["AdjacentParentShardId"] = "right"
    assert parents_of(listed) == {"left": (), "m": ("left",)}


def test_a_child_is_known_since_the_first_of_its_parents_ended():
    ends = {"root": Mark("1", 5.0, True), "left": Mark("1", 7.0, True), "right": Mark("1", 6.0, True)}
    (merged,) = shards_of(LINEAGE, ends).readable()
    assert (merged.id, merged.mark) == ("merged", Mark(known=6.0))


@given(st.permutations(range(5)))
def test_a_mark_moves_over_what_is_complete_in_whichever_order_it_is_finalized(order):
    (root,) = shards_of({"root": ()}).readable()
    for number in range(5):
        before, root.mark = root.mark, Mark(f"{number}", float(number))
        root.taken.append(Taken(before, 0.0, 1, 1, number))
    taken, done = list(root.taken), set[int]()
    for number in order:
        taken[number].is_done = True
        done.add(number)
        complete = next(at for at in range(6) if at not in done) - 1
        assert root.finalized() == (Mark(f"{complete}", float(complete)) if complete >= 0 else Mark())
