"""Kinesis as raw blocks, on a runner whose workers are on this machine: acknowledged when a bundle is finalized.

    ReadKinesis(Reading(stream, ...))   PBegin -> PCollection[RAW_SCHEMA block]; LANDED_SCHEMA where blocks land

Delivery   at least once. If a bundle fails or a process dies, its records are not behind the marks, and are read again.
Watermark  see watermark.py: of each shard the times of arrival less `expected_delay`, the clock's while it is read to
           its tip; of the stream the earliest of its shards
End        once `drain_file` exists, the reader hands on nothing more and reports the end of time, so that all windows
           close. After a pipeline failed or was cancelled: READERS.close().
Metrics    those of readers.py; `requests-throttled` and `requests-retried` count requests that were sent again,
           `lag-seconds` is how far the reader is behind the tip of the stream
"""

from pipelines.sources.kinesis.pull import begin_pulling
from pipelines.sources.kinesis.reader import READERS, KinesisReader, Reading
from pipelines.sources.readers import COUNTERS, BlockSource, ReadBlocks


class KinesisSource(BlockSource[KinesisReader]):
    """A stream. It has one reader for all of its shards, so that what came from others by a split or a merge is handed
    on after them, whichever they are."""

    readers = READERS
    counters = COUNTERS | {"throttled": "requests-throttled", "failed": "requests-retried"}

    def __init__(self, reading: Reading):
        self.reading, self.key, self.again = reading, reading.stream, reading.again

    def make_reader(self):
        """It asks nothing yet."""
        return KinesisReader(self.reading)

    def begin_reading(self, reader):
        """Have it ask Kinesis; a second call has no effect."""
        begin_pulling(reader)

    def has_ended(self, reader):
        """Not where it failed: the next block that is asked for raises that."""
        return reader.is_draining() and reader.failure is None


class ReadKinesis(ReadBlocks):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the reading has a landing folder.

    The timestamp of a block is the earliest received time in it.
    """

    def __init__(self, reading: Reading):
        super().__init__(KinesisSource(reading))
