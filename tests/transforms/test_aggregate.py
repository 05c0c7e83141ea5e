"""Aggregate: when a metric's rows are published, and that no event is published twice or not at all."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue
from hypothesis import given
from hypothesis import strategies as st

from transforms import aggregate, quality, shuffle_files
from transforms.aggregate import Aggregate
from transforms.block import EVENT_SCHEMA, TIME, BlockCoder
from transforms.metrics.aggregations import BooksAggregation, MetricAggregation
from transforms.metrics.scopes import scatter, scopes_of
from transforms.metrics.spec import read_metrics
from transforms.publication import Firing, Launch
from transforms.windows import FOLD

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAUNCH = Launch(7, "1.2")
SHARDS = [(2, "pos"), (47, "web"), (91, None)]


def metric(zone: str = "UTC", **form) -> MetricAggregation:
    """A count of events by channel, in hours unless `form` says otherwise."""
    usual = {"bucket": "1h", "dimensions": ["channel"], "early": "10s", "measures": {"events": {"count": "all"}}}
    (spec,) = read_metrics({"m": usual | form}, "config.yaml")
    return MetricAggregation(spec, zone)


def events(*channels: str | None, at: datetime = NOON) -> pl.DataFrame:
    """A block with an event of each channel."""
    rows = [{"event_id": str(n), "channel": channel, "event_time": at} for n, channel in enumerate(channels)]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA)


def never() -> float:
    """A clock so far ahead of TestStream's, which starts at 0, that no processing-time timer fires."""
    return 1e9


class Stream:
    """A TestStream of blocks."""

    def __init__(self):
        self.stream = TestStream(coder=BlockCoder())

    def block(self, *channels: str | None, at: datetime = NOON) -> "Stream":
        self.stream = self.stream.add_elements([TimestampedValue(events(*channels, at=at), at.timestamp())])
        return self

    def wait(self, seconds: float) -> "Stream":
        self.stream = self.stream.advance_processing_time(seconds)
        return self

    def watermark(self, time: datetime) -> "Stream":
        self.stream = self.stream.advance_watermark_to(time.timestamp())
        return self

    def publishes(self, what: MetricAggregation, *expected: tuple, clock=float) -> None:
        """Fails unless the rows are exactly the `expected` ones of (revision, firing, channel, events).

        By the clock `float`, which stands at 0, revisions count 1, 2, 3.
        """
        # Past all windows first: by the time of infinity the assertion has its rows, and would see no more.
        ended = self.watermark(NOON + 30 * DAY).stream.advance_watermark_to_infinity()
        source = ended.with_output_types(pl.DataFrame)
        with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as pipeline:
            made = pipeline | source | Aggregate([what], LAUNCH, Firing(streaming=True, clock=clock))
            assert_that(made[what.name] | beam.FlatMap(told), equal_to(list(expected)))


def told(rows: pl.DataFrame) -> list[tuple]:
    """(revision, firing, channel, events) of published rows."""
    assert set(rows.select("generation", "pipeline_version").rows()) == {(7, "1.2")}
    return rows.select("revision", "firing", "channel", "events").rows()


def test_each_firing_publishes_only_the_groups_that_changed_under_a_growing_revision():
    early = Stream().block("web", "pos").wait(9).block("web").wait(2).block("pos").wait(11).watermark(NOON + HOUR)
    early.block("web").wait(61).publishes(
        metric(),
        (1, "early", "web", 2),
        (1, "early", "pos", 1),
        (2, "early", "pos", 2),
        (3, "late", "web", 3),
    )
    late = Stream().block("web", "pos").watermark(NOON + HOUR).block("web").wait(59).block("web").wait(2).block("pos")
    late.wait(61).publishes(
        metric(early="never"),
        (1, "on_time", "web", 1),
        (1, "on_time", "pos", 1),
        (2, "late", "web", 3),
        (3, "late", "pos", 2),
    )


def test_nothing_is_published_early_where_a_metric_says_never():
    stream = Stream().block("web").wait(3_600).block("web").wait(3_600).watermark(NOON + HOUR)
    stream.publishes(metric(early="never"), (1, "on_time", "web", 2))


