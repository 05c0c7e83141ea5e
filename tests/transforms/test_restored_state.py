"""A stream's steps start from seeds: once for each window and shard, and as if their state had never been lost."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue

from transforms import restored_state as seeds
from transforms.aggregate import Aggregate
from transforms.block import FLOW_SCHEMA, BlockCoder
from transforms.deduplicate import Deduplicate, seen_entries, split
from transforms.metrics.aggregations import MetricAggregation
from transforms.metrics.spec import read_metrics
from transforms.publication import Firing, Launch
from transforms.quality import unpack
from transforms.restored_state import Place

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WINDOW = int(NOON.timestamp()) // 3600
(SPEC,) = read_metrics(
    {"m": {"bucket": "1h", "dimensions": ["channel"], "early": "10s", "measures": {"events": {"count": "all"}}}}, "c"
)
METRIC = MetricAggregation(SPEC, "UTC")


def events(*ids: str, at: datetime = NOON, content: str = "x") -> pl.DataFrame:
    rows = [
        {"event_id": id, "source": "s", "input": "f", "stored": False, "channel": "web", "content_id": content}
        | {"client_time": at, "event_time": at, "received_time": at}
        for id in ids
    ]
    return pl.DataFrame(rows, schema=FLOW_SCHEMA)


def stream(*blocks: pl.DataFrame, ends: datetime | None = None):
    made = TestStream(coder=BlockCoder())
    for block in blocks:
        made = made.add_elements([TimestampedValue(block, NOON.timestamp())]).advance_processing_time(11)
    if ends:
        made = made.advance_watermark_to(ends.timestamp())
    made = made.advance_watermark_to((NOON + 30 * DAY).timestamp())  # by infinity the assertion has its rows
    return made.advance_watermark_to_infinity().with_output_types(pl.DataFrame)


def streaming() -> beam.Pipeline:
    return beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"]))


@pytest.fixture
def reads(monkeypatch):
    """The seeds that were looked for."""
    found, real = [], seeds._read

    def counted(folder, step, place):
        if folder:
            found.append((step, *place))
        return real(folder, step, place)

    monkeypatch.setattr(seeds, "_read", counted)
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_what_was_kept_before_is_a_duplicate_and_another_payload_a_conflict(tmp_path, shards):
    for piece in split(events("a", "b"), DAY, shards):
        seeds.add_seen(str(tmp_path), Place(piece.window, piece.shard), seen_entries(piece.events).tobytes())
    source = stream(events("a"), events("b", content="y"), events("c"), events("c"), events("a", at=NOON + DAY))
    with streaming() as pipeline:
        kept = (
            pipeline
            | source
            | Deduplicate(window=DAY, shards=shards, firing=Firing(streaming=True, restored=str(tmp_path)))
        )
        passed = kept.passed | beam.FlatMap(lambda block: block.select("event_id", "client_time").rows())
        assert_that(passed, equal_to([("c", NOON), ("a", NOON + DAY)]))
        counts = kept.books | beam.FlatMap(lambda entries: [(outcome, n) for *_, outcome, n in unpack(entries)])
        expected = [("duplicates", 1)] * 3 + [("conflicts", 1)]
        assert_that(counts, equal_to(expected), label="books")


def test_entries_are_added_block_by_block_and_read_once_a_window_even_if_nothing_is_new(tmp_path, reads):
    for id in "abc":
        [piece] = split(events(id), DAY, 1)
        seeds.add_seen(str(tmp_path), Place(piece.window, 0), seen_entries(piece.events).tobytes())
    with streaming() as pipeline:
        kept = (
            pipeline
            | stream(*map(events, "abcab"))
            | Deduplicate(window=DAY, shards=1, firing=Firing(streaming=True, restored=str(tmp_path)))
        )
        assert_that(kept.passed, equal_to([]))
    day = int(NOON.timestamp()) // 86_400
    assert reads == [("seen", day, 0), ("claims", day, 0)]


def told(rows: pl.DataFrame) -> list[tuple]:
    return rows.select("bucket_start", "events", "firing", "revision").rows()


def published(folder, source, *expected) -> None:
    with streaming() as pipeline:
        aggregate = Aggregate([METRIC], Launch(7, "1"), Firing(streaming=True, clock=float, restored=folder))
        made = (pipeline | source | aggregate)[METRIC.name]
        assert_that(made | beam.FlatMap(told), equal_to(list(expected)))


def test_a_firing_adds_to_what_was_published_before_and_its_revision_is_above_the_launchs(tmp_path, reads):
    seeds.write_published(str(tmp_path), "m", [(Place(WINDOW, 0), METRIC.partial(events("a", "b", "c")))])
    seeds.write_revision(str(tmp_path), 50)
    published(
        str(tmp_path),
        stream(events("d"), events("e", at=NOON + HOUR), events("f")),
        (NOON, 4, "early", 51),
        (NOON + HOUR, 1, "early", 51),
        (NOON, 5, "early", 52),
    )
    assert sorted(reads) == [("published/m", WINDOW, 0), ("published/m", WINDOW + 1, 0)]


def test_a_seeded_window_that_nothing_touches_says_nothing_and_a_late_event_finds_its_seed(tmp_path):
    seeds.write_published(
        str(tmp_path), "m", [(Place(WINDOW + n, 0), METRIC.partial(events("a", at=NOON + n * HOUR))) for n in (0, 1)]
    )
    late = (
        TestStream(coder=BlockCoder())
        .advance_watermark_to((NOON + 2 * DAY).timestamp())
        .add_elements([TimestampedValue(events("z"), NOON.timestamp())])
        .advance_watermark_to((NOON + 30 * DAY).timestamp())
        .advance_watermark_to_infinity()
        .with_output_types(pl.DataFrame)
    )
    published(str(tmp_path), late, (NOON, 2, "on_time", 1))


def test_without_seeds_no_file_is_looked_for(reads):
    published(None, stream(events("a")), (NOON, 1, "early", 1))
    assert reads == []
