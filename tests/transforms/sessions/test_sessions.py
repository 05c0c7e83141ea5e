"""Sessions: cut by the gap alone, mergeable in any order and grouping, corrected in a stream, whole at midnight."""

import random
import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.block import EVENT_SCHEMA, TIME, BlockCoder
from transforms.publication import Firing, Launch
from transforms.sessions import cold as cold_sessions
from transforms.sessions import sessions
from transforms.sessions import streaming as sessions_stream
from transforms.sessions.sessions import SPANNING_SCHEMA, STEPS, Sessions, TargetDays, _ByVisitor, _PublishOnce
from transforms.sessions.streaming import PublishSessions, pack, unpack
from transforms.sessions.summaries import (
    REVENUE,
    SUMMARY_SCHEMA,
    merge,
    select_visits,
    summarize_events,
    table_rows,
    tombstones,
)
from transforms.shuffle_files import spill

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LAUNCH = Launch(7, "test")


def events(*given: dict) -> pl.DataFrame:
    """Events; `at` and `received` are minutes after noon, `who` an anonymous_id."""
    made = [
        {"event_type": "click", "anonymous_id": each.pop("who", "a"), "event_time": NOON + each.pop("at") * MINUTE}
        | {"received_time": NOON + each.pop("received", 600) * MINUTE}
        | each
        for each in map(dict, given)
    ]
    return pl.DataFrame(made, schema=EVENT_SCHEMA)


def summed(*blocks: pl.DataFrame) -> pl.DataFrame:
    return merge([summarize_events(block, STEPS) for block in blocks])


def told(frame: pl.DataFrame) -> list[tuple]:
    """(start, end in minutes after noon, events) of rows, sorted."""
    named = frame.select(pl.col("session_start", "session_end"), "events").rows()
    return sorted(((start - NOON) / MINUTE, (end - NOON) / MINUTE, count) for start, end, count in named)


def test_thirty_minutes_apart_are_two_sessions_and_a_microsecond_less_is_one():
    assert told(table_rows(summed(events({"at": 0}, {"at": 30}, {"at": 59.9})))) == [(0, 0, 1), (30, 59.9, 2)]
    near = events({"at": 0}, {"at": 30}).with_columns(
        event_time=pl.when(pl.col("event_time") == NOON)
        .then("event_time")
        .otherwise(pl.col("event_time") - timedelta(microseconds=1))
    )
    assert summed(near)["events"].to_list() == [2]


def test_a_login_does_not_cut_a_session_and_an_event_of_nobody_is_in_none():
    block = events(
        {"at": 0}, {"at": 5, "user_id": "u"}, {"at": 9}, {"at": 2, "who": None}, {"at": 3, "who": None, "user_id": "a"}
    )
    found = table_rows(summed(block)).sort("events")
    # The user a is another visitor than the anonymous a.
    assert found.select("anonymous_id", "user_id", "events").rows() == [(None, "a", 1), ("a", "u", 3)]
    assert found["visit_id"].n_unique() == 2


