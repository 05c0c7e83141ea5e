"""Read keys: who may ask for the answers about a person, for which of them, and how many times a second.

    add_reader(path, name, ...)   a new key, which is returned once; the file holds only its hash
    remove_reader(path, name)     the keys of a name, at once
    Readers(path).reader(key)     who has a key; the file is read again when it changes

The file is JSON of mode 0600, as that of the collector's write keys, and neither is taken for the other:

    {"readers": [{"name": "shop", "sha256": "...", "created": "2026-03-01T12:00:00Z", "until": "2027-03-01T12:00:00Z",
      "reads": ["recommendations"], "rate": 500}]}
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from pipelines.apps.collector.keys import Rates, Sender
from pipelines.system.terminal import shown
from pipelines.system.tokens import (
    MOST_TOKENS,
    NAME,
    Watched,
    check_name,
    hash_token,
    is_same,
    names_in_words,
    new_token,
    read_private,
    write_json,
)
from transforms.errors import OptionError

EXAMPLE = "shop"
PREFIX = "ar_"
OPTION = "people_keys"
OVERLAP = timedelta(days=7)  # for which earlier keys of a name stay valid
LONGEST = timedelta(days=366)

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
        sent, now, found = hash_token(key), datetime.now(UTC), None
        for stored in self._file.current().readers:
            if is_same(sent, stored.sha256) and now < stored.until:
                found = Reader(stored.sha256, stored.reads, stored.rate)
        return found

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
    if lasting > LONGEST:
        raise OptionError(f"--for: got {lasting.days} days; allowed: up to {LONGEST.days}")
    stored, now = _read(Path(path)) if Path(path).exists() else Stored(), datetime.now(UTC).replace(microsecond=0)
    kept = [each for each in stored.readers if now < each.until]
    if len(kept) >= MOST_TOKENS:
        raise OptionError(f"--add_reader: {path} has {MOST_TOKENS:,} keys, which is the most; remove some")
    for each in kept:
        if each.name == name:
            each.until = min(each.until, now + OVERLAP)
    key, until = new_token(PREFIX), now + lasting
    write_json(path, Stored([*kept, StoredReader(name, hash_token(key), now, until, tuple(reads), rate)]))
    return key, until


def remove_reader(path: str | Path, name: str) -> int:
    """Remove the keys of a name at once, and return how many there were. Errors: OptionError."""
    stored = _read(Path(path))
    kept = [each for each in stored.readers if each.name != name]
    if len(kept) == len(stored.readers):
        known = sorted({each.name for each in stored.readers}) or ["none, as the file has no key"]
        raise OptionError(f"--remove_reader: got {shown(name)!r}; allowed: {', '.join(known)}")
    write_json(path, Stored(kept))
    return len(stored.readers) - len(kept)


def _read(path: Path) -> Stored:
    """Return what the file holds. Errors: OptionError, which quotes nothing of the file."""
    content = read_private(path, OPTION, "read keys", "make one with --add_reader NAME")
    try:
        stored = msgspec.json.decode(content, type=Stored)
    except (msgspec.DecodeError, UnicodeError):
        raise OptionError(f"--{OPTION}: {path} is no file of read keys; fix it, or use a new file") from None
    if any(not re.fullmatch(NAME, each.name) for each in stored.readers):
        raise OptionError(f"--{OPTION}: {path} has a name that is not allowed; allowed: {names_in_words(EXAMPLE)}")
    return stored
