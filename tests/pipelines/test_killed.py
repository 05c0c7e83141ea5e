"""kill -9 at random moments of every kind of run: run again, and the warehouse is that of an undisturbed one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.simulator import Faults, simulate
from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.recount import differences

MOMENTS = 3  # kills a kind of run
# Each run is a child of one process that has imported Beam already. It is killed after a random share of the time that
# the undisturbed one took; then it is run again, to its end.
SCRIPT = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
from pipelines.backfill import backfill
from pipelines.options import resolve
from pipelines.person import erase
from pipelines.recompute import recompute
from pipelines.replay import replay
from pipelines.warehouse.local import LocalWarehouse

root, kind, seed, moments = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

def given(folder, **options):
    return {"warehouse": str(folder), "workers": "1", "generation": "7"} | options

def file(name, folder, **options):
    backfill(resolve(given(folder, input=str(root / name), **options)))

def compact(folder):
    with LocalWarehouse.open(folder).writer() as run:
        run.compact_all(above=1)

RUNS = {
    "backfill": lambda folder: file("one.jsonl", folder, replace=True, start="2026-03-01", end="2026-03-03"),
    "add": lambda folder: file("two.jsonl", folder, add=True),
    "recompute": lambda folder: recompute(resolve(given(folder, generation="8"), "recompute")),
    "replay": lambda folder: replay(resolve(given(folder, generation="8", take_late=True), "replay")),
    "erasure": lambda folder: erase(resolve(given(folder, generation="8"), "recompute"), ["u1", "u2"]),
    "compaction": compact,
}

def started(work, folder):
    child = os.fork()
    if child == 0:
        try:
            work(folder)
        except BaseException as problem:
            print(repr(problem), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child

def finished(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

base = root / "base"
assert finished(started(lambda folder: file("one.jsonl", folder), base)) == 0
if kind == "compaction":
    assert finished(started(lambda folder: file("two.jsonl", folder, add=True), base)) == 0
run, killed = RUNS[kind], 0
shutil.copytree(base, root / "undisturbed")
begun = time.monotonic()
assert finished(started(run, root / "undisturbed")) == 0
seconds = time.monotonic() - begun
draw = random.Random(seed)
for moment in range(moments):
    folder = root / str(moment)
    shutil.copytree(base, folder)
    child = started(run, folder)
    time.sleep(seconds * draw.random())
    os.kill(child, signal.SIGKILL)
    killed += finished(child) == -signal.SIGKILL
    assert finished(started(run, folder)) == 0
print(json.dumps({"killed": killed, "seconds": seconds}))
"""
STAMPS = "generation, revision, emitted_time"
TABLES = ("activity_1m", "content_1h", "campaign_1h", "user_days")
# Of what is tried again, only how often may differ: a kill may fall behind the commit.
ASKED = (
    "SELECT * FROM events ORDER BY ALL",
    "SELECT * EXCLUDE (failed_time, attempt) FROM quarantine_open ORDER BY ALL",
    f"SELECT * EXCLUDE ({STAMPS}) FROM quality_1m_current WHERE received <> 0 ORDER BY ALL",
    *(f"SELECT * EXCLUDE ({STAMPS}) FROM {table}_current ORDER BY ALL" for table in TABLES),
)


def said(folder: Path) -> list[list[tuple]]:
    warehouse = LocalWarehouse.open(folder)
    assert differences(warehouse) == []
    connection = warehouse.connect()
    return [connection.execute(sql).fetchall() for sql in ASKED]


@pytest.mark.parametrize("kind", ["backfill", "add", "recompute", "replay", "erasure", "compaction"])
def test_killed_at_random_moments_and_run_again_nothing_differs_from_an_undisturbed_run(tmp_path, kind):
    faults = Faults(too_late=0.05)
    for name, seed in (("one", 1), ("two", 2)):
        simulate(2_000, seed, tmp_path / f"{name}.jsonl", faults=faults)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), kind, kind, str(MOMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["killed"] >= MOMENTS // 2, "most kills must have met a run under way"
    undisturbed = said(tmp_path / "undisturbed")
    assert len(undisturbed[0]) > 1_500
    for moment in range(MOMENTS):
        assert said(tmp_path / str(moment)) == undisturbed
