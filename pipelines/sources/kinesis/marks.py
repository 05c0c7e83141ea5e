"""Marks: how far each shard of a stream was read, in a file of the run's own folder.

kinesis-<name>-<digest of the ARN>.json   replaced atomically and synced; private to its owner

A mark is stored only for what is finalized: in the landing folder, or in the tables where nothing lands. It says up to
which record a shard was read, and until when: all that the shard received before `known` is behind the mark. Kinesis
does not say when it deletes records that nobody has read, so `known` is what shows that it may have.

Times are in seconds since 1970, by the clock of the server.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pipelines.sources.kinesis.client import ARN, About
from pipelines.system.disk import write_atomically
from pipelines.system.private import OWNER, umask
from transforms.errors import SourceError


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a shard was read.

    sequence  of the last record that is finalized; None where there is none yet
    known     all that arrived before is finalized; None where that is not known, as of a shard that was never read
    ended     the shard is closed, and was read to its end
    """

    sequence: str | None = None
    known: float | None = None
    ended: bool = False


class Marks(msgspec.Struct, frozen=True):
    """The marks of a stream, by shard. `start`: from when a shard is read that has none; None: from its oldest record.

    created  when the stream was created: one that was deleted and created again has other records
    """

    stream: str
    created: float
    start: float | None = None
    shards: dict[str, Mark] = {}


def path_of(folder: str | Path, arn: str) -> Path:
    """The file with the marks of a stream."""
    found = ARN.fullmatch(arn)
    digest = hashlib.sha256(arn.encode()).hexdigest()[:8]
    return Path(folder) / f"kinesis-{found[2] if found else 'stream'}-{digest}.json"


def read_marks(path: Path) -> Marks | None:
    """The marks in a file; None where there are none. Errors: SourceError for a file that is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Marks)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise SourceError(f"{path} cannot be read: {error}; restore it, or {begin_anew(path)}") from error


def write_marks(path: Path, marks: Marks) -> None:
    """Store marks durably. Raises OSError."""
    with umask(OWNER):
        write_atomically(path, msgspec.json.encode(marks))


def begin_anew(path: Path) -> str:
    """Both ways to go on without marks, for a person."""
    return (
        f"move {path} away, and start again: with --start_at earliest, which reads all that the stream still has, or"
        " with --start_at latest, which reads what comes from then on"
    )


def check_marks(path: Path, marks: Marks, about: About, listed: Mapping[str, tuple[str, ...]], now: float) -> None:
    """Check that all behind the marks is still there. `listed`: shard -> its parents. Errors: SourceError if not."""
    if abs(marks.created - about.created) > 1.0:
        raise SourceError(
            f"stream {marks.stream} was created again since {path} was written, and its marks are of the one before;"
            f" {begin_anew(path)}"
        )
    for shard, mark in marks.shards.items():
        if not mark.ended and shard not in listed:
            raise describe_gap(path, shard, mark.known, about.retention)
    for shard, parents in listed.items():
        known = known_of(shard, parents, marks)
        if known is not None and now - known > about.retention:
            raise describe_gap(path, shard, known, about.retention)


def known_of(shard: str, parents: tuple[str, ...], marks: Marks) -> float | None:
    """Until when a shard is known: what it holds arrived after its parents were read to their end. None: there is
    nothing to compare with."""
    if (mark := marks.shards.get(shard)) is not None:
        return None if mark.ended else mark.known
    before = [marks.shards[name].known for name in parents if name in marks.shards]
    if before and None not in before:
        return min(known for known in before if known is not None)
    return max((known for known in (marks.start, *(m.known for m in marks.shards.values())) if known), default=None)


def describe_gap(path: Path, shard: str, known: float | None, retention: float) -> SourceError:
    """The error for records that may have been deleted before anybody read them."""
    until = "" if known is None else f" before {datetime.fromtimestamp(known, UTC).isoformat(timespec='seconds')}"
    return SourceError(
        f"records of {shard} may be lost: what came{until} was read, and Kinesis keeps a record for"
        f" {retention / 3_600:,.0f} hours; to go on without them {begin_anew(path)}"
    )
