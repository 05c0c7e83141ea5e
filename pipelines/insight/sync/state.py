"""The folder of a segment and target: what the target has, and the plan that is under way.

    id                 hexadecimal, once: the ids of this folder's changes begin with it
    members.parquet    person, row: what the target has been told and has taken
    plan-N.parquet     action, person, row, before: what sync N tells it; while there is one, it is finished first
    took-N-B.json      batch B of plan N was taken: the persons of its changes that the target refused
    log.jsonl          a line for each finished sync: number, time, counts; no person

Each file is seen whole or not at all. A kill leaves a plan whose last batch may have been taken without its mark: it is
sent again, with the same ids.
"""

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from pipelines.insight.sync.members import ADD, CHANGE, MEMBERS, REMOVE, applied
from pipelines.system.disk import WRITE_ERRORS, cannot_write, lock_folder, write_atomically
from pipelines.system.private import OWNER, umask

MEMBERS_FILE, LOG, ID = "members.parquet", "log.jsonl", "id"
BATCH = 500  # changes of a batch


class Line(msgspec.Struct, frozen=True):
    """A finished sync."""

    number: int
    time: datetime
    added: int
    changed: int
    removed: int
    failed: int


class State:
    """The state of one segment and target."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts, no other process syncs this segment to this target. Errors: WarehouseError."""
        with umask(OWNER):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = lock_folder(self.folder, "name another --state")
                if not (self.folder / ID).exists():
                    write_atomically(self.folder / ID, secrets.token_hex(6).encode())
            except WRITE_ERRORS as error:
                raise cannot_write(self.folder, error) from error
            try:
                yield
            finally:
                lock.close()

    @property
    def id(self) -> str:
        """What the ids of this folder's changes begin with."""
        return (self.folder / ID).read_text()

    def members(self) -> pl.DataFrame:
        """What the target has."""
        path = self.folder / MEMBERS_FILE
        return pl.read_parquet(path.read_bytes()) if path.exists() else pl.DataFrame(schema=MEMBERS)

    def plan(self) -> tuple[int, pl.DataFrame] | None:
        """The number and the changes of the plan that is under way."""
        found = sorted(self.folder.glob("plan-*.parquet"))
        return (_number(found[0]), pl.read_parquet(found[0].read_bytes())) if found else None

    def began(self, number: int) -> float:
        """When a plan that is under way was written, seconds since 1970."""
        return (self.folder / f"plan-{number:06}.parquet").stat().st_mtime

    def begin(self, changes: pl.DataFrame) -> int:
        """Write a plan, and return its number."""
        log = self.log()
        number = log[-1].number + 1 if log else 1
        self._write(f"plan-{number:06}.parquet", _parquet(changes))
        return number

    def taken(self, number: int) -> dict[int, list[str]]:
        """The batches of a plan that were taken: persons whose changes were refused."""
        marks = self.folder.glob(f"took-{number:06}-*.json")
        return {_number(path): msgspec.json.decode(path.read_bytes(), type=list[str]) for path in marks}

    def take(self, number: int, batch: int, refused: list[str]) -> None:
        """Mark a batch of a plan."""
        self._write(f"took-{number:06}-{batch:06}.json", msgspec.json.encode(refused))

    def finish(self, number: int, changes: pl.DataFrame) -> Line:
        """Keep what a plan, all of whose batches were taken, told the target."""
        refused = sorted({person for persons in self.taken(number).values() for person in persons})
        told = changes.filter(~pl.col("person").is_in(refused))
        self._write(MEMBERS_FILE, _parquet(applied(self.members(), told)))
        counts = dict(told["action"].value_counts().iter_rows())
        added, changed, removed = (counts.get(action, 0) for action in (ADD, CHANGE, REMOVE))
        line = Line(number, datetime.now(UTC), added, changed, removed, changes.height - told.height)
        log = self.log()
        if not log or log[-1].number < number:
            self._write(LOG, msgspec.json.Encoder().encode_lines([*log, line]))
        (self.folder / f"plan-{number:06}.parquet").unlink()
        self.forget_marks()
        return line

    def forget_marks(self) -> None:
        """Remove the marks of plans that are finished."""
        for path in self.folder.glob("took-*.json"):
            path.unlink()

    def log(self) -> list[Line]:
        """The finished syncs."""
        path = self.folder / LOG
        return msgspec.json.Decoder(Line).decode_lines(path.read_bytes()) if path.exists() else []

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_atomically(self.folder / name, content)
        except WRITE_ERRORS as error:
            raise cannot_write(self.folder / name, error) from error


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd")
    return out.getvalue()
