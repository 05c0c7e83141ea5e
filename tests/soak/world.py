"""A collector that is killed again and again while official clients send to it, a stream into a warehouse, and what is
found there at the end.

    clients -> recorder (writes down) -> collector (killed, its disk full, its clock set back) -> log -> stream (killed)
            -> warehouse                                            with a topic: log -> gate -> emulator -> stream
"""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sources.pubsub.client import EMULATOR
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.same import UNBALANCED
from tests.integration.streams import A_QUERY, EVENTS, LONG, drained, is_settled
from tests.servers.collector import Collecting, collecting, free_port
from tests.servers.needed import PATIENCE
from tests.servers.pubsub import Queue
from tests.servers.stream import Stream, ask, streaming
from tests.soak.clients import CANARIES, EMAIL, TOKEN
from tests.soak.faults import Gate, full_disk
from tests.soak.recorder import Key, Recorder, recording

ROOT = Path(__file__).parents[2]
TRACKER = "node_modules/@plausible-analytics/tracker/plausible.js"
MAPPINGS = ("segment", "posthog", "snowplow", "cloudevents", "plausible")
CLOCKS = (0.0, 0.0, -60.0, -3_600.0)  # seconds by which the collector's clock is set back, drawn for each of its lives
SOURCES = {name: name for name in MAPPINGS} | {"rudderstack": "segment", "posthog-v1": "posthog", "native": "events"}
DRAIN_SECONDS = 240.0 * PATIENCE
PRESENT = """
SELECT source, CASE source WHEN 'cloudevents' THEN json_extract_string(properties, '$.id')
    WHEN 'plausible' THEN ltrim(content_id, '/') || ' ' || json_extract_string(properties, '$.n')
    ELSE event_id END AS id, count(*) AS n
FROM events GROUP BY ALL
"""
METRICS_DIFFER = """
SELECT count(*) FROM
    (SELECT coalesce(channel, '') AS c, event_type AS t, sum(events) AS n FROM activity_1m_current GROUP BY ALL) AS m
    FULL JOIN (SELECT coalesce(channel, '') AS c, event_type AS t, count(*) AS n FROM events GROUP BY ALL) AS e
    USING (c, t)
WHERE m.n IS DISTINCT FROM e.n
"""
COUNTS = """
SELECT coalesce(sum(received), 0)::BIGINT AS received, coalesce(sum(events), 0)::BIGINT AS events,
    coalesce(sum(duplicates), 0)::BIGINT AS duplicates, coalesce(sum(conflicts), 0)::BIGINT AS conflicts,
    coalesce(sum(quarantined), 0)::BIGINT AS quarantined
FROM quality_1m_current
"""


@dataclass
class Plan:
    """What a run does. Seconds that a life of the collector takes are drawn from `lives`."""

    seconds: float
    seed: int
    clients: Sequence[str]
    lives: tuple[float, float] = (1.0, 8.0)
    stream_every: int = 12  # lives of the collector, after which the stream is killed; 0: never
    browser: bool = False
    node: Path | None = None
    disk: Path | None = None  # a small disk for the log
    topic_down: float = 0.0  # seconds, where there is a topic


