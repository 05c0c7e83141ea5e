"""kill -9 at every step of a commit: the old rows or the new, never half, and the next writer cleans up."""

import os
import subprocess
import sys
from datetime import date

import pytest

from pipelines.warehouse.local.warehouse import LocalWarehouse

# Forks a child for each step: it dies by SIGKILL just before its k-th durable step; the last one lives.
# Polars has computed nothing when the fork happens, so its threads are not among what a fork loses.
SCRIPT = """
import os, shutil, signal, sys
from datetime import date
import polars as pl
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.tables import QUALITY_1M, QUARANTINE, polars_schema

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)

def frame(table, mark, size):
    schema = polars_schema(table)
    row = {name: pl.lit(mark if name == "source" else None, dtype) for name, dtype in schema.items()}
    return pl.DataFrame({"n": range(size)}).with_columns(**row).select(list(schema))

def commit(folder, mark, size):
    with LocalWarehouse.open(folder, create=True).writer() as run:
        tables = {QUALITY_1M: [FIRST, SECOND], QUARANTINE: [FIRST, None]}
        parts = [(table, day) for table, days in tables.items() for day in days]
        entries = [write_file(run.staging, t.name, day, frame(t, mark, size)) for t, day in parts]
        run.commit(entries, replace_days={t.name: set(tables[t]) for t in tables})

def die_before(step):
    left = [step]
    def counted(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in ("replace", "unlink", "fsync", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))

def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

root, steps = sys.argv[1], 0
start = os.path.join(root, "start")
assert child(lambda: (commit(start, "oldest", 1), commit(start, "old", 2))) == 0
while True:
    folder = os.path.join(root, f"{steps:03}")
    shutil.copytree(start, folder)
    code = child(lambda: (die_before(steps), commit(folder, "new", 3)))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    steps += 1
print(steps)
"""

MARKS = """
    SELECT 'quality_1m' AS place, source, count(*) AS n FROM quality_1m GROUP BY source
    UNION ALL SELECT 'quarantine', source, count(*) FROM quarantine GROUP BY source ORDER BY place
"""
OLD = [("quality_1m", "old", 4), ("quarantine", "old", 4)]
NEW = [("quality_1m", "new", 6), ("quarantine", "new", 6)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of runs killed before their first, second, ... step, and of one that was not killed."""
    root = tmp_path_factory.mktemp("crash")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    return [root / f"{step:03}" for step in range(steps + 1)]


def test_a_kill_leaves_the_old_rows_or_the_new_in_every_table_together(killed):
    seen = [LocalWarehouse.open(folder).connect().sql(MARKS).fetchall() for folder in killed]
    swap = seen.index(NEW)
    assert seen == [OLD] * swap + [NEW] * (len(seen) - swap)
    assert swap > 12 and len(seen) - swap > 2, "kills before and after the swap were tried"


def test_the_next_writer_removes_what_a_killed_one_left(killed):
    for folder in killed:
        warehouse = LocalWarehouse.open(folder)
        before = warehouse.connect().sql(MARKS).fetchall()
        with warehouse.writer() as run:
            live = warehouse.manifest().paths()
            on_disk = {str(path.relative_to(folder)) for path in (folder / "data").rglob("*.parquet")}
            assert live < on_disk, "what was replaced a moment ago is still there for readers"
            assert [path.name for path in (folder / "staging").iterdir()] == [run.id]
        for path in on_disk - live:
            os.utime(folder / path, (0, 0))
        with warehouse.writer():
            assert live == {str(path.relative_to(folder)) for path in (folder / "data").rglob("*.parquet")}
        assert warehouse.connect().sql(MARKS).fetchall() == before
        assert warehouse.rows_by_day("quarantine").keys() == {date(2026, 3, 1), None}