def test_what_a_row_says_by_hand():
    block = events(
        {"at": 1, "event_type": "page_view", "content_id": "x", "user_id": "old"},
        {"at": 1, "event_type": "page_view", "content_id": "w"},  # at once: the smaller text is first
        {"at": 2, "event_type": "add_to_cart", "channel": "web", "campaign": None, "device": "phone", "sequence": 2},
        {"at": 2, "event_type": "search", "device": "watch", "country": "FR", "sequence": 1},
        {"at": 3, "event_type": "purchase", "campaign": "spring", "value": Decimal("9.5"), "currency": "EUR"},
        {"at": 4, "event_type": "purchase", "value": Decimal("0.5"), "currency": "EUR", "user_id": "new"},
        {"at": 4, "event_type": "purchase", "value": Decimal("3"), "currency": None, "campaign": "autumn"},
        {"at": 4, "event_type": "like", "value": Decimal("77"), "content_id": "z", "is_bot": True, "country": "DE"},
    )
    (row,) = table_rows(summed(block)).rows(named=True)
    assert row.pop("visit_id")
    assert row == {
        "anonymous_id": "a",
        "user_id": "new",
        "session_start": NOON + MINUTE,
        "session_end": NOON + 4 * MINUTE,
        "duration_seconds": 180.0,
        "is_tombstone": False,
        "events": 8,
        "views": 2,
        "clicks": 0,
        "likes": 1,
        "shares": 0,
        "comments": 0,
        "carts": 1,
        "signups": 0,
        "purchases": 3,
        "revenue": [{"currency": None, "value": Decimal(3)}, {"currency": "EUR", "value": Decimal(10)}],
        "entry_content_id": "w",
        "exit_content_id": "z",
        "channel": "web",
        "campaign": "spring",
        "country": "FR",
        "device": "watch",
        "furthest_step": 3,
        "is_converted": True,
        "is_engaged": True,
        "is_bounce": False,
        "is_long": False,
        "is_bot": True,
    }


@pytest.mark.parametrize(
    ("given", "engaged"),
    [
        ([{"at": 0}], False),
        ([{"at": 0}, {"at": 1 / 6}], False),  # ten seconds are not longer than ten seconds
        ([{"at": 0}, {"at": 0.17}], True),
        ([{"at": 0, "event_type": "page_view"}, {"at": 0, "event_type": "page_view"}], True),
        ([{"at": 0, "event_type": "signup"}], True),
    ],
)
def test_engaged_is_longer_than_ten_seconds_or_two_views_or_converted(given, engaged):
    found = table_rows(summed(events(*given)))
    assert found.select("is_engaged", "is_bounce").rows() == [(engaged, not engaged)]


def test_above_a_day_it_is_long():
    day = [{"at": 20 * step} for step in range(73)]
    assert table_rows(summed(events(*day)))["is_long"].to_list() == [False]
    assert table_rows(summed(events(*day, {"at": 1441})))["is_long"].to_list() == [True]


KINDS = ["page_view", "click", "purchase", "add_to_cart", "signup"]
EVENT = st.fixed_dictionaries(
    {
        "at": st.one_of(st.sampled_from([0, 20, 40]), st.integers(0, 240)),  # often at one time
        "who": st.sampled_from(["a", "b"]),
        "event_type": st.sampled_from(KINDS),
        "user_id": st.sampled_from([None, "u", "v"]),
        "content_id": st.sampled_from([None, "x", "y"]),
        "channel": st.sampled_from([None, "web", "pos"]),
        "campaign": st.sampled_from([None, "c", "d"]),
        "country": st.sampled_from([None, "DE", "FR"]),
        "device": st.sampled_from([None, "phone"]),
        "sequence": st.sampled_from([None, None, -1, 0, 1, 2**63 - 1]),
        "received": st.sampled_from([600, 601, 602]),
        "currency": st.sampled_from([None, "EUR", "USD"]),
        "value": st.sampled_from([None, Decimal(1), Decimal("2.5")]),
        "is_bot": st.sampled_from([None, False, True]),
    }
)


def by_hand(given: list[dict]) -> list[dict]:
    """The sessions of events, by a loop over the events in order of time."""
    made = []
    for who in sorted({each["who"] for each in given}):
        mine = sorted((each for each in given if each["who"] == who), key=lambda each: each["at"])
        parts = [[mine[0]]]
        for each in mine[1:]:
            if each["at"] - parts[-1][-1]["at"] >= 30:
                parts.append([])
            parts[-1].append(each)
        made += [_told_by_hand(who, part) for part in parts]
    return made


