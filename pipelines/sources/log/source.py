"""A log as raw blocks, on a runner whose workers are on this machine: acknowledged when a bundle is finalized.

    ReadLog(Reading(folder, ...))   PBegin -> PCollection[RAW_SCHEMA block]; LANDED_SCHEMA where blocks land

Delivery   at least once. If a bundle fails or a process dies, its entries are not acknowledged, and are read again.
Watermark  see watermark.py: received times less `expected_delay`; the clock's while the log is read to its end
End        once `drain_file` exists, the reader hands on nothing more and reports the end of time, so that all windows
           close. After a pipeline failed or was cancelled: READERS.close().
Metrics    those of readers.py; `bytes-passed-over` counts wrong frames.
"""

from pipelines.sources.log.reader import READERS, LogReader, Reading
from pipelines.sources.readers import COUNTERS, BlockSource, ReadBlocks


class LogSource(BlockSource[LogReader]):
    """A log. It has one reader, so that its entries are handed on in their order."""

    readers = READERS
    counters = COUNTERS | {"passed_over": "bytes-passed-over"}

    def __init__(self, reading: Reading):
        self.reading, self.key, self.again = reading, reading.folder, reading.again

    def make_reader(self):
        """Errors: SourceError for a position that cannot be read."""
        return LogReader(self.reading)


class ReadLog(ReadBlocks):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the reading has a landing folder.

    A block has one source. Its timestamp is the earliest received time in it.
    """

    def __init__(self, reading: Reading):
        super().__init__(LogSource(reading))
