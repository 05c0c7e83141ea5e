"""A stream that is killed anywhere and goes on from seeds ends as one that never was."""

import importlib.util
import random
import shutil
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.audience import Job, build
from pipelines.bounded import table_of
from pipelines.config import read_config
from pipelines.resume import Stream, resume
from pipelines.simulator import faults, simulate
from pipelines.warehouse import notes
from pipelines.warehouse.appender import Appender
from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.settled import Settled
from pipelines.warehouse.sink import LocalSink
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from transforms.aggregate import Launch, MetricAggregation
from transforms.block import BlockCoder
from transforms.lateness import allowed_lateness

_spec = importlib.util.spec_from_file_location(
    "parity_runs", Path(__file__).parents[1] / "parity" / "runs.py"
)  # tests are imported without packages
runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(runs)

METRICS = ("activity_1m", "content_1h", "campaign_1h", "user_days")
FAULTS = faults(repeats=0.15, conflicts=0.0, late=0.05, too_late=0.02, malformed=0.05, fast_clock=0.03, future=0.02)
LATENESS = allowed_lateness(timedelta(days=1))
EVENT = "SELECT * EXCLUDE (received_time) FROM events"  # of a repeat, arrival decides which delivery is kept
BOOKS = "SELECT source, bucket_start, received, quarantined, events + duplicates AS settled FROM quality_1m_current"


def simulated(folder: Path, events: int, seed: int) -> list[bytes]:
    path = folder / "events.jsonl"
    simulate(events=events, seed=seed, output=path, days=2, start=date(2026, 3, 1), faults=FAULTS)
    return path.read_bytes().split(b"\n")[:-1]


def polls_of(lines: list[bytes], rand: random.Random) -> list[list]:
    """The messages in order of receipt, in polls of any size, shuffled within. They are received in bursts of a minute
    every two hours, so that a cut falls into a minute and not between two."""
    numbered = [each._replace(received=_burst(each)) for each in runs.messages(lines)]
    numbered.sort(key=lambda message: message.received)
    polls = []
    while numbered:
        size = rand.randint(1, 60)
        poll, numbered = numbered[:size], numbered[size:]
        rand.shuffle(poll)
        polls.append(poll)
    return polls


def _burst(message) -> float:
    return message.received // 7200 * 7200 + 7200 + message.number % 60


def stream_of(polls: list[list], rand: random.Random) -> beam.PTransform:
    stream, mark = TestStream(coder=BlockCoder()), 0.0
    for poll in polls:
        earliest = min(message.received for message in poll)
        stream = stream.add_elements([TimestampedValue(runs.raw_block(poll), earliest)])
        stream = stream.advance_processing_time(rand.choice([1, 15, 70]))
        if rand.random() < 0.4 and earliest > mark:
            mark = earliest
            stream = stream.advance_watermark_to(mark)
    return stream.advance_processing_time(7200).advance_watermark_to_infinity().with_output_types(pl.DataFrame)


class Life:
    """One warehouse, and the launches of a stream into it."""

    def __init__(self, folder: Path, rand: random.Random):
        self.folder, self.rand, self.launches = folder, rand, 0
        self.warehouse = LocalWarehouse.open(folder, create=True)
        self.landed: list = []

    def launch(self, polls: list[list], killed_at: float | None = None) -> None:
        """A launch that polls; `killed_at` is the share of what it notes that is there when it is killed."""
        self.launches += 1
        specs, _ = read_config(None)
        tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, *map(table_of, specs))}
        metrics = tuple(MetricAggregation(spec, "UTC") for spec in specs)
        with self.warehouse.writer() as run:
            run.declare(tables.values())
            launch = Launch(self.launches, "test")
            undone = Settled(self.warehouse, "f").undone(self.counts())
            self.resumed = resume(run, Stream("f", launch, metrics, LATENESS), undone, now=0.0)
            self.after_resume()
            again = [message for message in self.landed if minute(message) in undone]
            self.landed += [message for poll in polls for message in poll]
            job = Job(
                source=stream_of([again, *polls] if again else polls, self.rand),
                sink=LocalSink(str(run.staging), tables, "UTC", streaming=True),
                input="f",
                launch=launch,
                metrics=metrics,
                streaming=True,
                clock=float,
                seeds=self.resumed.seeds,
            )
            appender = Appender(run)
            with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as pipeline:
                build(pipeline, job)
            if killed_at is not None:
                noted = sorted(notes.paths(run.staging), key=lambda path: path.stat().st_mtime_ns)
                for path in noted[round(killed_at * len(noted)) :]:
                    path.unlink()
            appender.stop()
            shutil.rmtree(run.staging)

    def counts(self) -> dict[datetime, int]:
        return dict(Counter(map(minute, self.landed)))

    def after_resume(self) -> None:
        """After it the metrics tell of the stored events, no more and no less."""
        if self.warehouse.rows_by_day("events"):
            for metric, stored in recomputed(self.warehouse).items():
                now = rows_of(self.warehouse, f"{metric}_current")
                assert now.equals(stored.select(now.columns)), f"{metric}: {now.height} rows, {stored.height} stored"


