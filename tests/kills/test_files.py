"""kill -9 at operations on files of every command that writes a local warehouse, each against an undisturbed run.

A kill leaves everything as before or everything as after, with books that balance; the command run again then ends as
an undisturbed one does, and leaves no file that nothing names, nor one that names a person who was erased. Some points
of each command are met, the same in each run; `KILL_POINTS=all` meets every one, which takes an hour.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.needed import LIMIT
from tests.servers.process import ROOT

ALL = os.environ.get("KILL_POINTS") == "all"
# Most of the points of the two that the others share no code with; of the others one side of what makes a commit seen.
POINTS = {
    "backfill": 4,
    "erasure": 4,
    "replace": 1,
    "add": 1,
    "recompute": 1,
    "replay": 1,
    "refresh": 1,
    "compaction": 2,
    "stream": 2,
    "adoption": 2,
}


@contextmanager
def asking(folder: Path, environment: Mapping[str, str] = {}) -> Iterator[Callable[..., dict]]:
    """A process that kills commands at some of their points, and tells what it saw."""
    command = [sys.executable, "-m", "tests.kills", str(folder)]
    with (
        open(folder / "said", "w+") as said,
        subprocess.Popen(
            command, cwd=ROOT, stdin=-1, stdout=-1, stderr=said, text=True, env=os.environ | environment
        ) as process,
    ):

        def ask(command: str, points: int | None, **where) -> dict:
            print(json.dumps({"command": command, "points": points} | where), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer, (folder / "said").read_text()[-2000:]
            return json.loads(answer)

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait(LIMIT)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Kills a command at some of its points; what was seen."""
    with asking(tmp_path_factory.mktemp("kills")) as ask:
        yield ask


@pytest.mark.parametrize("command", POINTS)
def test_a_kill_leaves_everything_as_before_or_as_after_and_the_command_then_ends_as_ever(killed, command):
    seen = killed(command, None if ALL else POINTS[command])
    print(command, {name: count for name, count in seen.items() if name != "wrong"})
    assert seen["wrong"] == []
    assert seen["points"] > 40, "the operations of the command must have been seen"
    assert seen["killed"] >= (0.95 * seen["points"] if ALL else POINTS[command]), "each point must end a run"
