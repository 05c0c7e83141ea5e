"""Measure appends to the write-ahead log beside one sync for each append, which is the same writer without groups.

    python -m benchmarks.log_append [--seconds N] [--folder DIR]

A number of clients each wait for the answer to an append before they send the next, as a collector's clients do. Each
row of the output is one form: events/s, and how long an append took to be acknowledged. The last column is the rate
beside that of one sync for each append, in the same run on the same disk. The folder decides which disk is measured.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from pipelines.sources.log import writer as log_writer
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogWriter

PAYLOAD = b'{"event_type":"page_view","user_id":"u-1234567","content_id":"c-123","event_time":"2026-03-01T10:00:00Z"}'
MOST_BYTES = 8 << 30


class Form(NamedTuple):
    """Clients that wait at once, and events of an append."""

    clients: int
    events: int


FORMS = (Form(1, 1), Form(64, 1), Form(1, 100), Form(16, 100))


class Rate(NamedTuple):
    """Events/s, and the median and the 99th percentile of the acknowledgements, in ms."""

    events: float
    median: float
    last: float


class Clients:
    """So many appends under way at once, from one thread, until the time is over."""

    def __init__(self, writer: LogWriter, form: Form):
        self.writer, self.form = writer, form
        self.free = threading.Semaphore(form.clients)
        self.took: list[float] = []

    def run(self, seconds: float) -> Rate:
        batch = [Entry(f"m{n}", 1_772_359_200_000_000, "web", PAYLOAD, {}) for n in range(self.form.events)]
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            self.free.acquire()
            self._send(batch)
        for _ in range(self.form.clients):
            self.free.acquire()
        took, elapsed = sorted(self.took), time.perf_counter() - begun
        events = len(took) * self.form.events / elapsed
        return Rate(events, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3)

    def _send(self, batch: list[Entry]) -> None:
        sent = time.perf_counter()

        def answered(future) -> None:
            future.result()
            self.took.append(time.perf_counter() - sent)
            self.free.release()

        self.writer.append(batch).add_done_callback(answered)


def measure(folder: Path, form: Form, group_bytes: int, seconds: float) -> Rate:
    """One form, with groups of up to so many bytes."""
    log_writer.GROUP_BYTES = group_bytes
    with tempfile.TemporaryDirectory(dir=folder) as made:
        writer = LogWriter(Path(made, "log"), most_bytes=MOST_BYTES)
        try:
            return Clients(writer, form).run(seconds)
        finally:
            writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for all forms together")
    parser.add_argument("--folder", type=Path, default=None, help="where the logs are; default: the system's own")
    asked = parser.parse_args()
    each, group_bytes = asked.seconds / (2 * len(FORMS)), log_writer.GROUP_BYTES
    print(f"{'clients':>8}{'events':>8}{'':>20}{'events/s':>12}{'median ms':>11}{'99 % ms':>9}{'ratio':>8}")
    for form in FORMS:
        alone = measure(asked.folder, form, 1, each)
        grouped = measure(asked.folder, form, group_bytes, each)
        for name, rate in (("a sync an append", alone), ("grouped", grouped)):
            print(
                f"{form.clients:>8}{form.events:>8}{name:>20}{rate.events:>12,.0f}{rate.median:>11.2f}"
                f"{rate.last:>9.2f}{rate.events / alone.events:>8.1f}"
            )


if __name__ == "__main__":
    main()
