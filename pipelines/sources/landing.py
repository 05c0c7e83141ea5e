"""The landing folder: records of a queue, on disk before the graph sees them and until the audit counts reconcile them.

    <run>.<split>.<segment>.<number>.parquet   a RAW_SCHEMA block; its metadata name its input and count its minutes

A runner that keeps its state in memory finalizes a bundle, which acknowledges its messages, before their records are in
the warehouse. So each block lands here first. A minute of `received_time` is done once the audit counts have as many
received records of it as landed; a restart deletes what the warehouse has of the other minutes, and reads them again.

Input    Each split begins a segment every ten minutes, and a segment is an input of its own (`<input>@<segment>`).
         A redelivered record lands in the segment that is open, never in one that was retired: so all the files of an
         (input, minute) are there until all of them are done.
Retired  A segment as a whole: it is closed (its split began another one, or its run is over) and its minutes are done.
         A mark, `<segment>.retired`, is written before its first file is deleted: what a crash leaves of the files does
         not count.
"""

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.system.disk import WRITE_ERRORS, cannot_write, sync_folder
from transforms.block import RAW_SCHEMA, TIME
from transforms.errors import SourceError, first_line

LANDED_SCHEMA = {**RAW_SCHEMA, "input": pl.String}
COUNTS_SCHEMA = {"input": pl.String, "bucket_start": TIME, "landed": pl.Int64}
SEGMENT_SECONDS = 600.0
MARK = ".retired"
LANDING = "landing"  # the folder, in that of a local warehouse
_ABOUT = "audience.landing"


class About(msgspec.Struct, frozen=True):
    """The metadata of a file: the input of its rows, and [minute (us since 1970), rows] of each minute."""

    input: str
    minutes: list[tuple[int, int]]


class Landed(NamedTuple):
    """A file of the landing folder. `segment` is run.split.segment."""

    path: Path
    segment: str
    about: About


class Again(NamedTuple):
    """A landed file to read again: its rows of these minutes (us since 1970)."""

    path: str
    minutes: tuple[int, ...]


@dataclass(frozen=True)
class LandAt:
    """Where the blocks of a run land: the folder, the name of what is read, and the id of the run."""

    folder: str
    input: str
    run: str


