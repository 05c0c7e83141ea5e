"""The Pub/Sub reader in whole pipelines, on the runners that have it: from the emulator to its acknowledgement."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration

from pipelines.runners.choose import prism_at
from pipelines.sources.landing import Landing, read_landed
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.beam_reader import ReadPubSubThroughBeam
from pipelines.sources.pubsub.source import LandAt, Reading, ReadPubSub, close_all
from tests.servers.needed import LIMIT, wait_until
from transforms.block import BlockCoder
from transforms.by_source import cut_by_source

SEEN: dict[str, list] = {}  # of pipelines whose worker is this process
ROOT = Path(__file__).parents[4]


class See(beam.DoFn):
    """Keeps (element, timestamp, whether the queue knows of it) under a name, and passes on."""

    def __init__(self, name: str):
        self.name = name

    def process(self, element, timestamp=beam.DoFn.TimestampParam):
        SEEN.setdefault(self.name, []).append((element, float(timestamp), pubsub_leases.snapshot().acked))
        yield element


class Running:
    """A pipeline under way. The in-process runner's `run` blocks, and Prism's may be called in the main thread only."""

    def __init__(self, pipeline: beam.Pipeline):
        self.pipeline, self.result, self.error = pipeline, None, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        if "Prism" in pipeline.options.get_all_options()["runner"]:
            self.result = pipeline.run()
        else:
            self.thread.start()

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except Exception as error:
            self.error = error

    def wait(self) -> None:
        """Wait for its end."""
        if self.result is not None:
            assert self.result.wait_until_finish(60_000) == "DONE"
            return
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "it did not end"
        assert self.error is None


def rows(name: str) -> list[int]:
    return sorted(int(payload) for block, _, _ in SEEN.get(name, []) for payload in block["payload"])


def options(*flags: str) -> PipelineOptions:
    return PipelineOptions(["--streaming", *flags])


@pytest.fixture
def on_prism(prism, tmp_path) -> Iterator[PipelineOptions]:
    """The options of a Prism."""
    with prism_at(prism, tmp_path / "prism.log") as (endpoint, _):
        yield options("--runner=PrismRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK")


@pytest.fixture(params=["FnApiRunner", "PrismRunner"])
def runner(request) -> PipelineOptions:
    """The options of a runner."""
    if request.param == "PrismRunner":
        return request.getfixturevalue("on_prism")
    return options("--runner=FnApiRunner")


@pytest.mark.filterwarnings("ignore")  # Beam's own, of its subprocesses and sockets
def test_a_stream_is_read_acknowledged_and_drained(queue, runner, tmp_path, request):
    name, drain, before = request.node.name, tmp_path / "drain", pubsub_leases.snapshot().acked
    reading = Reading(
        queue.subscription, block_rows=200, drain_file=str(drain), landing=LandAt(str(tmp_path / "land"), "in", "run")
    )
    pipeline = beam.Pipeline(options=runner)
    blocks = pipeline | "Read" >> ReadPubSub(reading) | "See" >> beam.ParDo(See(name)).with_output_types(pl.DataFrame)
    windowed = (
        blocks
        | "Count rows" >> beam.Map(lambda block: ("rows", block.height)).with_output_types(tuple[str, int])
        | "Into seconds" >> beam.WindowInto(FixedWindows(1), allowed_lateness=Duration(3_600))
    )
    _ = windowed | "Sum" >> beam.CombinePerKey(sum) | "See sums" >> beam.ParDo(See(name + " sums"))
    queue.publish(*[b"%d" % number for number in range(2_000)])
    running = Running(pipeline)
    wait_until(lambda: len(rows(name)) >= 2_000, 60, "all is read")
    wait_until(lambda: pubsub_leases.snapshot().acked - before == 2_000, 30, "all is acknowledged")
    queue.publish(*[b"%d" % number for number in range(2_000, 2_100)])
    wait_until(lambda: len(rows(name)) >= 2_100, 30, "the stream goes on")
    drain.touch()
    running.wait()
    assert pubsub_leases.flush(LIMIT)
    assert rows(name) == list(range(2_100))
    assert queue.left() == []
    assert sum(value for (_, value), _, _ in SEEN[name + " sums"]) == 2_100, "every window closed"
    landed = Landing(tmp_path / "land")
    assert sum(read_landed(again).height for again in landed.to_read_again(landed.counts())) == 2_100
    for block, timestamp, acked in SEEN[name][:1]:
        assert acked == before, "the first block is in the graph before anything is acknowledged"
        assert abs(timestamp - block["received_time"].dt.epoch("us").min() / 1e6) < 0.01


@pytest.mark.filterwarnings("ignore")
def test_what_a_cancelled_pipeline_held_comes_again_at_once(queue, on_prism):
    pipeline = beam.Pipeline(options=on_prism)
    reading = Reading(queue.subscription, readers=2, block_rows=100)
    _ = pipeline | "Read" >> ReadPubSub(reading) | "See" >> beam.ParDo(Hang("cancelled"))
    queue.publish(*[b"%d" % number for number in range(1_000)])
    running = Running(pipeline)
    wait_until(lambda: SEEN.get("cancelled"), 60)
    running.result.cancel()
    close_all()
    Hang.GO_ON.set()
    assert pubsub_leases.flush(LIMIT)
    assert len(queue.wait_for(1_000, 20)) == 1_000


class Hang(See):
    """Waits with the first block until the test is over."""

    GO_ON = threading.Event()

    def process(self, element, timestamp=beam.DoFn.TimestampParam):
        yield from super().process(element, timestamp)
        Hang.GO_ON.wait(LIMIT)


class Fail(beam.DoFn):
    def process(self, block):
        raise RuntimeError("as a step may")


@pytest.mark.filterwarnings("ignore")
def test_a_bundle_that_fails_is_not_acknowledged_and_comes_again(queue):
    before = pubsub_leases.snapshot().acked
    pipeline = beam.Pipeline(options=options("--runner=FnApiRunner"))
    _ = pipeline | "Read" >> ReadPubSub(Reading(queue.subscription, readers=1)) | "Fail" >> beam.ParDo(Fail())
    queue.publish(*[b"%d" % number for number in range(100)])
    running = Running(pipeline)
    running.thread.join(LIMIT)
    assert "as a step may" in str(running.error)
    close_all()  # the traceback holds the reader open
    assert pubsub_leases.flush(LIMIT)
    assert pubsub_leases.snapshot().acked == before
    assert len(queue.wait_for(100, 5)) == 100


@pytest.mark.filterwarnings("ignore")
def test_through_beams_own_reader_the_rows_are_the_same(queue, by_beam):
    name = "through beam"
    queue.publish(b"0", at="2026-03-01T10:00:00Z", kind="a")
    queue.publish(b"1", at="yesterday")
    queue.publish(b"", kind="empty")
    by_beam(name, ReadPubSubThroughBeam(queue.subscription, source="shop", timestamp_attribute="at"))
    wait_until(lambda: sum(block.height for block, _, _ in SEEN.get(name, [])) >= 3, 60)
    found = pl.concat([block for block, _, _ in SEEN[name]]).sort("payload")
    assert found["payload"].to_list() == [b"", b"0", b"1"]
    assert found["source"].unique().to_list() == ["shop"]
    assert [each["source"].to_list() for each in cut_by_source(found, "kind")] == [["empty"], ["a"], ["shop"]]
    assert '"message":{' in found["attributes"][1] and '"kind":"a"' in found["attributes"][1]
    assert str(found["received_time"][1]) == "2026-03-01 10:00:00+00:00"
    assert all(abs(found["received_time"][row].timestamp() - time.time()) < 60 for row in (0, 2))
    assert all(len(position) > 0 for position in found["position"])
    for block, timestamp, _ in SEEN[name]:
        assert abs(timestamp - block["received_time"].dt.epoch("us").min() / 1e6) < 0.01


@pytest.fixture
def by_beam(queue):
    """Runs a reader on Beam's legacy local runner until the test ends."""
    running = []

    def run(name: str, reader: beam.PTransform) -> None:
        pipeline = beam.Pipeline(options=options("--runner=BundleBasedDirectRunner"))
        _ = pipeline | "Read" >> reader | "See" >> beam.ParDo(See(name))
        running.append(pipeline.run())

    yield run
    ends = [threading.Thread(target=result.cancel) for result in running]
    for end in ends:
        end.start()
        # It ends between two pulls, and a pull that finds nothing waits for half a minute.
        wait_until(lambda end=end: not (end.is_alive() and queue.publish(b"9")), 40)


