import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import deduplicate
from transforms import restored_state as seeds
from transforms.block import FLOW_SCHEMA
from transforms.deduplicate import KEY, WINDOW, KeepFirst, claim_entries, keep_smallest, keep_unseen, split
from transforms.publication import Firing
from transforms.seen import SEEN, Claims, Seen, SeenCache
from transforms.windows import FOLD

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def events(*rows: tuple[str, float, str]) -> pl.DataFrame:
    """Rows of (event_id, seconds after noon received, content_id), of one source and client time."""
    return pl.DataFrame(
        [
            {
                "event_id": id,
                "source": "shop",
                "input": "f",
                "stored": False,
                "event_type": "click",
                "content_id": content,
                "client_time": NOON,
                "event_time": NOON,
                "received_time": NOON + timedelta(seconds=seconds),
            }
            for id, seconds, content in rows
        ],
        schema=FLOW_SCHEMA,
    )


def keyed(block: pl.DataFrame) -> pl.DataFrame:
    """The block with its KEY, as it leaves the split."""
    pieces = [piece.events for piece in split(block, DAY, 1)]
    if pieces:
        return pl.concat(pieces)
    return block.with_columns(pl.lit(None, pl.UInt64).alias(KEY), pl.lit(None, pl.Int64).alias(WINDOW))


def test_the_smallest_received_time_is_kept_and_the_rest_are_duplicates():
    kept = keep_smallest(keyed(events(("a", 9, "x"), ("a", 5, "x"), ("b", 1, "y"), ("a", 7, "x"))))
    assert sorted(kept.events.select("event_id", "received_time").rows()) == [
        ("a", NOON + timedelta(seconds=5)),
        ("b", NOON + timedelta(seconds=1)),
    ]
    assert kept.duplicates.height == 2
    assert kept.conflicts.is_empty()


def test_another_payload_under_the_same_id_is_a_conflict():
    kept = keep_smallest(keyed(events(("a", 5, "x"), ("a", 6, "z"), ("a", 7, "x"))))
    assert kept.events["content_id"].to_list() == ["x"]
    assert (kept.duplicates.height, kept.conflicts["content_id"].to_list()) == (2, ["z"])


def test_copies_received_at_once_that_differ_only_in_how_they_travelled_are_kept_whatever_their_order():
    block = events(("a", 5, "x"), ("a", 5, "x"), ("a", 5, "x")).with_columns(
        sent_time=pl.Series([NOON + DAY, None, NOON], dtype=FLOW_SCHEMA["sent_time"]),
        event_time=pl.Series([NOON - DAY, NOON, NOON], dtype=FLOW_SCHEMA["event_time"]),
        warnings=pl.Series([None, "null_user_id", None], dtype=pl.String),
    )
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    kept = [keep_smallest(keyed(block[order])).events for order in orders]
    assert all(each.equals(kept[0], null_equal=True) for each in kept)


def test_one_id_of_two_sources_is_two_events():
    block = events(("a", 5, "x"), ("a", 6, "x")).with_columns(source=pl.Series(["shop", "app"]))
    assert keep_smallest(keyed(block)).events.height == 2


def test_two_ids_of_one_hash_both_stay():
    block = keyed(events(("a", 5, "x"), ("b", 6, "y"))).with_columns(pl.lit(7, pl.UInt64).alias(KEY))
    assert sorted(keep_smallest(block).events["event_id"]) == ["a", "b"]


rows = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3), st.sampled_from("xy")), max_size=30)


@given(rows, st.randoms(use_true_random=False), st.integers(1, 7), st.sampled_from([0, FOLD]))
def test_neither_order_nor_cuts_nor_shards_matter(drawn, random, shards, fold):
    whole = keep_smallest(keyed(events(*drawn)))
    shuffled = list(drawn)
    random.shuffle(shuffled)
    pieces = [keep_smallest(piece.events) for piece in split(events(*shuffled), DAY, shards, fold)]
    again = pl.concat([kept.events for kept in pieces] or [whole.events.clear()])
    key = ["event_id", "received_time", "content_id"]
    assert again.sort(key).equals(whole.events.sort(key))
    assert sum(kept.duplicates.height for kept in pieces) == whole.duplicates.height
    assert sum(kept.conflicts.height for kept in pieces) == whole.conflicts.height