def _told_by_hand(who: str, part: list[dict]) -> dict:
    def seen(name, pick):
        there = [
            (each["at"], -(2**63) if each["sequence"] is None else each["sequence"], each["received"], each[name])
            for each in ({"sequence": None, "received": 600, name: None} | each for each in part)
            if each[name] is not None
        ]
        return pick(there)[-1] if there else None

    money = defaultdict(Decimal)
    for each in part:
        if each["event_type"] == "purchase" and each["value"] is not None:
            money[each["currency"]] += each["value"]
    kinds = [each["event_type"] for each in part]
    return {
        "anonymous_id": who,
        "start": part[0]["at"],
        "end": part[-1]["at"],
        "events": len(part),
        "views": kinds.count("page_view"),
        "purchases": kinds.count("purchase"),
        "user_id": seen("user_id", max),
        "entry_content_id": seen("content_id", min),
        "exit_content_id": seen("content_id", max),
        "channel": seen("channel", min),
        "campaign": seen("campaign", min),
        "country": seen("country", min),
        "device": seen("device", min),
        "furthest_step": max([0, *(STEPS.index(kind) + 1 for kind in kinds if kind in STEPS)]),
        "is_bot": any(each["is_bot"] for each in part),
        "revenue": sorted(money.items(), key=lambda pair: pair[0] or ""),
    }


def as_by_hand(frame: pl.DataFrame) -> list[dict]:
    named = frame.sort("anonymous_id", "session_start").rows(named=True)
    return [
        {
            **{name: row[name] for name in ("anonymous_id", "events", "views", "purchases", "user_id", "is_bot")},
            **{name: row[name] for name in ("entry_content_id", "exit_content_id", "channel", "campaign")},
            **{name: row[name] for name in ("country", "device")},
            "furthest_step": row["furthest_step"],
            "start": (row["session_start"] - NOON) / MINUTE,
            "end": (row["session_end"] - NOON) / MINUTE,
            "revenue": [(each["currency"], each["value"]) for each in row["revenue"]],
        }
        for row in named
    ]


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=40), st.integers(1, 7), st.randoms(use_true_random=False))
def test_summaries_in_any_order_and_grouping_are_the_sessions_of_a_loop_over_the_events(given, cut, rand):
    shuffled = list(given)
    rand.shuffle(shuffled)
    parts = [summed(events(*shuffled[at : at + cut])) for at in range(0, len(shuffled), cut)]
    while len(parts) > 1:
        rand.shuffle(parts)
        parts = [merge(parts[:2]), *parts[2:]]
    assert as_by_hand(table_rows(parts[0])) == by_hand(given)


@settings(deadline=None, max_examples=20)
@given(st.lists(EVENT, min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 40))
def test_a_batch_run_makes_the_sessions_of_a_loop_over_the_events_in_any_parts(given, cut, most):
    visits = [select_visits(events(*given[at : at + cut])) for at in range(0, len(given), cut)]
    gathered = [(False, spill(each, None)) for each in visits]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sessions, "VISITS_ROWS", most)
        made = list(_PublishOnce(Sessions(LAUNCH)).process((0, gathered)))
    assert as_by_hand(pl.concat(made)) == by_hand(given)


def test_no_event_makes_no_session():
    assert table_rows(merge([])).is_empty()
    assert table_rows(summed(events())).is_empty()
    assert tombstones(merge([])).is_empty()
    assert merge([]).schema == {**SUMMARY_SCHEMA, "members": pl.UInt32}
    assert table_rows(merge([])).schema["revenue"] == REVENUE


def current(published: list[pl.DataFrame]) -> pl.DataFrame:
    """What stands: of each session the last row, if it is no tombstone."""
    if not published:
        return table_rows(merge([]))
    last = pl.concat(published).sort("generation", "revision").unique("visit_id", keep="last")
    return last.filter(~pl.col("is_tombstone"))


