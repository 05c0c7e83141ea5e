"""Restored state: the state of a stream's steps, rebuilt from stored rows, on a runner that lost it.

    <folder>/seen/<window>-<shard>              SEEN entries of KeepFirst, as bytes (deduplicate.py)
    <folder>/claims/<window>-<shard>            CLAIM entries of KeepFirst: deliveries that are stored and read again
    <folder>/<name>/seen/..., /claims/...       the same for another step of its kind (redelivered.py)
    <folder>/published/<name>/<window>-<shard>  merged partial rows of Publish, an Arrow file (aggregate.py)
    <folder>/revision                           the highest revision given to a row before the stream starts

`window` is the number of the step's window: n is [n, n + 1) times its width since 1970. The files are written before
the graph starts, read by its steps when they first see a window and shard, and do not change while it runs. A job on a
cluster reads them from a bucket (gs://...), to which its launch has copied the folder.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from apache_beam.io.filesystems import FileSystems

REVISION = "revision"


class Place(NamedTuple):
    """The number of the window, and the shard, to which restored state belongs."""

    window: int
    shard: int


def add_seen(folder: str, place: Place, entries: bytes, of: str = "") -> None:
    """Append entries to the restored state of KeepFirst, or of the step of that name."""
    _append(folder, _step(of, "seen"), place, entries)


def read_seen(folder: str | None, place: Place, of: str = "") -> bytes:
    """Return its entries; none if there is no restored state."""
    return _read(folder, _step(of, "seen"), place)


def add_claims(folder: str, place: Place, claims: bytes, of: str = "") -> None:
    """Append claims to the restored state of KeepFirst, or of the step of that name."""
    _append(folder, _step(of, "claims"), place, claims)


def read_claims(folder: str | None, place: Place, of: str = "") -> bytes:
    """Return its claims; none if there is no restored state."""
    return _read(folder, _step(of, "claims"), place)


def _step(of: str, kind: str) -> str:
    return f"{of}/{kind}" if of else kind


def write_published(folder: str, name: str, parts: Iterable[tuple[Place, pl.DataFrame]]) -> None:
    """Write the restored state of one Publish."""
    into = Path(folder) / "published" / name
    into.mkdir(parents=True, exist_ok=True)
    for place, rows in parts:
        rows.write_ipc(into / f"{place.window}-{place.shard}", compression="lz4", compat_level=pl.CompatLevel.oldest())


def read_published(folder: str | None, name: str, place: Place) -> pl.DataFrame | None:
    """Return the merged partial rows for Publish; None if there is no restored state."""
    found = _read(folder, f"published/{name}", place)
    return pl.read_ipc(found) if found else None


def write_revision(folder: str, revision: int) -> None:
    """Write the revision above which the stream's own revisions begin."""
    (Path(folder) / REVISION).write_text(str(revision))


def read_revision(folder: str | None) -> int:
    """Return that revision, or 0."""
    return int(_content(folder, REVISION) or 0) if folder else 0


def copy_to_bucket(folder: str, to: str) -> str:
    """Copy the restored state to a new folder of a bucket, and return its path; the revision is copied last."""
    paths = sorted((path for path in Path(folder).rglob("*") if path.is_file()), key=lambda path: path.name == REVISION)
    for path in paths:
        with FileSystems.create(f"{to}/{path.relative_to(folder).as_posix()}") as copy:
            copy.write(path.read_bytes())
    return to


def _append(folder: str, step: str, place: Place, entries: bytes) -> None:
    path = Path(folder) / step / f"{place.window}-{place.shard}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as seed:
        seed.write(entries)


def _read(folder: str | None, step: str, place: Place) -> bytes:
    return _content(folder, f"{step}/{place.window}-{place.shard}") if folder else b""


def _content(folder: str, name: str) -> bytes:
    """Return the content of a file of the folder; empty if there is no such file."""
    if "://" in folder:
        if name not in _names(folder):
            return b""
        with FileSystems.open(f"{folder}/{name}") as file:
            return file.read()
    try:
        return (Path(folder) / name).read_bytes()
    except FileNotFoundError:
        return b""


@functools.lru_cache(maxsize=16)
def _names(folder: str) -> frozenset[str]:
    """Return the files of a folder in a bucket. Errors: FileNotFoundError if the folder was removed."""
    found = FileSystems.match([f"{folder}/**"])[0].metadata_list
    names = frozenset(each.path.removeprefix(f"{folder}/") for each in found)
    if REVISION not in names:
        raise FileNotFoundError(
            f"{folder} has no restored state: a stream needs it until each window that was open at its launch has "
            "ended; keep temporary files of the bucket longer"
        )
    return names
