"""Ask again: Beam's transform that reads an unbounded source, except that a reader says when it is asked again.

    ReadWhenDue(source)        PBegin -> PCollection[element of the source], as Beam's ReadFromUnboundedSource
    ask_again_in(seconds)      what a reader calls before it says, in the same thread, that it has nothing

Beam asks a reader that had nothing again after a fixed time. A bundle for that costs some 5 ms of processor time, so a
queue at rest is asked seldom, and one whose block is due soon is asked then.
"""

import threading

import apache_beam as beam
from apache_beam.io.unbounded_source import ReadFromUnboundedSource, _ReadFromUnboundedSourceDoFn

POLL_SECONDS = 0.2  # where the reader does not say
# A bundle is held until it is finalized, and so is what it read: with Beam's defaults up to 10 s.
MOST_BLOCKS, BUNDLE_SECONDS = 16, 0.5
_next = threading.local()


def ask_again_in(seconds: float) -> None:
    """Have the runner ask the reader of this thread again after so long, since it has nothing now."""
    _next.seconds = seconds


class ReadWhenDue(ReadFromUnboundedSource):
    """PBegin -> PCollection of the source's elements, in bundles of MOST_BLOCKS or BUNDLE_SECONDS."""

    def __init__(self, source):
        super().__init__(source, POLL_SECONDS, MOST_BLOCKS, BUNDLE_SECONDS)

    def expand(self, pbegin):
        read = beam.ParDo(_Read(self._poll_interval, self._max_records_per_bundle, self._max_read_time_seconds))
        elements = pbegin | "Create" >> beam.Create([self._source]) | "ReadUnbounded" >> read
        elements.element_type = self._source.default_output_coder().to_type_hint()
        return elements


class _Read(_ReadFromUnboundedSourceDoFn):
    @property
    def _poll_interval(self) -> float:
        return getattr(_next, "seconds", POLL_SECONDS)

    @_poll_interval.setter
    def _poll_interval(self, seconds: float) -> None:
        """Beam's own is not needed."""
