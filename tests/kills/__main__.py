"""python -m tests.kills FOLDER: kills commands, one for each line of standard input, and answers with what it saw.

line    {"command": ..., "points": how many of its points, null: all, [first, end]: those between, "bigquery": whether
         its warehouse is a dataset}
answer  {"points": of an undisturbed run, "killed": ..., "before": kills that left everything as before, "after": kills
         that left everything as an undisturbed run does, "wrong": what should not be}

Each run is a child of this process, which has imported everything: so a kill costs a run and not the start of an
interpreter. Here nothing is done but to begin children, since the threads of Polars and Beam do not outlive a fork.
"""

import json
import os
import random
import signal
import sys
from functools import cached_property
from pathlib import Path

from tests.kills import commands
from tests.kills.places import DataSet, Folder, done

SEED = 13


class Killing:
    """Kills of one command, in a place."""

    def __init__(self, place: Folder | DataSet, command: str):
        self.place, self.command = place, command
        self.answer = {"points": 0, "killed": 0, "before": 0, "after": 0, "wrong": []}

    def run(self, points: int | list[int] | None) -> dict:
        """Kill at every point, or at some."""
        self.place.begin()
        before = self.place.seen()["state"]
        status = done(self.place.folder, lambda: self.place.counted(None))
        there = self.place.points()
        once = self.place.seen()
        self.answer["points"] = len(there)
        changed = self.command not in commands.CHANGE_NOTHING
        if status != 0 or once["left"] or (once["state"] != before) != changed:
            self.answer["wrong"].append(f"an undisturbed run ends with {status} and {once}")
        numbers = chosen(there, points, f"{self.command} {self.place.SWAP}", self.place.SWAP)
        swaps = [number for number, told in enumerate(there) if told.startswith(self.place.SWAP)]
        if numbers and numbers[-1] > swaps[-1]:
            self.__dict__["_twice"] = self.place.run_again()  # while the undisturbed one is at hand
        begun = False
        for number in numbers:
            if not begun:
                self.place.begin()
            killed = done(self.place.folder, lambda at=number: self.place.counted(at)) == -signal.SIGKILL
            self.answer["killed"] += killed
            found = self.place.seen()["state"]
            # What is expensive to make and still as before meets the next kill as well; the last is run to its end.
            begun = self.place.dear and found == before and number != numbers[-1]
            if begun:
                self.place.begin_again()
                self.answer["before"] += 1
                continue
            self._expect(f"{number}, {there[number]}", found, before, {"status": 0, **once})
        return self.answer

    def _expect(self, point: str, found: dict, before: dict, once: dict) -> None:
        """Everything is as before or as after, and the command then ends as an undisturbed one does."""
        ended, expected = self.place.run_again(), once
        if found == before or self.command in commands.STEP_BY_STEP:
            self.answer["before"] += 1
        elif found == once["state"]:
            self.answer["after"] += 1
            expected = self._twice
        else:
            self.answer["wrong"].append(f"killed at {point}: between before and after, {apart(found, before)}")
        if ended != expected:
            self.answer["wrong"].append(f"run again after a kill at {point}: {apart(ended, expected)}")

    @cached_property
    def _twice(self) -> dict:
        """How the command ends that is run again after an undisturbed one."""
        self.place.begin()
        self.place.run_again()
        return self.place.run_again()


def chosen(there: list[str], points: int | list[int] | None, seed: str, swap: str | tuple[str, ...]) -> list[int]:
    """Which points are met: first a side of a swap, then the other, then others by chance; the same in each run."""
    if points is None:
        return list(range(len(there)))
    if isinstance(points, list):
        return list(range(len(there)))[slice(*points)]
    draw = random.Random(f"{SEED} {seed}")
    seen = draw.choice([number for number, told in enumerate(there) if told.startswith(swap)])
    sides = draw.sample([seen, seen + 1], 2)
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
        place = (DataSet if asked.get("bigquery") else Folder)(folder, asked["command"])
        print(json.dumps(Killing(place, asked["command"]).run(asked["points"])), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
