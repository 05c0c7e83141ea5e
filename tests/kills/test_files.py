"""kill -9 at operations on files of every command that writes a local warehouse, each against an undisturbed run.

A kill leaves everything as before or everything as after, with books that balance; the command run again then ends as
an undisturbed one does, and leaves no file that nothing names, nor one that names a person who was taken out. Some
points of each command are met, the same in each run; `KILL_POINTS=all` meets every one, which takes an hour.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.servers.process import ROOT

ALL = os.environ.get("KILL_POINTS") == "all"
# Most of the points of the two that the others share no code with; of the others those at which a commit is seen.
POINTS = {
    "backfill": 4,
    "erasure": 4,
    "replace": 1,
    "add": 1,
    "recompute": 1,
    "replay": 1,
    "compaction": 2,
    "stream": 2,
    "adoption": 2,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Kills a command at some of its points; what was seen."""
    folder = tmp_path_factory.mktemp("kills")
    command = [sys.executable, "-m", "tests.kills", str(folder)]
    with (
        open(folder / "said", "w+") as said,
        subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=said, text=True) as process,
    ):

        def ask(command: str, points: int | None) -> dict:
            print(json.dumps({"command": command, "points": points}), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer, (folder / "said").read_text()[-2000:]
            return json.loads(answer)

        yield ask
        process.stdin.close()
        process.wait(30)


# An erasure commits its rows and its proof one after the other, so that a kill between them leaves a proof of nothing.
NOT_YET = pytest.mark.xfail(reason="rows and proof of an erasure are two commits", strict=False)


@pytest.mark.parametrize("command", [pytest.param(each, marks=[NOT_YET] * (each == "erasure")) for each in POINTS])
def test_a_kill_leaves_everything_as_before_or_as_after_and_the_command_then_ends_as_ever(killed, command):
    seen = killed(command, None if ALL else POINTS[command])
    print(command, {name: count for name, count in seen.items() if name != "wrong"})
    assert seen["wrong"] == []
    assert seen["points"] > 40, "the operations of the command must have been seen"
    assert seen["killed"] >= (0.95 * seen["points"] if ALL else POINTS[command]), "each point must end a run"
