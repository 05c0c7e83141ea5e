"""Metrics of the collector in the text format of Prometheus (version 0.0.4), and what it reports on the terminal.

No label and no line holds what a client sent.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
PREFIX = "audience_collector"


class Reports:
    """Says each line once: a client that causes an error again and again must not fill the terminal."""

    MOST = 100

    def __init__(self, say: Callable[[str], None]):
        self._say, self._said = say, set[str]()

    def __call__(self, line: str) -> None:
        if line not in self._said and len(self._said) < self.MOST:
            self._said.add(line)
            self._say(line)


class Metrics:
    """Counts of a process since it started.

    requests  by (dialect, status)
    events    by (dialect, verdict): accepted, duplicate, rejected, dropped
    consent   by (dialect, outcome): given, anonymous, dropped; of a collector that asks for consent
    errors    by kind, of the collector itself
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self.consent: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.bytes_sent = 0  # of bodies, as sent
        self.bytes_logged = 0  # of payloads
        self._acks = [0] * (len(ACK_SECONDS) + 1)
        self._ack_sum = 0.0

    def acknowledged(self, seconds: float) -> None:
        """Count the time from a complete body to its entries being durable."""
        self._acks[bisect_left(ACK_SECONDS, seconds)] += 1
        self._ack_sum += seconds

    def text(self, gauges: dict[str, float]) -> str:
        """Return all of them, and `gauges`: name without prefix -> value now."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: dict[str, float]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests by dialect and status.")
        for (dialect, status), count in sorted(self.requests.items()):
            yield f'{PREFIX}_requests_total{{dialect="{dialect}",status="{status}"}} {count}'
        yield from _head("events_total", "counter", "Events by dialect and verdict.")
        for (dialect, verdict), count in sorted(self.events.items()):
            yield f'{PREFIX}_events_total{{dialect="{dialect}",verdict="{verdict}"}} {count}'
        yield from _head("consent_total", "counter", "Events by dialect and what their consent made of them.")
        for (dialect, outcome), count in sorted(self.consent.items()):
            yield f'{PREFIX}_consent_total{{dialect="{dialect}",outcome="{outcome}"}} {count}'
        yield from _head("errors_total", "counter", "Errors of the collector itself by kind.")
        for kind, count in sorted(self.errors.items()):
            yield f'{PREFIX}_errors_total{{kind="{kind}"}} {count}'
        for name, what, value in (
            ("received_bytes_total", "Bytes of bodies as sent.", self.bytes_sent),
            ("logged_bytes_total", "Bytes of payloads in the log.", self.bytes_logged),
        ):
            yield from _head(name, "counter", what)
            yield f"{PREFIX}_{name} {value}"
        yield from self._histogram()
        for name, now in gauges.items():
            yield from _head(name, "gauge", f"{name.replace('_', ' ').capitalize()} now.")
            yield f"{PREFIX}_{name} {now:g}" if now != int(now) else f"{PREFIX}_{name} {int(now)}"

    def _histogram(self) -> Iterator[str]:
        yield from _head("ack_seconds", "histogram", "Seconds from a complete body to durable entries.")
        total = 0
        for bound, count in zip((*ACK_SECONDS, "+Inf"), self._acks, strict=True):
            total += count
            yield f'{PREFIX}_ack_seconds_bucket{{le="{bound}"}} {total}'
        yield f"{PREFIX}_ack_seconds_sum {self._ack_sum:.6f}"
        yield f"{PREFIX}_ack_seconds_count {total}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {what}"
    yield f"# TYPE {PREFIX}_{name} {kind}"
