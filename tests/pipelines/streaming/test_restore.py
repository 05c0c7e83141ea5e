"""A stream that is killed anywhere and goes on from seeds ends as one that never was."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.audience import Job, build
from pipelines.settings.config import read_config
from pipelines.streaming.recovery.restore import Stream, resume
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.local import notes
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS
from tests.parity import runs
from tests.support.rows import asked
from transforms.block import EVENT_SCHEMA, TIME, BlockCoder
from transforms.lateness import allowed_lateness
from transforms.metrics.aggregations import MetricAggregation
from transforms.publication import Launch
from transforms.quality import COUNTS

METRICS = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")
FAULTS = faults(repeats=0.15, conflicts=0.0, late=0.05, too_late=0.02, malformed=0.05, fast_clock=0.03, future=0.02)
LATENESS = allowed_lateness(timedelta(days=1))
EVENT = "SELECT * EXCLUDE (received_time) FROM events"  # of a repeat, arrival decides which delivery is kept
BOOKS = "SELECT source, bucket_start, received, quarantined, events + duplicates AS settled FROM quality_1m_current"


def simulated(folder: Path, events: int, seed: int) -> list[bytes]:
    path = folder / "events.jsonl"
    simulate(events=events, seed=seed, output=path, days=2, start=date(2026, 3, 1), faults=FAULTS)
    return path.read_bytes().split(b"\n")[:-1]


def polls_of(lines: list[bytes], rand: random.Random, again: float = 0.0) -> list[list]:
    """The messages in order of receipt, in polls of any size, shuffled within. They are received in bursts of a minute
    every two hours, so that a cut falls into a minute and not between two. The queue delivers this share of them again.
    """
    numbered = [each._replace(received=_burst(each)) for each in runs.messages(lines)]
    numbered += rand.sample(numbered, round(again * len(numbered)))
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
        specs = read_config(None).metrics
        tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, *map(table_of, specs))}
        metrics = tuple(MetricAggregation(spec, "UTC") for spec in specs)
        with self.warehouse.writer() as run:
            run.declare(tables.values())
            launch = Launch(self.launches, "test")
            undone = self.undone()
            self.resumed = resume(run, Stream("f", launch, metrics, LATENESS), undone, now=0.0)
            self.after_resume()
            again = [message for message in self.landed if minute(message) in set(undone["bucket_start"])]
            self.landed += [message for poll in polls for message in poll]
            job = Job(
                source=stream_of([again, *polls] if again else polls, self.rand),
                sink=FileSink(str(run.staging), tables, "UTC", note=notes.note_files),
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
                # Of sessions most are noted when the stream ends: they would move the moment to its end.
                others = [path for path in noted if path.parent.name != SESSIONS.name]
                gone = others[round(killed_at * len(others)) :]
                for path in noted[noted.index(gone[0]) :] if gone else ():
                    path.unlink()
            appender.stop()
            shutil.rmtree(run.staging)

    def undone(self) -> pl.DataFrame:
        """The minutes in which more landed than the audit counts have, or that do not balance."""
        counted = Counter(map(minute, self.landed))
        landed = pl.DataFrame({"bucket_start": counted.keys(), "landed": counted.values()}).with_columns(
            pl.lit("f").alias("input"), pl.col("bucket_start").cast(TIME), pl.col("landed").cast(pl.Int64)
        )
        settled = SettledMinutes(self.warehouse, ["f"]).received().rename({"received": "landed"})
        return landed.join(settled, on=landed.columns, how="anti").select("input", "bucket_start")

    def after_resume(self) -> None:
        """After it the metrics tell of the stored events, no more and no less."""
        if self.warehouse.rows_by_day("events"):
            for metric, stored in recomputed(self.warehouse).items():
                now = rows_of(self.warehouse, f"{metric}_current")
                assert now.equals(stored.select(now.columns)), f"{metric}: {now.height} rows, {stored.height} stored"


def recomputed(warehouse: LocalWarehouse, zone: str = "UTC") -> dict[str, pl.DataFrame]:
    """What a recompute of the stored events would say, by the metrics' own functions over all of them at once."""
    specs = read_config(None).metrics
    events = warehouse.scan("events").collect()
    metrics = [MetricAggregation(spec, zone) for spec in specs]
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
    assert 0 < life.undone().height < len({minute(message) for message in life.landed})
    life.launch(polls[len(polls) // 2 :])
    assert life.resumed.taken.keys() == {"events", "quarantine", "quality_1m"}
    assert life.resumed.written.keys() == set(METRICS)


def put(warehouse, rows: pl.DataFrame, zone: str = "UTC") -> None:
    with warehouse.writer() as run:
        specs = read_config(None).metrics
        run.declare(map(table_of, specs))
        days = by_day(shaped(rows, EVENTS), "event_time", zone)
        run.commit([write_file(run.staging, "events", day, part) for day, part in days])


def clicks(*times: datetime, **stated) -> pl.DataFrame:
    rows = [
        {"event_id": f"{at:%d%H%M}", "source": "s", "input": "f", "event_type": "click", "user_id": "u"}
        | {"event_time": at, "received_time": at, "client_time": at}
        | stated
        for at in times
    ]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA)


def resumed(warehouse, now: datetime, undone: pl.DataFrame | None = None, check=lambda folder: None, lateness=LATENESS):
    specs = read_config(None).metrics
    with warehouse.writer() as run:
        stream = Stream("f", Launch(2, "t"), [MetricAggregation(spec, warehouse.time_zone) for spec in specs], lateness)
        none = pl.DataFrame(schema={"input": pl.String, "bucket_start": TIME})
        done = resume(run, stream, none if undone is None else undone, now.timestamp())
        check(Path(done.seeds))
    return done


def test_windows_that_have_closed_have_no_seeds_and_their_rows_are_not_looked_at(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", create=True)
    now = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)
    closed, opened = now - LATENESS - timedelta(minutes=1), now - LATENESS + timedelta(minutes=1)
    put(warehouse, clicks(closed - timedelta(days=1), closed, opened, now))
    names = {}

    def look(folder):
        for step in ("seen", "published/activity_1m", "published/user_days", "published/content_1h"):
            names[step] = sorted(int(path.name.partition("-")[0]) for path in (folder / step).iterdir())

    done = resumed(warehouse, now, check=look)
    seconds = [int(at.timestamp()) for at in (opened, now)]
    assert names["published/activity_1m"] == [at // 60 for at in seconds]
    assert names["seen"] == [at // 86_400 for at in seconds], "the day of what is a minute too old is open still"
    assert names["published/user_days"] == [at // 86_400 for at in seconds]
    assert (done.written["activity_1m"], done.written["user_days"]) == (2, 2)
    days = "SELECT bucket_start, events FROM user_days_current ORDER BY 1"
    midnight = opened.replace(hour=0, minute=0, second=0)
    [first, last] = asked(warehouse, days).rows()
    assert first == (midnight, 2), "also the event that is a minute too old: its day is open"
    assert last == (now.replace(hour=0, minute=0, second=0), 1)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles", "Asia/Kolkata"])
@pytest.mark.parametrize("hour", [0, 12, 19])
def test_days_of_any_time_zone_are_told_whole_and_rows_of_no_event_go(tmp_path, zone, hour):
    """The clocks of Auckland and Los Angeles change within these days."""
    warehouse = LocalWarehouse.open(tmp_path / "w", time_zone=zone, create=True)
    first = datetime(2026, 3, 5, 0, 30, tzinfo=UTC) if zone.startswith("America") else datetime(2026, 4, 2, tzinfo=UTC)
    times = [first + n * timedelta(hours=3) for n in range(48)]
    put(warehouse, clicks(*times), zone)
    now, lateness = first + timedelta(days=5, hours=hour, minutes=1), timedelta(days=2)
    resumed(warehouse, now, lateness=lateness)
    told = rows_of(warehouse, "user_days_current")
    stored = recomputed(warehouse, zone)["user_days"]
    assert told.equals(stored.filter(pl.col("bucket_start").is_in(told["bucket_start"].implode())).select(told.columns))
    assert set(stored.filter(pl.col("bucket_end") > now - lateness)["bucket_start"]) <= set(told["bucket_start"])
    assert told.height < stored.height
    at = times[::-2]
    undone = pl.DataFrame({"bucket_start": at, "input": ["f"] * len(at)}).with_columns(
        pl.col("bucket_start").cast(TIME)
    )
    resumed(warehouse, now, undone, lateness=lateness)
    left = rows_of(warehouse, "user_days_current")
    assert left.equals(recomputed(warehouse, zone)["user_days"].select(left.columns)), "days of minutes read again"


def test_what_happened_while_windows_were_open_is_mended_even_if_they_closed_while_nothing_ran(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", create=True)
    then = datetime(2026, 3, 1, 12, tzinfo=UTC)
    put(warehouse, clicks(then))
    told = {"source": "s", "input": "f", "bucket_start": then, "bucket_end": then, "emitted_time": then}
    put_books(warehouse, pl.DataFrame([told | dict.fromkeys(COUNTS, 0) | {"generation": 1, "revision": 1}]))
    assert resumed(warehouse, then + timedelta(days=30)).written["activity_1m"] == 1
    assert resumed(warehouse, then + timedelta(days=30)).written == {}, "a second time there is nothing to fix"


def put_books(warehouse, rows: pl.DataFrame) -> None:
    with warehouse.writer() as run:
        rows = rows.with_columns(firing=pl.lit("early"), pipeline_version=pl.lit("t"))
        run.commit([write_file(run.staging, "quality_1m", date(2026, 3, 1), shaped(rows, QUALITY_1M))])


def test_only_files_that_hold_rows_of_the_minutes_are_written_anew_and_other_inputs_stay(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", create=True)
    at = [datetime(2026, 3, 1, 12, n, tzinfo=UTC) for n in range(4)]
    put(warehouse, clicks(at[0], at[1]))
    put(warehouse, clicks(at[2], at[3], input="f@1"))
    put(warehouse, clicks(at[3], input="other"))
    before = set(warehouse.files("events"))
    undone = pl.DataFrame({"input": ["f@1"], "bucket_start": at[3:]}, schema={"input": pl.String, "bucket_start": TIME})
    assert resumed(warehouse, at[3], undone).taken == {"events": 1}
    left = warehouse.scan("events").select("input", "event_time").collect().sort("input", "event_time").rows()
    assert left == [("f", at[0]), ("f", at[1]), ("f@1", at[2]), ("other", at[3])]
    assert len(before & set(warehouse.files("events"))) == 2


@pytest.fixture(scope="module")
def without_a_cut(tmp_path_factory) -> Callable[[int], tuple[list[list], Life]]:
    """(polls, what a stream without a cut makes of them) by a number; the stream runs once."""

    @cache
    def run(number: int) -> tuple[list[list], Life]:
        folder, rand = tmp_path_factory.mktemp("whole"), random.Random(number)
        polls = polls_of(simulated(folder, 150, number), rand, again=0.3)
        life = Life(folder / "whole", rand)
        life.launch(polls)
        return polls, life

    return run


# Without shrinking: each example is some runs of the whole graph.
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(
    cuts=[(0.5, 1.0)], seed=1, stream=1
)  # nothing is lost: the minute that is cut goes on from books that are stored
@given(
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=2),
    seed=st.integers(0, 99),
    stream=st.integers(0, 1),
)
def test_killed_anywhere_and_gone_on_with_seeds_nothing_differs_from_a_stream_without_a_cut(
    tmp_path_factory, without_a_cut, cuts, seed, stream
):
    rest, whole = without_a_cut(stream)
    cut = Life(tmp_path_factory.mktemp("cut"), random.Random(seed))
    for at, killed_at in cuts:
        upto = round(at * len(rest))
        cut.launch(rest[:upto], killed_at)
        rest = rest[upto:]
    cut.launch(rest)
    assert_same(whole.warehouse, cut.warehouse, EVENT)
    assert_same(whole.warehouse, cut.warehouse, "SELECT * FROM quarantine")
    [twice] = cut.warehouse.ask("SELECT quarantine_id FROM quarantine GROUP BY quarantine_id HAVING COUNT(*) > 1")
    assert twice.is_empty()
    for metric in METRICS:
        assert_same(whole.warehouse, cut.warehouse, f"SELECT * FROM {metric}_current")
    assert_same(whole.warehouse, cut.warehouse, BOOKS)
    totals = "SELECT sum(received), sum(events), sum(duplicates), sum(conflicts), sum(balance) FROM quality_1m_current"
    assert_same(whole.warehouse, cut.warehouse, totals)
    assert cut.undone().is_empty()