@given(rows, st.integers(0, 30))
def test_a_stream_keeps_the_first_of_each_id_wherever_its_blocks_are_cut(drawn, cut):
    whole, _ = keep_unseen(keyed(events(*drawn)), Seen())
    head, entries = keep_unseen(keyed(events(*drawn[:cut])), Seen())
    tail, _ = keep_unseen(keyed(events(*drawn[cut:])), Seen().with_(entries))
    first = {}
    for id, _, content in drawn:
        first.setdefault(id, content)
    for kept in (whole.events, pl.concat([head.events, tail.events])):
        assert dict(kept.select("event_id", "content_id").rows()) == first
        assert kept.height == len(first)
    assert head.conflicts.height + tail.conflicts.height == whole.conflicts.height
    assert whole.conflicts.height == sum(content != first[id] for id, _, content in drawn)


minutes = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from([0, 60, 120]), st.sampled_from("xy")), min_size=1
)


@given(minutes, st.data())
def test_of_an_id_that_is_read_again_the_stored_delivery_is_kept_wherever_it_comes(drawn, data):
    stored = list({row[0]: row for row in data.draw(st.permutations(drawn))}.values())
    stored = data.draw(st.lists(st.sampled_from(stored), unique=True))
    claims = Claims(claim_entries(keyed(events(*stored))))
    cut = data.draw(st.integers(0, len(drawn)))
    head, entries = keep_unseen(keyed(events(*drawn[:cut])), Seen(), claims)
    tail, _ = keep_unseen(keyed(events(*drawn[cut:])), Seen().with_(entries), claims)
    kept = pl.concat([head.events, tail.events])
    at = dict(kept.select("event_id", (pl.col("received_time") - NOON).dt.total_seconds()).rows())
    expected = {row[0]: row[1] for row in reversed(drawn)} | {row[0]: row[1] for row in stored}
    assert at == expected
    assert kept.height == len(expected)
    assert kept.height + head.duplicates.height + tail.duplicates.height == len(drawn)


def test_a_repeat_that_comes_before_the_claimed_delivery_is_a_conflict_if_it_differs_from_it():
    claims = Claims(claim_entries(keyed(events(("a", 60, "x")))))
    for other, conflicts in (("x", 0), ("y", 1)):
        head, entries = keep_unseen(keyed(events(("a", 0, other))), Seen(), claims)
        assert (head.events.height, head.duplicates.height, head.conflicts.height) == (0, 1, conflicts)
        assert len(entries) == 0


def test_the_step_reads_the_claims_of_its_seeds(monkeypatch, tmp_path):
    monkeypatch.setattr(deduplicate, "_CACHE", SeenCache())
    stored = keyed(events(("a", 60, "x")))
    seeds.add_claims(str(tmp_path), seeds.Place(0, 0), claim_entries(stored).tobytes())
    step = KeepFirst(DAY, Firing(streaming=True, restored=str(tmp_path)))
    key = Key()

    def passed(block: pl.DataFrame) -> list[datetime]:
        outputs = step.process(((0, 0), keyed(block)), seen_state=Bag([]), token_state=Bag(()), expire=key)
        return [time for each in outputs if isinstance(each, pl.DataFrame) for time in each["received_time"]]

    assert passed(events(("a", 0, "x"))) == []
    assert passed(events(("a", 60, "x"))) == stored["received_time"].to_list()


def test_one_id_in_two_windows_is_two_events_also_where_windows_are_compared_together():
    block = events(("a", 0, "x"), ("a", 0, "x"), ("a", 0, "x"))
    days = [NOON, NOON, NOON + DAY]
    block = block.with_columns(client_time=pl.Series(days, dtype=FLOW_SCHEMA["client_time"]))
    kept = keep_smallest(keyed(block))
    assert sorted(kept.events["client_time"]) == [NOON, NOON + DAY]
    assert kept.duplicates.height == 1


def test_an_id_of_days_that_share_a_partition_is_an_event_of_each():
    days = [NOON, NOON + DAY, NOON + FOLD * DAY, NOON + FOLD * DAY]
    block = events(*[("a", 0, "x")] * 4).with_columns(client_time=pl.Series(days, dtype=FLOW_SCHEMA["client_time"]))
    pieces = split(block, DAY, 1, FOLD)
    assert [piece.events.height for piece in pieces] == [3, 1]
    kept = keep_smallest(pl.concat(piece.events for piece in pieces))
    assert sorted(kept.events["client_time"]) == days[:3]
    assert kept.duplicates.height == 1