def recomputed(warehouse: LocalWarehouse) -> dict[str, pl.DataFrame]:
    """What a recompute of the stored events would say, by the metrics' own functions over all of them at once."""
    specs, _ = read_config(None)
    events = warehouse.scan("events").collect()
    metrics = [MetricAggregation(spec, "UTC") for spec in specs]
    return {what.name: ordered(what.finish(what.merge([what.partial(events)]))) for what in metrics}


def rows_of(warehouse: LocalWarehouse, view: str) -> pl.DataFrame:
    return ordered(runs.rows(warehouse, f"SELECT * FROM {view}"))


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.select(name for name, dtype in rows.schema.items() if dtype != pl.Binary)
    return rows.sort([name for name, dtype in rows.schema.items() if not dtype.is_nested()])


def minute(message) -> datetime:
    return runs.utc(message.received // 60 * 60)


def assert_same(one, other, sql: str) -> None:
    first, second = runs.rows(one, sql), runs.rows(other, sql)
    assert first.height > 0
    assert first.equals(second), f"{sql}: {first.height} rows, {second.height} rows"


def test_a_kill_amid_a_minute_takes_its_rows_out_and_mends_what_was_not_shown(tmp_path):
    rand = random.Random(1)
    polls = polls_of(simulated(tmp_path, 150, 1), rand)
    life = Life(tmp_path / "w", rand)
    life.launch(polls[: len(polls) // 2], killed_at=0.6)
    undone = Settled(life.warehouse, "f").undone(life.counts())
    assert 0 < len(undone) < len(life.counts())
    life.launch(polls[len(polls) // 2 :])
    print(life.resumed)
    assert life.resumed.taken.keys() == {"events", "quarantine", "quality_1m"}
    assert life.resumed.written.keys() == set(METRICS)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=2),
    seed=st.integers(0, 99),
)
def test_killed_anywhere_and_gone_on_with_seeds_nothing_differs_from_a_stream_without_a_cut(
    tmp_path_factory, cuts, seed
):
    folder = tmp_path_factory.mktemp("cut")
    lines = simulated(folder, 150, seed % 5)
    rand = random.Random(seed)
    polls = polls_of(lines, rand)
    whole = Life(folder / "whole", rand)
    whole.launch(polls)
    cut = Life(folder / "cut", rand)
    rest = polls
    for at, killed_at in cuts:
        upto = round(at * len(rest))
        cut.launch(rest[:upto], killed_at)
        rest = rest[upto:]
    cut.launch(rest)
    assert_same(whole.warehouse, cut.warehouse, EVENT)
    assert_same(whole.warehouse, cut.warehouse, "SELECT * FROM quarantine")
    for metric in METRICS:
        assert_same(whole.warehouse, cut.warehouse, f"SELECT * FROM {metric}_current")
    assert_same(whole.warehouse, cut.warehouse, BOOKS)
    totals = "SELECT sum(received), sum(events), sum(duplicates), sum(conflicts), sum(balance) FROM quality_1m_current"
    assert_same(whole.warehouse, cut.warehouse, totals)
    assert Settled(cut.warehouse, "f").undone(cut.counts()) == set()