class Landing:
    """What is in a landing folder, as the process that starts and watches the readers sees it. Not for many threads."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._known: dict[str, Landed] = {}  # files never change: each is opened once

    def files(self) -> list[Landed]:
        """The files, oldest first within a split. Errors: SourceError for one that is damaged."""
        try:
            there = os.listdir(self.folder)
        except FileNotFoundError:
            there = []
        gone = {name.removesuffix(MARK) for name in there if name.endswith(MARK)}
        names = sorted(name for name in there if name.endswith(".parquet") and _segment(name) not in gone)
        self._known = {name: self._known.get(name) or _look(self.folder / name) for name in names}
        return list(self._known.values())

    def counts(self) -> pl.DataFrame:
        """COUNTS_SCHEMA: how many records of each minute landed, by input."""
        rows = [(file.about.input, *minute) for file in self.files() for minute in file.about.minutes]
        flat = pl.DataFrame(rows, {"input": pl.String, "minute": pl.Int64, "landed": pl.Int64}, orient="row")
        counted = flat.group_by("input", "minute").agg(pl.col("landed").sum())
        return counted.select("input", pl.col("minute").cast(TIME).alias("bucket_start"), "landed").sort(
            "input", "bucket_start"
        )

    def undone(self, received: pl.DataFrame) -> pl.DataFrame:
        """The minutes of COUNTS_SCHEMA whose records the audit counts (input, bucket_start, received) do not all have.

        The audit counts may name other inputs, and one minute in several rows: of sources, or of firings that add up.
        """
        keys = ["input", "bucket_start"]
        counted = received.group_by(keys).agg(pl.col("received").sum())
        both = self.counts().join(counted, on=keys, how="left")
        return both.filter(pl.col("landed") != pl.col("received").fill_null(0)).select(list(COUNTS_SCHEMA))

    def to_read_again(self, undone: pl.DataFrame) -> list[Again]:
        """What a reader has to read again so that the undone minutes (input, bucket_start) are in the graph."""
        wanted = _minutes_of(undone)
        found = []
        for file in self.files():
            chosen = tuple(minute for minute, _ in file.about.minutes if (file.about.input, minute) in wanted)
            if chosen:
                found.append(Again(str(file.path), chosen))
        return found

    def retire(self, undone: pl.DataFrame, open_run: str | None = None) -> set[str]:
        """Delete the files of the closed segments that have no minute in `undone`; returns their inputs.

        Only files that `undone` was computed from: what landed since is not in it, and stays.

        open_run  the run whose readers may still write; None: there is none, so half-written files of a crash go too
        """
        waiting = {input for input, _ in _minutes_of(undone)}
        files, closed = list(self._known.values()), dict[str, str]()
        newest = _newest(files)
        for file in files:
            run, split, segment = _parts(file.segment)
            is_open = run == open_run and newest[run, split] == segment
            if not is_open and file.about.input not in waiting:
                closed[file.segment] = file.about.input
        gone = {input for segment, input in closed.items() if self._is_known(segment) and self._remove(segment)}
        for mark in self.folder.glob(f"*{MARK}"):  # of segments that a crash left half deleted
            self._remove(mark.stem)
        if open_run is None and self.folder.is_dir():
            for left in self.folder.glob("*.tmp"):
                left.unlink(missing_ok=True)
        return gone

    def _is_known(self, segment: str) -> bool:
        """Whether every file of a segment was read: a listing may miss a file that is created while it runs."""
        return all(path.name in self._known for path in self.folder.glob(f"{segment}.*.parquet"))

    def _remove(self, segment: str) -> bool:
        """Delete the files of a closed segment; whether that was possible."""
        mark = self.folder / f"{segment}{MARK}"
        try:
            mark.touch()
            sync_folder(self.folder)
        except OSError:  # a disk without room for a name: later
            return False
        for path in self.folder.glob(f"{segment}.*.parquet"):
            path.unlink(missing_ok=True)
            self._known.pop(path.name, None)
        sync_folder(self.folder)
        mark.unlink(missing_ok=True)
        return True


class Lander:
    """Writes the blocks of one split of one run to the landing folder.

    input  the name of what is read; the rows get it with the segment after an @
    """

    def __init__(
        self, folder: str, input: str, run: str, split: int, clock: Callable[[], float] = time.monotonic
    ):  # the clock is in seconds and never goes back
        self.folder, self.input, self.clock = Path(folder), input, clock
        self.name = f"{run}.{split}-{uuid.uuid4().hex[:8]}"  # a reader that takes over overwrites no file
        self.segment, self.number, self.begun = 0, 0, clock()

    def land(self, block: pl.DataFrame) -> pl.DataFrame:
        """Write a RAW_SCHEMA block durably and return it as LANDED_SCHEMA. Errors: WarehouseError, if that fails."""
        if self.clock() - self.begun >= SEGMENT_SECONDS:
            self.segment, self.begun = self.segment + 1, self.clock()
        segment = f"{self.name}.{self.segment:06d}"
        block = block.with_columns(input=pl.lit(f"{self.input}@{segment}"))
        path = self.folder / f"{segment}.{self.number:09d}.parquet"
        self.number += 1
        aside = path.with_suffix(".tmp")
        try:
            self._make_folder()
            with open(aside, "wb") as file:
                about = msgspec.json.encode(About(block["input"][0], minutes_of(block))).decode()
                block.write_parquet(file, compression="zstd", compression_level=1, metadata={_ABOUT: about})
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync_folder(self.folder)
        except WRITE_ERRORS as error:
            raise cannot_write(path, error) from error
        return block

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)


def minutes_of(block: pl.DataFrame) -> list[tuple[int, int]]:
    """(minute in us since 1970, rows) of each minute of `received_time` in a block, in order."""
    minute = pl.col("received_time").dt.truncate("1m").dt.epoch("us").alias("minute")
    counted = block.group_by(minute).len().sort("minute")
    return list(zip(counted["minute"].to_list(), counted["len"].to_list(), strict=True))


def read_landed(again: Again) -> pl.DataFrame:
    """The rows of a landed file that are to be read again: LANDED_SCHEMA. Errors: SourceError if damaged or missing."""
    try:
        block = pl.read_parquet(again.path, hive_partitioning=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(again.path, error) from error
    minute = pl.col("received_time").dt.truncate("1m").dt.epoch("us")
    return block.filter(minute.is_in(list(again.minutes))).select(list(LANDED_SCHEMA))


def _look(path: Path) -> Landed:
    try:
        about = msgspec.json.decode(pl.read_parquet_metadata(path)[_ABOUT], type=About)
    except (OSError, KeyError, pl.exceptions.PolarsError, msgspec.DecodeError) as error:
        raise _damaged(path, error) from error
    return Landed(path, _segment(path.name), about)


def _segment(name: str) -> str:
    """Of a file's name."""
    return name.rsplit(".", 2)[0]


def _damaged(path: str | Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be read again: {first_line(error)}; restore it, or move it away: its records are lost then"
    )


def _parts(segment: str) -> tuple[str, str, str]:
    run, split, number = segment.rsplit(".", 2)
    return run, split, number


def _newest(files: Iterable[Landed]) -> dict[tuple[str, str], str]:
    """(run, split) -> its last segment."""
    found: dict[tuple[str, str], str] = {}
    for file in files:
        run, split, segment = _parts(file.segment)
        found[run, split] = max(found.get((run, split), ""), segment)
    return found


def _minutes_of(undone: pl.DataFrame) -> Collection[tuple[str, int]]:
    return set(zip(undone["input"].to_list(), undone["bucket_start"].dt.epoch("us").to_list(), strict=True))
