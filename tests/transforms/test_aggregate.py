"""Aggregate: when a metric's rows are published, and that no event is published twice or not at all."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import TimestampedValue
from hypothesis import given
from hypothesis import strategies as st

from transforms import aggregate, quality
from transforms.aggregate import Aggregate, BooksAggregation, Launch, MetricAggregation, scatter
from transforms.block import EVENT_SCHEMA, TIME, BlockCoder
from transforms.metrics import read_metrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAUNCH = Launch(7, "1.2")


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

    def published(self, what: MetricAggregation, clock=float, lateness: timedelta = 3 * DAY) -> list[tuple]:
        """(revision, firing, channel, events, bucket_start) of all rows, in order."""
        rows: list[tuple] = []

        def see(blocks):
            for block in blocks:
                assert block["generation"].unique().to_list() == [7]
                assert block["pipeline_version"].unique().to_list() == ["1.2"]
                rows.extend(block.select("revision", "firing", "channel", "events", "bucket_start").rows())

        source = self.stream.advance_watermark_to_infinity().with_output_types(pl.DataFrame)
        with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as pipeline:
            made = pipeline | source | Aggregate(what, LAUNCH, streaming=True, lateness=lateness, clock=clock)
            assert_that(made, see)
            pipeline_result = pipeline.run()
            pipeline_result.wait_until_finish()
        return sorted(rows, key=lambda row: (row[0], str(row[2])))


def test_each_firing_publishes_only_the_groups_that_changed_under_a_growing_revision():
    stream = Stream().block("web", "pos").wait(11)
    stream = stream.block("web").wait(11)
    stream = stream.block("pos").watermark(NOON + HOUR)
    stream = stream.block("web").wait(61)
    assert [row[1:4] for row in stream.published(metric())] == [
        ("early", "pos", 1),
        ("early", "web", 1),
        ("early", "web", 2),
        ("on_time", "pos", 2),
        ("late", "web", 3),
    ]
    revisions = [row[0] for row in stream.published(metric())]
    assert revisions[0] == revisions[1]
    assert all(one < other for one, other in zip(revisions[1:], revisions[2:], strict=False))