def test_blocks_travel_by_the_block_coder(queue):
    for reader in (ReadPubSub(Reading(queue.subscription)), ReadPubSubThroughBeam(queue.subscription)):
        blocks = beam.Pipeline(options=options()) | "Read" >> reader
        assert blocks.element_type is pl.DataFrame
        assert isinstance(beam.coders.registry.get_coder(blocks.element_type), BlockCoder)


READ_AND_LAND = """
import sys
from tests.support.pubsub_hand import Hand, Reading
from pipelines.sources.landing import LandAt
hand = Hand(Reading(sys.argv[1], block_rows=100, block_seconds=0.05, landing=LandAt(sys.argv[2], "in", sys.argv[3])))
print("begun", flush=True)
while True:
    for number in (0, 1):
        hand.step(number)
        hand.readers[number].get_checkpoint_mark().finalize_checkpoint()
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(queue, tmp_path):
    folder, here = tmp_path / "landing", Landing(tmp_path / "landing")

    def landed() -> int:
        return int(here.counts()["landed"].sum())

    def start(run: int) -> subprocess.Popen:
        command = [sys.executable, "-c", READ_AND_LAND, queue.subscription, str(folder), f"run{run}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    for run in range(3):
        queue.publish(*[b"%d" % number for number in range(run * 1_000, (run + 1) * 1_000)])
        before, process = landed(), start(run)
        wait_until(lambda before=before, run=run: landed() - before > 250 * run, 30)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(3)

    def all_there() -> bool:
        files = here.to_read_again(here.counts())
        return len({payload for again in files for payload in read_landed(again)["payload"]}) == 3_000

    wait_until(all_there, 60, "every message landed, in the end")
    process.send_signal(signal.SIGKILL)
    process.communicate()
