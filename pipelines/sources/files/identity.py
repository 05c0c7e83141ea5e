"""Identity of an input: what its files hold, not where they lie; and whether they still hold it."""

import os
from collections.abc import Sequence
from pathlib import Path

import xxhash
from apache_beam.io.filesystems import FileSystems

from pipelines.sources.files.standard_input import known_as
from transforms.errors import SourceError

PIECE = 8 << 20
State = tuple[int | str, ...]  # of a file: changes with it


def content_digest(paths: Sequence[str]) -> str:
    """16 hex digits over the names and contents of files; a remote file's content is the checksum its store gives."""
    whole = xxhash.xxh3_64()
    for path in sorted(paths, key=lambda path: path.rsplit("/", 1)[-1]):
        whole.update(path.rsplit("/", 1)[-1].encode() + b"\0")
        whole.update(_content(path).encode() + b"\0")
    return whole.hexdigest()


def _content(path: str) -> str:
    if "://" in path:
        return str(FileSystems.checksum(path))
    digest = xxhash.xxh3_128()
    with Path(path).open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def states_of(paths: Sequence[str]) -> dict[str, State]:
    """The state of each file at this moment. Errors: SourceError for one that is gone."""
    return {path: _state(path) for path in paths}


def check_unchanged(states: dict[str, State]) -> None:
    """Refuse, before anything is committed, what was made of files that grew, shrank or went while they were read: some
    passes over a file would have seen more of it than others. Errors: SourceError."""
    for path, before in states.items():
        if _state(path) != before:
            raise SourceError(
                f"{known_as(path)}: was changed while it was read, allowed are files that nobody writes; nothing was "
                "written; run it again, or name a copy of the file"
            )


def _state(path: str) -> State:
    if "://" in path:
        return (str(FileSystems.checksum(path)),)
    try:
        about = os.stat(path)
    except OSError as problem:
        raise SourceError(f"{known_as(path)}: cannot be read: {problem.strerror}; nothing was written") from problem
    return (about.st_ino, about.st_size, about.st_mtime_ns)
