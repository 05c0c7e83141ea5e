"""python -m tests.kills FOLDER: kills commands, one for each line of standard input, and answers with what it saw.

line    {"command": ..., "points": how many of its points, null: all}
answer  {"points": of an undisturbed run, "killed": ..., "before": kills that left everything as before, "after": kills
         that left everything as an undisturbed run does, "wrong": what should not be}

Each run is a child of this process, which has imported everything: so a kill costs a run and not the start of an
interpreter. Here nothing is done but to begin children, since the threads of Polars and Beam do not outlive a fork.
"""

import importlib
import json
import os
import random
import shutil
import signal
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from tests.kills import commands
from tests.kills.points import Operations, child

SEED = 13
SWAP = "rename manifest.json.tmp"  # what makes a commit seen


class Killing:
    """Kills of one command on copies of its base; everything lies in one folder."""

    def __init__(self, folder: Path, command: str):
        self.folder, self.command = folder, command
        base, self.work = commands.COMMANDS[command]
        self.base = base_of(folder, base)
        self.log, self.warehouse = folder / "points", folder / "warehouse"

    def run(self, points: int | None) -> dict:
        """Kill at every point, or at some."""
        self._begin()
        before = self._seen()
        status = done(self.folder, lambda: self._counted(None))
        there = self.log.read_text().splitlines()
        once = self._seen()
        self.answer = {"points": len(there), "killed": 0, "before": 0, "after": 0, "wrong": []}
        if status != 0 or once["left"]:
            self.answer["wrong"].append(f"an undisturbed run ends with {status} and {once}")
        for number in chosen(there, points, self.command):
            self._begin()
            killed = done(self.folder, lambda at=number: self._counted(at)) == -signal.SIGKILL
            self.answer["killed"] += killed
            found = self._seen()["state"]
            self._expect(f"{number}, {there[number]}", found, before, {"status": 0, **once})
        return self.answer

    def _expect(self, point: str, found: dict, before: dict, once: dict) -> None:
        """Everything is as before or as after, and the command then ends as an undisturbed one does."""
        ended, expected = self._run_again(), once
        if found == before["state"] or self.command in commands.STEP_BY_STEP:
            self.answer["before"] += 1
        elif found == once["state"]:
            self.answer["after"] += 1
            expected = self._twice
        else:
            self.answer["wrong"].append(f"killed at {point}: between before and after, {apart(found, before['state'])}")
        if ended != expected:
            self.answer["wrong"].append(f"run again after a kill at {point}: {apart(ended, expected)}")

    @cached_property
    def _twice(self) -> dict:
        """How the command ends that is run again after an undisturbed one."""
        self._begin()
        self._run_again()
        return self._run_again()

    def _run_again(self) -> dict:
        status = done(self.folder, lambda: self.work(self.warehouse) or 0)
        return {"status": status, **self._seen()}

    def _seen(self) -> dict:
        """The state of the warehouse, and what is left there that should not be."""
        into = self.folder / "seen.json"
        gone = self.command == "erasure"

        def see() -> None:
            found = {"state": commands.state(self.warehouse), "left": commands.left(self.warehouse, gone)}
            into.write_text(json.dumps(found))

        status = done(self.folder, see)
        return json.loads(into.read_text()) if status == 0 else {"state": {"unreadable": status}, "left": []}

    def _begin(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.warehouse)
        if self.base.exists():
            shutil.copytree(self.base, self.warehouse)

    def _counted(self, kill_at: int | None) -> int:
        Operations(self.warehouse, self.log, kill_at)
        return self.work(self.warehouse) or 0


def base_of(folder: Path, name: str) -> Path:
    """The base of that name; made when it is asked for first."""
    base = folder / f"base-{name}"
    from_, make = commands.BASES[name]
    if from_ and not base.exists():
        first = base_of(folder, from_)
        if first.exists():
            shutil.copytree(first, base)
        assert done(folder, lambda: make(base)) == 0, name
    return base


def done(folder: Path, work) -> int:
    """The exit status of a child that does the work. What a first one had to import, this process imports for all."""
    modules = folder / "modules"

    def working() -> int | None:
        status = work()
        modules.write_text("\n".join(sys.modules))
        return status

    status = child(working)
    with suppress(FileNotFoundError):
        for name in modules.read_text().splitlines():
            if name not in sys.modules:
                with suppress(Exception):  # some are no modules of a file
                    importlib.import_module(name)
    return status


def chosen(there: list[str], points: int | None, seed: str) -> list[int]:
    """Which points are met: first a side of a swap, then the other, then others by chance; the same in each run."""
    if points is None:
        return list(range(len(there)))
    draw = random.Random(f"{SEED} {seed}")
    swap = draw.choice([number for number, told in enumerate(there) if told == SWAP])
    sides = draw.sample([swap, swap + 1], 2)
    others = [number for number in range(len(there)) if number not in sides]
    return sorted(([*sides, *draw.sample(others, len(others))])[:points])


def apart(found: dict, expected: dict) -> str:
    """In what two differ."""
    names = sorted(found.keys() | expected.keys())
    unlike = {name: (found.get(name), expected.get(name)) for name in names if found.get(name) != expected.get(name)}
    return "; ".join(f"{name}: {one}, should be {other}" for name, (one, other) in unlike.items())


def main(folder: Path) -> None:
    """Answer each line of standard input."""
    (folder / "audience.yaml").write_text(commands.CONFIG)
    for name, lines in commands.LINES.items():
        (folder / name).write_text("".join(line + "\n" for line in lines))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the commands say
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(Killing(folder, asked["command"]).run(asked["points"])), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