class Shard:
    """The stream's step of one shard, with its state and timers; a watermark and a clock that the test moves."""

    def __init__(self, early: timedelta | None = None, lateness: timedelta = DAY):
        self.clock, self.lateness = NOON.timestamp(), lateness
        self.step = PublishSessions(
            LAUNCH, STEPS, Firing(streaming=True, early=early, lateness=lateness, clock=lambda: self.clock)
        )
        self.bags = {name: Bag() for name in ("pending", "cold")}
        self.cells = {name: Cell() for name in ("hot", "progress")}
        self.soon, self.due = Cell(), Cell()
        self.published: list[pl.DataFrame] = []
        self.watermark = NOON.timestamp()

    def in_time(self, given: list[dict]) -> list[dict]:
        """Those that are no later than the lateness: a stream rejects the others before this step (lateness.py)."""
        oldest = self.watermark - self.lateness.total_seconds()
        return [each for each in given if (NOON + each["at"] * MINUTE).timestamp() >= oldest]

    def put(self, block: pl.DataFrame) -> None:
        visits = select_visits(block, with_key=False)
        times = visits["event_time"].to_physical()
        element = 0, (times.min(), times.max(), pack(visits))
        self.step.process(element, self.bags["pending"], self.cells["progress"], soon=self.soon, due=self.due)
        self.fire()

    def advance(self, minutes: float) -> None:
        """The watermark and the clock."""
        self.watermark += minutes * 60
        self.clock += minutes * 60
        self.fire()

    def fire(self) -> None:
        """What is due, and what that makes due."""
        state = {**self.bags, **self.cells}
        while True:
            if self.due.value is not None and self.due.value.micros <= self.watermark * 1_000_000:
                self.due.clear()
                self.published += self.step.fire_due(0, **state, soon=self.soon, due=self.due)
            elif self.soon.value is not None and self.soon.value.micros <= self.clock * 1_000_000:
                self.soon.clear()
                self.published += self.step.fire_soon(0, **state, due=self.due)
            else:
                return

    @property
    def held(self) -> int:
        hot = self.cells["hot"].value
        left = cold_sessions.compact(self.bags["cold"].read, pl.lit(True))
        return (0 if hot is None else hot.height) + left.rows


class Cell:
    """A value or a timer, in memory."""

    def __init__(self):
        self.value = None

    def write(self, value):
        self.value = value

    set = write

    def read(self):
        return self.value

    def clear(self):
        self.value = None


class Bag:
    def __init__(self):
        self.values: list = []
        self.reads = 0

    def add(self, value):
        self.values.append(value)

    def read(self):
        self.reads += 1
        return list(self.values)

    def clear(self):
        self.values = []


def test_a_session_is_published_when_it_is_over_and_not_before():
    shard = Shard()
    shard.put(events({"at": 0}, {"at": 10}))
    shard.advance(39.9)
    assert shard.published == []
    shard.advance(0.1)
    assert told(current(shard.published)) == [(0, 10, 2)]
    assert [frame["firing"].to_list() for frame in shard.published] == [["on_time"]]


def test_with_early_firings_an_open_session_is_shown_as_it_grows():
    shard = Shard(early=MINUTE)
    shard.put(events({"at": 0}))
    shard.advance(1)
    shard.put(events({"at": 2}))
    shard.advance(1)
    assert [(frame["firing"][0], frame["events"][0]) for frame in shard.published] == [("early", 1), ("early", 2)]
    shard.advance(30)
    assert [frame["firing"][0] for frame in shard.published] == ["early", "early"]  # it has not changed since
    shard.put(events({"at": 1}))
    assert len(shard.published) == 2
    shard.advance(1)
    assert (shard.published[-1]["firing"][0], shard.published[-1]["events"][0]) == ("late", 3)


