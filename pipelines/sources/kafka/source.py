"""Kafka as raw blocks, on a runner whose workers are on this machine: committed when a bundle is finalized.

    ReadKafka(Reading(...))   PBegin -> PCollection[RAW_SCHEMA block]; LANDED_SCHEMA where blocks land

Delivery   at least once. If a bundle fails or a process dies, its offsets are not committed, and are read again.
Watermark  that of the partition that is behind all others: received times less `expected_delay`, or the clock's where
           a partition is read to its end
End        once `drain_file` exists, the readers hand on nothing more and report the end of time, so that all windows
           close. After a pipeline failed or was cancelled: close_readers().
Metrics    those of readers.py; `lag-messages` and `lag-seconds` say what waits in the topics
"""

from pipelines.sources.kafka.reader import READERS, KafkaReader
from pipelines.sources.kafka.reading import Reading
from pipelines.sources.readers import COUNTERS, BlockSource, ReadBlocks


class KafkaSource(BlockSource[KafkaReader]):
    """Topics, or one of the splits that share their partitions."""

    readers = READERS
    counters = COUNTERS | {"unreadable": "stamps-unreadable"}

    def __init__(self, reading: Reading, split: int | None = None):
        self.reading, self.number = reading, split
        self.key, self.again = f"{reading.id}:{split or 0}", reading.again[split or 0 :: reading.readers]

    def split(self, desired_num_splits, options=None):
        """As many sources as the reading has readers, whatever the runner desires."""
        if self.number is not None:
            return [self]
        return [KafkaSource(self.reading, number) for number in range(self.reading.readers)]

    def make_reader(self):
        """It belongs to the split."""
        return KafkaReader(self.reading, self.number or 0)


class ReadKafka(ReadBlocks):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the reading has a landing folder.

    The timestamp of a block is the earliest received time in it.
    """

    def __init__(self, reading: Reading):
        super().__init__(KafkaSource(reading))
