"""Read keys: who may ask for the answers about a person, for which of them, and how many times a second.

    add_reader(path, name, ...)   a new key, which is returned once; the file holds only its hash
    remove_reader(path, name)     the keys of a name, at once
    Readers(path).reader(key)     who has a key; the file is read again when it changes

The file is JSON of mode 0600, as that of the collector's write keys, and neither is taken for the other:

    {"readers": [{"name": "shop", "sha256": "...", "created": "2026-03-01T12:00:00Z", "until": "2027-03-01T12:00:00Z",
      "reads": ["recommendations"], "rate": 500}]}
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from pipelines.apps.collector.keys import Rates, Sender
from pipelines.system.tokens import (
    Watched,
    check_name,
    check_room,
    ending,
    hash_token,
    new_token,
    read_stored,
    unended,
    valid,
    without,
    write_json,
)

EXAMPLE = "shop"
PREFIX = "ar_"
OPTION = "people_keys"
OVERLAP = timedelta(days=7)  # for which earlier keys of a name stay valid

Answer = Literal["profiles", "recommendations"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class StoredReader(msgspec.Struct, forbid_unknown_fields=True):
    """A key as the file holds it: from `until` on it is refused; `rate` in requests per second, None: no limit."""

    name: str
    sha256: str
    created: Time
    until: Time
    reads: tuple[Answer, ...] = ANSWERS
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    readers: list[StoredReader] = []


class Reader(NamedTuple):
    """Who asks: the hash of the key, what it may read, and its requests per second."""

    id: str
    reads: Sequence[str]
    rate: float | None


class Readers:
    """The keys of a file. A change is seen within a second; a file that cannot be read opens nothing."""

    def __init__(self, path: str | Path):
        self._file = Watched(path, _read, lambda error, before: Stored())  # what is not known to be allowed is not
        self._rates = Rates()

    def reader(self, key: str) -> Reader | None:
        """Who has this key; None for one that is unknown or has expired. Takes as long for every key."""
        found = valid(self._file.current().readers, key)
        return None if found is None else Reader(found.sha256, found.reads, found.rate)

    def wait(self, reader: Reader, now: float) -> float:
        """Seconds until the key may ask again; 0: it may, and this request is counted. `now` of a monotonic clock."""
        sender = Sender(reader.id, "", reader.rate)
        if not (seconds := self._rates.wait(sender, now)):
            self._rates.take(sender, 1, now)
        return seconds


def add_reader(
    path: str | Path,
    name: str,
    lasting: timedelta,
    reads: Sequence[Answer] = ANSWERS,
    rate: float | None = None,
) -> tuple[str, datetime]:
    """Add a key, and return it and its end; the other keys of the name expire after OVERLAP. Errors: OptionError."""
    check_name("add_reader", name, EXAMPLE)
    now = datetime.now(UTC).replace(microsecond=0)
    until = ending(lasting, now)
    stored = _read(Path(path)) if Path(path).exists() else Stored()
    kept = unended(stored.readers, now)
    check_room(kept, path, "add_reader", "keys")
    for each in kept:
        if each.name == name:
            each.until = min(each.until, now + OVERLAP)
    key = new_token(PREFIX)
    write_json(path, Stored([*kept, StoredReader(name, hash_token(key), now, until, tuple(reads), rate)]))
    return key, until


def remove_reader(path: str | Path, name: str) -> int:
    """Remove the keys of a name at once, and return how many there were. Errors: OptionError."""
    stored = _read(Path(path))
    kept = without(stored.readers, name, "remove_reader", "key")
    write_json(path, Stored(kept))
    return len(stored.readers) - len(kept)


def _read(path: Path) -> Stored:
    return read_stored(path, Stored, lambda stored: stored.readers, OPTION, "read keys", "add_reader", EXAMPLE)