@dataclass
class Findings:
    """missing: acknowledged, and no event; twice: events above one; unknown: events that nobody sent."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    sent_again: int = 0
    missing: list[Key] = field(default_factory=list)
    twice: list[Key] = field(default_factory=list)
    unknown: list[Key] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    unbalanced: int = -1
    metrics_differ: int = -1
    canaries: list[str] = field(default_factory=list)
    clients_failed: int = 0

    def lines(self) -> list[str]:
        """The figures, one a line."""
        return [
            f"killed: {dict(self.kills)}; faults: {dict(self.faults)}",
            f"answers by status (0: none): {dict(sorted(self.statuses.items()))}",
            f"different events sent: {dict(self.sent)}; sent more than once: {self.sent_again:,}",
            f"acknowledged: {dict(self.acknowledged)}, in all {self.acknowledged.total():,}",
            f"acknowledged and missing: {len(self.missing)}; twice: {len(self.twice)}; unknown: {len(self.unknown)}",
            f"audit counts: {self.counts}; minutes out of balance: {self.unbalanced}",
            f"channels and event types whose metric is not the number of events: {self.metrics_differ}",
            f"canaries in logs, metrics and errors: {len(self.canaries)}",
        ]


class World:
    """One run."""

    def __init__(self, folder: Path, prism: str, plan: Plan, queue: Queue | None = None, gate: Gate | None = None):
        self.folder, self.prism, self.plan = folder, prism, plan
        self.queue, self.gate = queue, gate
        self.random, self.found = random.Random(plan.seed), Findings()
        self.log = (plan.disk or folder) / "log"
        self.port = free_port()
        self._pause = threading.Event()

    def run(self) -> Findings:
        """Run it, and return what was found."""
        with recording(self.port) as recorder, ExitStack() as ends:
            stream = ends.enter_context(self._streaming())
            with self._collecting() as first, self._clients(recorder) as clients:
                first.process.kill()
                end, lives, seen = time.monotonic() + self.plan.seconds, 0, 0
                while time.monotonic() < end or not self._has_run(recorder):
                    self._live()
                    lives += 1
                    if not self.plan.stream_every or lives < self.plan.stream_every:
                        continue
                    if (now := ask(stream.warehouse, EVENTS) or 0) > seen:  # else it has not got going yet
                        ends.close()  # kills it
                        self.found.kills["stream"] += 1
                        stream, lives, seen = ends.enter_context(self._streaming()), 0, now
                with self._collecting() as last:
                    for process in clients:
                        process.stdin.close()
                    for process in clients:
                        self.found.clients_failed += process.wait(DRAIN_SECONDS) != 0
                    self._look_for_canaries(last)
                    if self.queue is not None:
                        self._until_published(last)
                    assert last.end() == 0, last.said()
            self._finish(stream, recorder)
        return self.found

    def _has_run(self, recorder: Recorder) -> bool:
        """Whether each source has had an answer, and enough was killed, however slow the machine is."""
        if self.plan.topic_down:  # it is to come
            return False
        enough = self.found.kills["collector"] >= 3 and self.found.kills["stream"] >= bool(self.plan.stream_every)
        wanted = {SOURCES[name] for name in self.plan.clients} | ({"plausible"} if self._tracker() else set())
        return enough and set(by_source(recorder.acknowledged)) >= wanted

    def _live(self) -> None:
        """One life of the collector, to the kill."""
        clock, fault = self.random.choice(CLOCKS), self.random.choice(("", "", "disk"))
        if self.plan.topic_down and self.found.kills["collector"] >= 1:
            fault = "topic"
        self.found.faults["clock set back"] += clock < 0
        with self._collecting(clock) as one:
            if fault == "disk":
                self.found.faults["disk full"] += 1
                self._wait(0.5)
                with full_disk(one.process.pid, self.plan.disk):
                    self._wait(self.random.uniform(0.5, 3.0))
            if fault == "topic" and self.gate is not None:
                self.found.faults["topic down"] += 1
                self.gate.shut()
                self._wait(self.plan.topic_down)
                self.plan.topic_down = 0.0
                self.gate.open()
            self._wait(self.random.uniform(*self.plan.lives))
            one.process.kill()
            self.found.kills["collector"] += 1

    def _wait(self, seconds: float) -> None:
        self._pause.wait(seconds)

    def _streaming(self) -> Any:
        options = [word for name in MAPPINGS for word in ("--mapping", str(ROOT / f"templates/mappings/{name}.yaml"))]
        if self.queue is not None:
            told = ("--timestamp_attribute", "received_time", "--source_attribute", "source")
            return streaming(self.queue, self.prism, self.folder, *told, *options)
        return streaming(self.log, self.prism, self.folder, *options)

    def _collecting(self, clock: float = 0.0) -> Any:
        topic = ["--topic", self.queue.topic] if self.queue is not None else []
        environment = {EMULATOR: f"127.0.0.1:{self.gate.port}"} if self.gate is not None else {}
        options = ["--allow_origins", "*", *topic]
        return collecting(self.log.parent, *options, port=self.port, clock=clock, environment=environment)

    @contextmanager
    def _clients(self, recorder: Recorder) -> Iterator[list[subprocess.Popen]]:
        address = recorder.address
        commands = [[sys.executable, "-m", "tests.soak.clients", address, *self.plan.clients]]
        if self.plan.browser:
            commands.append([sys.executable, "-m", "tests.soak.browser", address, *self._tracker()])
        if self.plan.node is not None:
            commands.append(["node", str(self.plan.node / "segment.js"), address, TOKEN, EMAIL])
        with open(self.folder / "clients.txt", "ab") as said:
            running = [
                subprocess.Popen(each, cwd=ROOT, stdin=subprocess.PIPE, stdout=said, stderr=said) for each in commands
            ]
        try:
            yield running
        finally:
            for process in running:
                process.kill()
                process.wait()

    def _tracker(self) -> list[str]:
        """The file of Plausible's tracker, which a browser opens."""
        return [str(self.plan.node / TRACKER)] if self.plan.browser and self.plan.node is not None else []

    def _look_for_canaries(self, collector: Collecting) -> None:
        shown = collector.said() + collector.ask("/metrics").body.decode()
        shown += collector.ask(body=CANARIES[0].encode()).body.decode()  # an error
        self.found.canaries = [each for each in CANARIES if each in shown]

    def _until_published(self, collector: Collecting) -> None:
        before, end = -1.0, time.monotonic() + DRAIN_SECONDS
        while (now := collector.metrics()["audience_collector_forwarded_events"]) != before:
            assert time.monotonic() < end, "the log is still being published"
            before = now
            self._wait(2.0)

    def _finish(self, stream: Stream, recorder: Recorder) -> None:
        """Wait until what was acknowledged is there, or the time for it is over; end the stream, and compare."""
        found, end = self.found, time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < end and (self._missing(recorder) or not is_settled(stream)):
            self._wait(A_QUERY)
        stream.until(lambda: ask(stream.warehouse, UNBALANCED) == 0, LONG, "balance", A_QUERY)
        drained(stream)
        asked = LocalWarehouse.open(stream.warehouse).connect()
        present = {(source, id): n for source, id, n in asked.execute(PRESENT).fetchall()}
        found.counts = asked.sql(COUNTS).pl().row(0, named=True)
        found.missing = self._missing(recorder)
        found.twice = [key for key, n in present.items() if n > 1]
        found.unknown = sorted(present.keys() - recorder.sent.keys())
        found.unbalanced, found.metrics_differ = (
            ask(stream.warehouse, UNBALANCED),
            ask(stream.warehouse, METRICS_DIFFER),
        )
        found.sent, found.acknowledged = by_source(recorder.sent), by_source(recorder.acknowledged)
        found.sent_again, found.statuses = sum(n > 1 for n in recorder.sent.values()), recorder.statuses
        assert "Traceback" not in stream.said(), stream.said()

    def _missing(self, recorder: Recorder) -> list[Key]:
        asked = LocalWarehouse.open(self.folder / "warehouse").connect()
        present = {(source, id) for source, id, _ in asked.execute(PRESENT).fetchall()}
        return sorted(recorder.acknowledged.keys() - present)


def by_source(keys: Counter[Key]) -> Counter[str]:
    """How many different events there are of each source."""
    return Counter(source for source, _ in keys)


def assert_nothing_lost(found: Findings) -> None:
    """What has to hold at the end of each run."""
    said = "\n".join(found.lines())
    assert (found.missing[:5], found.twice[:5], found.unknown[:5], found.canaries) == ([], [], [], []), said
    assert (found.unbalanced, found.metrics_differ, found.clients_failed) == (0, 0, 0), said
    counts = found.counts
    # One body was no event: that which looked for canaries.
    assert counts["received"] == sum(counts[name] for name in ("events", "duplicates", "conflicts", "quarantined")), (
        said
    )
    assert counts["events"] >= found.acknowledged.total() > 0 and counts["quarantined"] <= 2, said


__all__ = ["EMULATOR", "Findings", "Plan", "World", "assert_nothing_lost"]
