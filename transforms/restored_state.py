"""Restored state: the state of a stream's steps, rebuilt from stored rows, on a runner that lost it.

    <folder>/seen/<window>-<shard>              SEEN entries of KeepFirst, as bytes (deduplicate.py)
    <folder>/claims/<window>-<shard>            CLAIM entries of KeepFirst: deliveries that are stored and read again
    <folder>/<name>/seen/..., /claims/...       the same for another step of its kind (redelivered.py)
    <folder>/published/<name>/<window>-<shard>  merged partial rows of Publish, an Arrow file (aggregate.py)
    <folder>/revision                           the highest revision given to a row before the stream starts

`window` is the number of the step's window: n is [n, n + 1) times its width since 1970. The files are written before
the graph starts, read by its steps when they first see a window and shard, and do not change while it runs.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl


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
    (Path(folder) / "revision").write_text(str(revision))


def read_revision(folder: str | None) -> int:
    """Return that revision, or 0."""
    path = Path(folder) / "revision" if folder else None
    return int(path.read_text()) if path and path.exists() else 0


def _append(folder: str, step: str, place: Place, entries: bytes) -> None:
    path = Path(folder) / step / f"{place.window}-{place.shard}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as seed:
        seed.write(entries)


def _read(folder: str | None, step: str, place: Place) -> bytes:
    if folder is None:
        return b""
    try:
        return (Path(folder) / step / f"{place.window}-{place.shard}").read_bytes()
    except FileNotFoundError:
        return b""