def test_a_late_event_that_bridges_three_published_sessions_leaves_one_and_three_rows_taken_back():
    shard = Shard()
    shard.put(events({"at": 0}, {"at": 40}, {"at": 80}))
    shard.advance(120)
    assert told(current(shard.published)) == [(0, 0, 1), (40, 40, 1), (80, 80, 1)]
    shard.put(events({"at": 20}, {"at": 60}, {"at": -10}))
    shard.advance(1)
    assert told(current(shard.published)) == [(-10, 80, 6)]
    taken_back = [frame for frame in shard.published if frame["is_tombstone"].any()]
    assert [sorted(frame["session_start"]) for frame in taken_back] == [[NOON + at * MINUTE for at in (0, 40, 80)]]


def test_a_session_that_an_event_opens_again_is_corrected_when_it_is_over_again():
    shard = Shard()
    shard.put(events({"at": 0}))
    shard.advance(40)
    shard.put(events({"at": 25}))  # over at 55
    shard.advance(10)
    assert told(current(shard.published)) == [(0, 0, 1)]
    shard.advance(5)
    assert told(current(shard.published)) == [(0, 25, 2)]


def test_a_stream_that_is_a_day_behind_does_not_fire_for_each_minute_that_it_catches_up_with():
    shard, given = Shard(), [{"at": at, "who": f"v{at}"} for at in range(0, 1_200, 5)]
    shard.clock += DAY.total_seconds()
    shard.put(events(*given))
    shard.advance(3_000)
    assert current(shard.published).height == len(given)
    assert 5 < len(shard.published) < 30
    on_time = Shard()
    on_time.put(events(*given))
    on_time.watermark += 3_000 * 60
    on_time.fire()
    assert len(on_time.published) == len(given)


def test_what_no_event_can_reach_any_more_is_freed():
    shard = Shard(lateness=timedelta(hours=8))
    for hour in range(60):
        shard.put(events({"at": hour * 60}))
        shard.advance(60)
        assert shard.held <= 16  # 8 hours and the gap, and up to six hours until it is swept
    shard.advance(24 * 60)
    assert shard.held == 0
    assert current(shard.published).height == 60


def test_what_is_held_for_long_is_read_once_a_sweep_and_not_at_each_firing():
    shard = Shard(lateness=timedelta(hours=2))
    for minute in range(20 * 60):
        shard.put(events({"at": minute, "who": f"v{minute}"}))
        shard.advance(1)
    frames = 20 * 60 / sessions_stream.COLD_FRAMES
    assert 2 <= shard.bags["cold"].reads / 2 <= 20 / 6 + frames  # twice each time
    assert shard.held < 9.5 * 60


@settings(deadline=None, max_examples=60)
@given(
    st.lists(EVENT, min_size=1, max_size=40),
    st.integers(1, 5),
    st.sampled_from([0, 10, 60]),
    st.sampled_from([0, 2, 64]),
    st.sampled_from([0, 15, 90]),
    st.booleans(),
    st.sampled_from([2 * HOUR, DAY]),
    st.randoms(use_true_random=False),
)
def test_a_stream_in_any_order_says_in_the_end_what_a_loop_over_the_events_in_time_says(
    given, cut, hot, compact, every, early, lateness, rand
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions_stream, "_HOT", hot * 60_000_000)
        patch.setattr(sessions_stream, "_COLD_EVERY", every * 60_000_000)
        patch.setattr(sessions_stream, "COLD_FRAMES", compact)
        patch.setattr(sessions_stream, "PENDING_FRAMES", compact)
        patch.setattr(cold_sessions, "FRAME_ROWS", max(1, compact))
        shard = Shard(MINUTE if early else None, lateness)
        shuffled, accepted = list(given), []
        rand.shuffle(shuffled)
        for at in range(0, len(shuffled), cut):
            if part := shard.in_time(shuffled[at : at + cut]):
                shard.put(events(*part))
                accepted += part
            shard.advance(rand.choice([0, 1, 7, 45, 200]))
        shard.advance(600)
    assert as_by_hand(current(shard.published)) == by_hand(accepted)
    keys = pl.concat(shard.published).select("visit_id", "revision")
    assert keys.n_unique() == keys.height


