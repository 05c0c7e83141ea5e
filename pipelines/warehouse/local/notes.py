"""Notes: the files that the workers of a stream have written, for the process that commits them.

    staging/<run>/notes/<table>/<name>.json    one for each bundle and table; deleted once its files are committed

A note is written after its files and before their audit entries leave the bundle. `paths` lists those of audit
counts first: so whoever commits all that it returns never shows counts without the rows that they count.
A note outlives a kill, of the worker or of whoever commits. It need not outlive a loss of power: a stream then goes on
from what its source still has.
"""

import os
import uuid
from pathlib import Path

import msgspec

from pipelines.system.disk import WRITE_ERRORS, cannot_write
from pipelines.warehouse.day_files import FileEntry, day_name
from pipelines.warehouse.tables import QUALITY_1M

FOLDER = "notes"


class Note(msgspec.Struct, frozen=True):
    """Files of one bundle and table; `received` are points of the received times of its events, microseconds."""

    files: list[FileEntry]
    received: list[int] = []


def write(staging: str | Path, table: str, note: Note) -> None:
    """Write a note, seen whole or not at all. Raises WarehouseError, for one if the run has ended."""
    folder = Path(staging).absolute() / FOLDER / table
    aside = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        for each in (folder.parent, folder):
            each.mkdir(exist_ok=True)
        aside.write_bytes(msgspec.json.encode(note))
        os.replace(aside, aside.with_suffix(".json"))
    except WRITE_ERRORS as error:
        raise cannot_write(aside, error) from error


def note_files(staging: str, table: str, files: list[FileEntry], received: list[int]) -> None:
    """Note the files of one bundle and table, and points of the received times of its events."""
    write(staging, table, Note(files, received))


def paths(staging: Path) -> list[Path]:
    """The notes of a run, those of audit counts first: listed last they might count rows noted since."""
    counts = sorted((staging / FOLDER / QUALITY_1M.name).glob("*.json"))
    others = sorted((staging / FOLDER).glob("*/*.json"))
    return counts + [path for path in others if path.parent.name != QUALITY_1M.name]


def read(path: Path) -> Note | None:
    """A note, its files where they lie now, should the warehouse have been moved; None if a loss of power spoilt it."""
    try:
        note = msgspec.json.decode(path.read_bytes(), type=Note)
    except msgspec.DecodeError:
        return None
    staging = path.parents[2]
    files = [
        FileEntry(each.table, each.day, str(staging / each.table / day_name(each.day) / Path(each.path).name), *rest)
        for each in note.files
        for rest in [(each.rows, each.bytes, each.xxh3)]
    ]
    return Note(files, note.received)