def test_a_window_is_a_day_of_the_clients_time_else_of_the_received_one():
    block = events(("a", 0, "x"), ("b", 86_400, "x"), ("c", 86_400, "x"))
    block = block.with_columns(client_time=pl.Series([NOON, NOON, None], dtype=FLOW_SCHEMA["client_time"]))
    pieces = split(block, DAY, 1)
    assert [(sorted(piece.events["event_id"]), piece.at) for piece in pieces] == [
        (["a", "b"], NOON.timestamp()),
        (["c"], NOON.timestamp() + 86_400),
    ]


class Bag:
    """A bag or a value of user state, as a worker sees it: writes count only once the bundle commits."""

    def __init__(self, committed):
        self.committed, self.written = committed, []

    def read(self):
        now = [*self.committed, *self.written]
        return now if isinstance(self.committed, list) else (now[-1] if now else None)

    def add(self, value):
        self.written.append(value)

    write = add


class Key:
    """The state of one key, and the workers that take turns at it."""

    def __init__(self):
        self.seen, self.token = [], ()

    def bundle(self, cache: SeenCache, ids: list[str], commits: bool, monkeypatch) -> list[str]:
        """Process one bundle on the worker that owns `cache`; what it yields counts only if it commits."""
        monkeypatch.setattr(deduplicate, "_CACHE", cache)
        seen, token = Bag(self.seen), Bag(self.token)
        outputs = list(
            self.dofn.process(
                ((0, 0), keyed(events(*[(id, 0, "x") for id in ids]))),
                seen_state=seen,
                token_state=token,
                expire=self,
            )
        )
        if not commits:
            return []
        self.seen, self.token = [*self.seen, *seen.written], (*self.token, *token.written)
        return [id for block in outputs if isinstance(block, pl.DataFrame) for id in block["event_id"]]

    def set(self, time):
        self.expires = time


def test_a_failed_bundle_another_workers_bundle_and_the_first_worker_again_lose_and_double_nothing(monkeypatch):
    key = Key()
    key.dofn = KeepFirst(DAY, Firing(streaming=True))
    one, other = SeenCache(), SeenCache()
    out = key.bundle(one, ["a"], True, monkeypatch)
    out += key.bundle(one, ["b"], False, monkeypatch)  # in the cache of `one`, in no state
    out += key.bundle(other, ["c"], True, monkeypatch)  # in state, not in the cache of `one`
    out += key.bundle(one, ["b", "c", "a"], True, monkeypatch)
    assert sorted(out) == ["a", "b", "c"]


def test_the_cache_makes_room_for_the_most_recent_and_still_answers_only_for_its_token():
    cache = SeenCache(most_bytes=40)
    seen = Seen().with_(np.zeros(2, SEEN))
    cache.put(("k1",), b"t1", seen)
    cache.put(("k2",), b"t2", seen)
    assert cache.get(("k1",), b"t1") is None
    assert cache.get(("k2",), b"t2") is seen
    assert cache.get(("k2",), b"t3") is None
    assert cache.get(("k2",), None) is None


@pytest.mark.parametrize("group_rows", [1, 3, 1000])
def test_groups_compared_apart_keep_the_same(monkeypatch, group_rows):
    monkeypatch.setattr(deduplicate, "GROUP_ROWS", group_rows)
    drawn = [(f"e{n % 50}", n, "x") for n in range(120)]
    gathered = [(len(piece.events), "", piece.events) for piece in split(events(*drawn), DAY, 1)]
    keep = deduplicate._KeepSmallest("f")
    keep.start_bundle()
    outputs = [*keep.process(((0, 0), gathered)), *(output.value for output in keep.finish_bundle())]
    kept = [id for block in outputs if isinstance(block, pl.DataFrame) for id in block["event_id"]]
    assert sorted(kept) == sorted(f"e{n}" for n in range(50))


@given(st.lists(st.lists(st.integers(0, 400), max_size=40), max_size=12))
def test_what_was_seen_is_found_again_however_it_came(blocks):
    seen, added = Seen(), {}
    for number, block in enumerate(blocks):
        fresh = [key for key in dict.fromkeys(block) if key not in added]
        added |= {key: number * 1_000 + key for key in fresh}
        seen = seen.with_(np.array([(key, added[key]) for key in fresh], SEEN))
    known, prints = seen.look_up(np.arange(401, dtype=np.uint64))
    assert dict(zip(np.flatnonzero(known).tolist(), prints[known].tolist(), strict=True)) == added
    lengths = [len(level.keys) for level in seen.levels]
    assert all(long >= 2 * short for long, short in itertools.pairwise(lengths))