def on_runner(
    folder: Path, blocks, runner: str, options: list[str], streaming: bool = False, **how
) -> list[pl.DataFrame]:
    """What is published: what leaves a timer that a timer has set comes too late for Beam's own `assert_that`."""
    with beam.Pipeline(runner, options=PipelineOptions(options)) as pipeline:
        made = blocks(pipeline) | Sessions(LAUNCH, firing=Firing(streaming=streaming, clock=lambda: 5.0), **how)
        made | beam.Map(keep, str(folder))
    return [pl.read_ipc_stream(path) for path in folder.glob("*.arrow")]


def keep(frame: pl.DataFrame, folder: str) -> None:
    frame.write_ipc_stream(Path(folder) / f"{uuid.uuid4().hex}.arrow")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_stream_on_a_runner_drains_to_the_sessions_of_its_events(tmp_path, shards):
    rand = random.Random(4)
    given = [{"at": rand.randint(0, 500), "who": rand.choice("abcd"), "event_type": "click"} for _ in range(120)]
    given += [{**each, "country": rand.choice(["DE", "FR"]), "sequence": rand.randint(0, 9)} for each in given]  # ties
    given = [
        {**dict.fromkeys(("user_id", "content_id", "channel", "campaign", "currency", "value", "is_bot")), **each}
        for each in given
    ]
    expected = by_hand(given)

    def blocks(pipeline):
        stream, rest = TestStream(coder=BlockCoder()), list(given)
        rand.shuffle(rest)
        for at in range(0, len(rest), 10):
            block = events(*rest[at : at + 10])
            stream = stream.add_elements([TimestampedValue(block, NOON.timestamp())])
            stream = stream.advance_watermark_to((NOON + 4 * at * MINUTE).timestamp()).advance_processing_time(70)
        return {"events": pipeline | stream.advance_watermark_to_infinity().with_output_types(pl.DataFrame)}

    published = on_runner(tmp_path, blocks, "BundleBasedDirectRunner", ["--streaming"], streaming=True, shards=shards)
    assert as_by_hand(current(published)) == expected
    assert any(frame["is_tombstone"].any() for frame in published)


MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def at_midnight(*minutes: float) -> pl.DataFrame:
    return events(*({"at": 720 + minute} for minute in minutes))


def reach(*sessions: tuple[float, float]) -> pl.DataFrame:
    """Sessions of `a` that stand, from and to minutes after midnight."""
    key = summed(at_midnight(0))["key"][0]
    made = [(key, "a", None, MIDNIGHT + start * MINUTE, MIDNIGHT + end * MINUTE) for start, end in sessions]
    return pl.DataFrame(made, schema=SPANNING_SCHEMA, orient="row")


def bounded(
    folder: Path, own: pl.DataFrame, beside: pl.DataFrame | None, standing: pl.DataFrame | None, days: set[date] | None
) -> pl.DataFrame:
    def blocks(pipeline):
        given = {"events": own, "neighbor_events": beside, "spanning_sessions": standing}
        return {
            name: pipeline | name >> beam.Create([frame]).with_output_types(pl.DataFrame)
            for name, frame in given.items()
            if frame is not None
        }

    return pl.concat(on_runner(folder, blocks, "FnApiRunner", [], target_days=TargetDays(days, "UTC")))


SECOND = {date(2026, 3, 2)}


def test_a_backfill_of_a_day_goes_on_with_the_session_that_began_before_midnight(tmp_path):
    published = bounded(tmp_path, at_midnight(5, 280), at_midnight(-10, -5, -300), reach((-10, -5)), SECOND)
    assert told(published) == [(710, 725, 3), (1000, 1000, 1)]
    assert not published["is_tombstone"].any()  # the session has the start that stands


