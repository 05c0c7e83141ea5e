"""Runners: which one is chosen, and the faults of Prism 2.77 that the graph works round, shown on their own."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from pipelines.runners import choose as runners
from tests.servers.needed import wait_until
from transforms.errors import OptionError, RunnerError

HOUR = 3_600
ROOT = Path(__file__).parents[3]
_at_work: dict[int, int] = {}
seen: list[tuple] = []


def run_on_prism(binary: str, log, steps, *options: str) -> None:
    """Run a pipeline on a Prism of its own."""
    with runners.prism_at(binary, log) as (endpoint, _):
        words = ["--runner=PrismRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", *options]
        with beam.Pipeline(options=PipelineOptions(words)) as pipeline:
            steps(pipeline)


class KeepUntilEnd(beam.DoFn):
    """Keeps numbers, and tells how many it has when its timer fires at the end of the hour."""

    KEPT = BagStateSpec("kept", VarIntCoder())
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def process(self, keyed, kept=beam.DoFn.StateParam(KEPT), end=beam.DoFn.TimerParam(END)):
        kept.add(keyed[1])
        end.set(Timestamp(HOUR))

    @on_timer(END)
    def tell(self, kept=beam.DoFn.StateParam(KEPT)):
        seen.append(("kept", len(list(kept.read()))))


@pytest.mark.parametrize(
    ("window", "kept"),
    [(FixedWindows(HOUR), 0), (GlobalWindows(), 3)],
    ids=["in a window: the fault", "in the global one"],
)
def test_prism_drops_the_state_of_a_window_at_its_end_whatever_lateness_is_allowed(prism, tmp_path, window, kept):
    def steps(pipeline):
        keyed = pipeline | beam.Create([(0, 1), (0, 2), (0, 3)]) | beam.Map(lambda kv: TimestampedValue(kv, 60))
        windows = beam.WindowInto(window, allowed_lateness=Duration(24 * HOUR)).with_output_types(tuple[int, int])
        keyed | windows | beam.ParDo(KeepUntilEnd())

    seen.clear()
    run_on_prism(prism, tmp_path / "prism.log", steps)
    assert seen == [("kept", kept)]


class Slow(beam.DoFn):
    """Takes its time, and notes how many bundles are at work on one key at once."""

    KEPT = BagStateSpec("kept", VarIntCoder())

    def process(self, keyed, kept=beam.DoFn.StateParam(KEPT)):
        key = keyed[0]
        with _LOCK:
            _at_work[key] = _at_work.get(key, 0) + 1
            seen.append(("at once", _at_work[key]))
        kept.add(keyed[1])
        time.sleep(0.3)
        with _LOCK:
            _at_work[key] -= 1


_LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("options", "at_once"),
    [((), {1, 2}), ((runners.PRISM_WORK_ROUND,), {1})],
    ids=["as it comes: the fault", "as the stream runs it"],
)
def test_prism_splits_a_slow_bundle_so_that_two_are_at_work_on_the_state_of_one_key(prism, tmp_path, options, at_once):
    def steps(pipeline):
        pipeline | beam.Create([(0, n) for n in range(12)], reshuffle=False) | beam.ParDo(Slow())

    seen.clear()
    run_on_prism(prism, tmp_path / "prism.log", steps, *options)
    assert {count for _, count in seen} & {1, 2} == at_once


class WaitWithoutOutput(beam.DoFn):
    """Waits, and tells what share of a core the runner has used meanwhile."""

    def process(self, runner):
        process, begun = psutil.Process(runner), time.monotonic()
        used = sum(process.cpu_times()[:2])
        threading.Event().wait(2.0)
        seen.append((sum(process.cpu_times()[:2]) - used) / (time.monotonic() - begun))


def test_our_prism_sleeps_while_a_bundle_has_nothing_more_to_put_out(prism, tmp_path):
    """Beam's own spins: 0.9 of a core on an idle machine, and what it gets of a busy one."""
    seen.clear()
    with runners.prism_at(prism, tmp_path / "prism.log") as (endpoint, process):
        words = ["--runner=PrismRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]
        with beam.Pipeline(options=PipelineOptions(words)) as pipeline:
            _ = pipeline | beam.Create([process.pid]) | beam.Reshuffle() | beam.ParDo(WaitWithoutOutput())
    [share] = seen
    assert share < 0.1


def test_the_runner_is_the_one_that_is_asked_for_or_the_best_that_is_here(tmp_path, monkeypatch):
    binary = tmp_path / "prism"
    binary.write_text("#!/bin/sh\n")
    monkeypatch.setattr(runners, "PRISM_HERE", binary)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert runners.choose("DirectRunner").name == runners.LEGACY  # the binary may not be run
    binary.chmod(0o755)
    for asked in (None, "DirectRunner", "PrismRunner"):
        chosen = runners.choose(asked)
        assert (chosen.name, chosen.program) == ("PrismRunner", str(binary))
        assert chosen.said == f"runner PrismRunner ({binary})"
    legacy = runners.choose("BundleBasedDirectRunner", "no/such/prism")
    assert (legacy.name, legacy.program) == ("BundleBasedDirectRunner", "")
    assert "acknowledges a message before it is written" in legacy.said


@pytest.mark.parametrize(
    ("name", "lands", "rebuilds", "reads_itself", "can_drain", "runs_here"),
    [
        ("PrismRunner", True, True, False, True, True),
        ("BundleBasedDirectRunner", False, True, True, False, True),
        ("DataflowRunner", False, False, True, False, False),
    ],
)
def test_what_a_runner_can_decides_what_a_stream_lands_and_rebuilds(
    name, lands, rebuilds, reads_itself, can_drain, runs_here
):
    runner = runners.RUNNERS[name]
    assert (runner.lands, not runner.state_is_durable) == (lands, rebuilds)
    assert (runner.reads_itself, runner.can_drain, runner.runs_here) == (reads_itself, can_drain, runs_here)


def test_a_runner_with_durable_state_and_our_reader_lands_nothing():
    assert not runners.Runner("SomeRunner", state_is_durable=True, reads_itself=False, can_drain=True).lands


def test_a_runner_that_runs_elsewhere_cannot_be_started(tmp_path):
    with pytest.raises(RunnerError, match="DataflowRunner does not run on this machine"):
        runners.choose("DataflowRunner").start(tmp_path)


PRISM_OF = """
import sys
from pipelines.runners import choose as runners
from pipelines.apps.doctor.machine import optional_checks
runners.PRISM_HERE = runners.PRISM_HERE if sys.argv[1] == "here" else runners.Path(sys.argv[1])
(prism,) = (row for row in optional_checks() if row.name == "Prism")
print(runners.choose("PrismRunner").program)
print(prism.detail)
"""


@pytest.mark.parametrize("where", ["here", "on the PATH"])
def test_doctor_and_run_find_the_same_prism_from_any_folder(where, tmp_path, prism, monkeypatch):
    elsewhere, programs = tmp_path / "elsewhere", tmp_path / "programs"
    elsewhere.mkdir()
    programs.mkdir()
    (programs / "prism").symlink_to(prism)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    expected = str(runners.PRISM_HERE) if where == "here" else str(programs / "prism")
    words = [sys.executable, "-c", PRISM_OF, "here" if where == "here" else str(tmp_path / "none")]
    for folder in (ROOT, elsewhere):
        ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        assert ran.stdout.splitlines() == [expected] * 2


@pytest.mark.parametrize(
    ("asked", "location", "said"),
    [
        ("SparkRunner", None, "--runner: got 'SparkRunner'; allowed for a stream: PrismRunner, DirectRunner"),
        ("PrismRunner", None, "there is no Prism here; run `make prism`"),
        (None, "no/such/prism", "--prism_location: got 'no/such/prism', which is no program; run `make prism`"),
    ],
)
def test_a_runner_that_cannot_be_had_is_refused_with_what_to_do(monkeypatch, tmp_path, asked, location, said):
    monkeypatch.setattr(runners, "PRISM_HERE", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError) as refused:
        runners.choose(asked, location)
    assert said in str(refused.value)


def test_a_prism_that_does_not_start_is_told_in_one_line(tmp_path):
    binary = tmp_path / "prism"
    binary.write_text('#!/bin/sh\necho \'{"level":"ERROR","msg":"no port","error":"taken"}\'\nexit 3\n')
    binary.chmod(0o755)
    with (
        pytest.raises(RunnerError, match="Prism does not start: no port: taken"),
        runners.prism_at(str(binary), tmp_path / "prism.log"),
    ):
        pass


def test_a_prism_dies_with_the_process_that_began_it(prism, tmp_path):
    begin = (
        "import sys, time; from pathlib import Path; from pipelines.runners.choose import prism_at\n"
        "with prism_at(sys.argv[1], Path(sys.argv[2])) as (_, process): print(process.pid, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", begin, prism, str(tmp_path / "prism.log")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(int(process.stdout.readline()))
        assert child.is_running()
        process.kill()
    wait_until(lambda: not child.is_running(), 20, "Prism is gone")