def test_what_is_still_pending_when_a_window_expires_is_published():
    stream = Stream().block("web").watermark(NOON + HOUR).block("web", None)
    micros = int(never() * 1_000_000)
    stream.publishes(
        metric(),
        (micros, "on_time", "web", 1),
        (micros + 1, "late", "web", 2),
        (micros + 1, "late", None, 1),
        clock=never,
    )


def test_what_comes_after_its_window_has_expired_adds_up():
    late = NOON + 10 * DAY
    stream = Stream().watermark(late).block("web").wait(1).block("web", "web")
    micros = int(late.timestamp() * 1_000_000)
    stream.publishes(
        metric(), (micros, "on_time", "web", 1), (micros + 1, "late", "web", 3), clock=lambda: late.timestamp()
    )


def test_a_stream_that_ends_publishes_what_is_pending_once():
    Stream().block("web", "web").publishes(metric(), (1, "on_time", "web", 2))


def test_windows_and_shards_publish_apart():
    stream = Stream().block("web", "pos").block("web", at=NOON + HOUR).watermark(NOON + 2 * HOUR)
    expected = [(1, "on_time", "web", 1), (1, "on_time", "pos", 1), (1, "on_time", "web", 1)]
    stream.publishes(metric(shards=3, early="never"), *expected)


@pytest.mark.parametrize("compact_at", [2, 3, 64])
def test_compacting_what_is_pending_changes_no_row(monkeypatch, compact_at):
    monkeypatch.setattr(aggregate, "COMPACT_AT", compact_at)
    stream = Stream()
    for channel in ("web", "pos", "web", None, "web", "pos", "web"):
        stream = stream.block(channel)
    stream = stream.watermark(NOON + HOUR)
    expected = [(1, "on_time", "web", 4), (1, "on_time", "pos", 2), (1, "on_time", None, 1)]
    stream.publishes(metric(early="never"), *expected)


def test_pending_frames_are_compacted_to_one_above_the_limit(monkeypatch):
    monkeypatch.setattr(aggregate, "COMPACT_AT", 3)
    (scope,) = scopes = scopes_of([metric()])
    publish = aggregate.Publish(scopes, LAUNCH, Firing(streaming=True, lateness=DAY))
    pending, states = Held(), {name: Held() for name in ("progress", "soon", "end", "expire")}
    heights = []
    for _ in range(8):
        ((key, piece),) = placed(scopes, events("web"))
        publish.process((key, piece), pending=pending, **states)
        heights.append(len(pending.values))
    assert heights == [1, 2, 3, 1, 2, 3, 1, 2]
    assert scope.merge(pending.values)["m"]["events"].to_list() == [8]


def placed(scopes, block: pl.DataFrame) -> list[tuple]:
    """The elements that a block becomes in a stream."""
    step = aggregate._Place(scopes)
    step.start_bundle()
    assert list(step.process(block)) == []
    return [element.value for element in step.finish_bundle()]


class Held:
    """A bag, a value or a timer, in memory."""

    def __init__(self):
        self.values: list = []

    def add(self, value):
        self.values.append(value)

    def write(self, value):
        self.values = [value]

    set = write

    def read(self):
        return self.values if self.values and isinstance(self.values[0], bytes) else (self.values or [None])[0]

    def clear(self):
        self.values = []


DAYS = {"bucket": "1d", "early": "never"}
LATE_EVENING = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)  # half past eleven in Berlin


def test_a_day_of_a_time_zone_is_published_when_it_ends_there():
    stream = Stream().block("web", at=NOON).watermark(datetime(2026, 3, 1, 22, 59, tzinfo=UTC))
    stream = stream.block("web", at=LATE_EVENING).wait(3_600)
    stream = stream.watermark(datetime(2026, 3, 1, 23, 0, tzinfo=UTC))
    stream = stream.block("web", at=LATE_EVENING).wait(3_600)
    stream.publishes(metric("Europe/Berlin", **DAYS), (1, "on_time", "web", 2), (2, "late", "web", 3))