def test_a_session_that_is_joined_to_one_before_midnight_is_taken_back(tmp_path):
    published = bounded(tmp_path, at_midnight(-5), at_midnight(5), reach((5, 5)), {date(2026, 3, 1)})
    assert told(published.filter(~pl.col("is_tombstone"))) == [(715, 725, 2)]
    assert published.filter("is_tombstone")["session_start"].to_list() == [MIDNIGHT + 5 * MINUTE]


def test_a_session_that_loses_its_events_of_a_replaced_day_is_corrected_on_the_day_before(tmp_path):
    published = bounded(tmp_path, at_midnight(280), at_midnight(-10, -300), reach((-10, 15)), SECOND)
    assert told(published) == [(710, 710, 1), (1000, 1000, 1)]


def test_without_days_all_is_written(tmp_path):
    assert told(bounded(tmp_path, at_midnight(0), None, None, None)) == [(720, 720, 1)]


def test_a_session_is_of_each_day_that_it_lies_in():
    days = {date(2026, 3, 1), date(2026, 3, 3)}
    frame = pl.DataFrame(
        {
            "start": [MIDNIGHT, MIDNIGHT - MINUTE, MIDNIGHT + DAY - MINUTE, MIDNIGHT + DAY, MIDNIGHT - 9 * DAY],
            "end": [MIDNIGHT + MINUTE, MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 9 * DAY, MIDNIGHT - 8 * DAY],
        },
        schema={"start": TIME, "end": TIME},
    )
    assert TargetDays(days, "UTC").touched(frame).to_list() == [False, True, True, True, False]


def test_what_goes_to_the_step_of_a_stream_is_an_element_a_shard_stamped_with_its_earliest_event():
    step = _ByVisitor(shards=1)
    step.start_bundle()
    for block in (events({"at": 9}, {"at": 7, "who": "b"}), events({"at": 50, "who": "c"}, {"at": 0, "who": None})):
        assert list(step.process(block)) == []
    (element,) = step.finish_bundle()
    assert element.timestamp.seconds() == int((NOON + 7 * MINUTE).timestamp())
    shard, (first, last, packed) = element.value
    assert (shard, unpack(packed)["anonymous_id"].to_list()) == (0, ["a", "b", "c"])
    assert (first, last) == tuple(int((NOON + at * MINUTE).timestamp() * 1e6) for at in (7, 50))
    step.start_bundle()
    assert list(step.finish_bundle()) == []


def test_events_for_cold_sessions_are_gathered_between_two_looks_at_them():
    shard, looks = Shard(), []
    for minute in range(200):
        shard.put(events({"at": minute, "who": f"v{minute}"}))
        if 150 <= minute < 155:
            shard.put(events({"at": minute - 149, "who": f"v{minute - 150}"}))
        before = shard.bags["cold"].reads
        shard.advance(1)
        looks += [minute] * (shard.bags["cold"].reads - before)
    assert looks == [150, 165]  # the first at once
    doubled = current(shard.published).filter(pl.col("events") == 2)
    assert sorted(doubled["anonymous_id"]) == [f"v{at}" for at in range(5)]


def test_a_cold_session_is_not_freed_while_an_event_in_time_waits_for_the_look_at_it():
    shard = Shard(lateness=2 * HOUR)
    shard.put(events({"at": 205}, {"at": 205, "who": "b"}, {"at": 317, "who": "c"}))
    shard.advance(347)
    shard.put(events({"at": 230, "who": "b"}))
    shard.advance(1)  # looks at the cold sessions; the next look is at 362
    assert shard.in_time([{"at": 229}])
    shard.put(events({"at": 229}))
    shard.advance(12)  # 360: a sweep, two hours after the end of the session of `a` at 235
    assert told(current(shard.published).filter(pl.col("anonymous_id") == "a")) == [(205, 205, 1)]
    shard.advance(2)
    assert told(current(shard.published).filter(pl.col("anonymous_id") == "a")) == [(205, 229, 2)]
