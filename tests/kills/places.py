"""Where a command is killed: a warehouse in a folder, or in a dataset of the BigQuery emulator.

begin()       the warehouse with which the command begins
counted(n)    in a child: the command, killed at its n-th point
points()      the points of the command that was counted last
seen()        what the warehouse holds, and what is left there that should not be
run_again()   the command to its end, and what is seen then
"""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.kills import commands
from tests.kills.points import Operations, Requests, child


class _Place:
    def __init__(self, folder: Path, command: str):
        self.folder, self.command = folder, command
        self.log = folder / "points"

    def points(self) -> list[str]:
        return self.log.read_text().splitlines()

    def seen(self) -> dict:
        into = self.folder / "seen.json"
        status = done(self.folder, lambda: into.write_text(json.dumps(self._see())) and 0)
        return json.loads(into.read_text()) if status == 0 else {"state": {"unreadable": status}, "left": []}

    def run_again(self) -> dict:
        status = done(self.folder, self._work)
        return {"status": status, **self.seen()}


class Folder(_Place):
    """A folder, begun as a copy of the base that the command has."""

    SWAP = ("rename manifest.json.tmp", "rename insight/manifest.json.tmp")  # what makes a commit seen
    dear = False

    def __init__(self, folder: Path, command: str):
        super().__init__(folder, command)
        base, self.command_on = commands.COMMANDS[command]
        self.base, self.warehouse = self._made(base), folder / "warehouse"

    def begin(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.warehouse)
        if self.base.exists():
            shutil.copytree(self.base, self.warehouse)

    def counted(self, kill_at: int | None) -> int:
        Operations(self.warehouse, self.log, kill_at)
        return self._work()

    def _work(self) -> int:
        return self.command_on(self.warehouse) or 0

    def _see(self) -> dict:
        left = commands.left(self.warehouse, self.command == "erasure")
        return {"state": commands.state_of_folder(self.warehouse), "left": left}

    def _made(self, name: str) -> Path:
        """The base of that name; made when it is asked for first."""
        base = self.folder / f"base-{name}"
        from_, make = commands.BASES[name]
        if from_ and not base.exists():
            first = self._made(from_)
            if first.exists():
                shutil.copytree(first, base)
            assert done(self.folder, lambda: make(base) or 0) == 0, name
        return base


class DataSet(_Place):
    """A new dataset; dear where it has to be filled first."""

    SWAP = "send POST /bigquery/v2/projects/demo-project/jobs commit"
    _number = 0

    def __init__(self, folder: Path, command: str):
        super().__init__(folder, command)
        self.filled, self.command_on = commands.ON_BIGQUERY[command]
        self.dear = self.filled is not None

    def begin(self) -> None:
        DataSet._number += 1
        self.name = f"demo-project.kills{DataSet._number}"
        if self.filled:
            assert done(self.folder, lambda: self.filled(self.folder, self.name)) == 0

    def begin_again(self) -> None:
        """The same dataset, without what a killed run has staged: each run then makes the same requests."""
        assert done(self.folder, lambda: commands.expire(self.name)) == 0

    def counted(self, kill_at: int | None) -> int:
        Requests(self.log, kill_at)
        return self._work()

    def _work(self) -> int:
        return self.command_on(self.folder, self.name)

    def _see(self) -> dict:
        return commands.seen_in_data_set(self.name, self.command == "erasure")


def done(folder: Path, work: Callable[[], int]) -> int:
    """The exit status of a child that does the work. What a first one had to import, this process imports for all."""
    modules = folder / "modules"

    def working() -> int:
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