def test_a_day_of_a_time_zone_is_open_to_its_last_event_as_long_as_any_day():
    stream = Stream().block("web", at=NOON).watermark(LATE_EVENING + timedelta(days=2, hours=22))
    stream = stream.block("web", at=LATE_EVENING)
    stream.publishes(metric("Europe/Berlin", **DAYS), (1, "on_time", "web", 1), (2, "late", "web", 2))


def bounded(blocks: list[pl.DataFrame], what, *expected: tuple, spill_folder: str | None = None) -> None:
    with beam.Pipeline("FnApiRunner") as pipeline:
        aggregate = Aggregate([what], LAUNCH, Firing(clock=lambda: 5.0), spill_folder)
        made = pipeline | beam.Create(blocks, reshuffle=False) | aggregate
        assert_that(made[what.name] | beam.FlatMap(told), equal_to(list(expected)))


@pytest.mark.parametrize("shards", [1, 3])
def test_a_bounded_run_publishes_each_row_once(shards):
    blocks = [events("web", "pos"), events("web", None), events("web", at=NOON + DAY), events()]
    what = metric(shards=shards)
    rows = [("web", 2), ("pos", 1), (None, 1), ("web", 1)]
    bounded(blocks, what, *((5_000_000, "on_time", channel, n) for channel, n in rows))


def test_days_that_share_a_key_of_a_bounded_run_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle_files, "INLINE_ROWS", 1)
    days = [NOON + number * DAY for number in (0, 1, FOLD, 3 * FOLD)]
    partial = metric().partial(pl.concat(events("web", at=day) for day in days))
    pieces = scatter(partial, HOUR, DAY, 1, ("channel",), FOLD)
    assert [piece.height for _, piece in pieces] == [3, 1]
    blocks = [events("web", at=day) for day in (*days, NOON)]
    bounded(blocks, metric(), *((5_000_000, "on_time", "web", n) for n in (2, 1, 1, 1)), spill_folder=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == len(blocks)


def test_the_books_of_no_known_minute_are_published_too():
    times = pl.DataFrame({"received_time": [NOON, None]}, schema={"received_time": TIME})
    entries = quality.pack(quality.entries_of(times.with_columns(source=pl.lit("s"), input=pl.lit("f")), "received"))
    with beam.Pipeline("FnApiRunner") as pipeline:
        made = pipeline | beam.Create([entries, entries], reshuffle=False) | Aggregate([BooksAggregation()], LAUNCH)
        rows = made["quality_1m"] | beam.FlatMap(
            lambda rows: rows.select("bucket_start", "bucket_end", "received").rows()
        )
        assert_that(rows, equal_to([(None, None, 2), (NOON, NOON + quality.MINUTE, 2)]))


@given(st.lists(st.tuples(st.integers(0, 72), st.sampled_from(["a", "b", None])), max_size=12), st.integers(1, 5))
def test_scattered_rows_are_all_there_each_in_the_window_of_its_time_and_the_shard_of_its_keys(rows, shards):
    partial = metric().partial(
        pl.concat([events(), *(events(channel, at=NOON + hour * HOUR) for hour, channel in rows)])
    )
    for scope in (HOUR, DAY):
        pieces = scatter(partial, HOUR, scope, shards, ("channel",))
        again = pl.concat([partial.clear(), *(piece for _, piece in pieces)])
        assert again.sort("bucket_start", "channel").equals(partial.sort("bucket_start", "channel"), null_equal=True)
        seconds = scope.total_seconds()
        shard_of: dict = {}
        for (window, shard), piece in pieces:
            assert all(window == start.timestamp() // seconds for start in piece["bucket_start"])
            assert all(shard_of.setdefault(channel, shard) == shard < shards for channel in piece["channel"])
        assert len(dict(pieces)) == len(pieces)


def test_the_shards_are_those_of_every_earlier_version():
    partial = metric().partial(events("web", "pos", None))
    pieces = scatter(partial, HOUR, HOUR, 97, ("channel",))
    assert [(shard, *piece["channel"]) for (_, shard), piece in pieces] == SHARDS
