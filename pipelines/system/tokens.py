"""Files of tokens: JSON of mode 0600 that holds only the hash of each token, and is read again when it changes.

    token, hashed = new_token(prefix), hash_token(token)
    content = read_private(path, option, kind, advice)   the bytes of such a file
    write_json(path, value)                              at once, or not at all
    Watched(path, read, refused).current()               what it holds now
    valid(stored, token)                                 the one of the stored tokens that a client sent

The write keys of a collector, and the links and read keys of a live page are such files. No error quotes what a file
holds.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from pipelines.system.private import write_whole
from pipelines.system.terminal import shown
from transforms.errors import OptionError

MOST_BYTES = 1 << 20  # of a file
MOST_TOKENS = 1_000  # of a file: what is sent is compared with each of them
LONGEST = 512  # characters of what a client sends
CHECK_SECONDS = 1.0  # between two looks at a file
MOST_LASTING = timedelta(days=366)  # of a token that must end
NAME = r"[a-z0-9][a-z0-9_.-]{0,63}"


class Stored(Protocol):
    """A token as a file holds it."""

    @property
    def name(self) -> str:
        """Whose it is."""

    @property
    def sha256(self) -> str:
        """Its hash."""

    @property
    def until(self) -> datetime | None:
        """The time from which on it is refused; None: it has no end."""


T = TypeVar("T")
S = TypeVar("S", bound=Stored)


def new_token(prefix: str) -> str:
    """A token of 192 random bits; the prefix shows what it is where it is found."""
    return prefix + secrets.token_urlsafe(24)


def hash_token(token: str) -> str:
    """The hash that a file holds. A plain one is enough: no list of words finds 192 random bits."""
    return hashlib.sha256(token[:LONGEST].encode("utf-8", "surrogateescape")).hexdigest()


def is_same(hashed: str, stored: str) -> bool:
    """Whether two hashes are equal, in the same time for any two."""
    return hmac.compare_digest(hashed, stored)


def names_in_words(example: str) -> str:
    """What NAME allows, for a person."""
    return f"up to 64 lower-case letters, digits, _ . and -, such as {example}"


def check_name(option: str, text: str, example: str) -> str:
    """The name, if it is one. Errors: OptionError."""
    if not re.fullmatch(NAME, text):
        raise OptionError(f"--{option}: got {shown(text)!r}; allowed: {names_in_words(example)}")
    return text


def read_private(path: str | Path, option: str, kind: str, advice: str) -> bytes:
    """The bytes of a file of `kind`, such as keys. Errors: OptionError if it cannot be read, or by others too, or if it
    is too large."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise OptionError(f"--{option}: {path}: {error.strerror}; {advice}") from None
    if mode & 0o077:
        raise OptionError(f"--{option}: {path} has mode {mode:04o}; allowed: 0600; run: chmod 600 FILE")
    if len(content) > MOST_BYTES:
        raise OptionError(f"--{option}: {path} is no file of {kind}: too large; allowed: {MOST_BYTES:,} bytes")
    return content


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, with mode 0600, in place of what was there. Raises OSError."""
    made: bytes = msgspec.json.format(msgspec.json.encode(value), indent=2)
    write_whole(path, made + b"\n")


def read_stored(
    path: Path,
    type: type[T],
    listed: Callable[[T], Iterable[Stored]],
    option: str,
    kind: str,
    add: str,
    example: str,
) -> T:
    """Return what a file of tokens holds. Errors: OptionError, which quotes nothing of the file.

    listed   the tokens of a file of this type
    kind     what they are, such as links; `add`: the option that makes one
    example  a name that is allowed
    """
    content = read_private(path, option, kind, f"make one with --{add} NAME")
    try:
        stored = msgspec.json.decode(content, type=type)
    except (msgspec.DecodeError, UnicodeError):
        raise OptionError(f"--{option}: {path} is no file of {kind}; fix it, or use a new file") from None
    if any(not re.fullmatch(NAME, each.name) for each in listed(stored)):
        raise OptionError(f"--{option}: {path} has a name that is not allowed; allowed: {names_in_words(example)}")
    return stored


def valid(stored: Iterable[S], token: str) -> S | None:
    """The one of the stored tokens that is the token's and has not ended; None without one. Takes as long for every
    token."""
    sent, now, found = hash_token(token), datetime.now(UTC), None
    for each in stored:
        if is_same(sent, each.sha256) and not _has_ended(each, now):
            found = each
    return found


def unended(stored: Iterable[S], now: datetime) -> list[S]:
    """Those of the stored tokens that have not ended."""
    return [each for each in stored if not _has_ended(each, now)]


def without(stored: Sequence[S], name: str, option: str, kind: str) -> list[S]:
    """The stored tokens of other names; `kind`: what one is, such as link. Errors: OptionError if none has the name."""
    kept = [each for each in stored if each.name != name]
    if len(kept) == len(stored):
        known = sorted({each.name for each in stored}) or [f"none, as the file has no {kind}"]
        raise OptionError(f"--{option}: got {shown(name)!r}; allowed: {', '.join(known)}")
    return kept


def ending(lasting: timedelta, now: datetime) -> datetime:
    """The end of a token that is made now. Errors: OptionError if it lasts for too long."""
    if lasting > MOST_LASTING:
        raise OptionError(f"--for: got {lasting.days} days; allowed: up to {MOST_LASTING.days}")
    return now + lasting


def check_room(stored: Sequence[Stored], path: str | Path, option: str, kind: str) -> None:
    """Whether a file has room for one more token; `kind`: what they are, such as links. Errors: OptionError."""
    if len(stored) >= MOST_TOKENS:
        raise OptionError(f"--{option}: {path} has {MOST_TOKENS:,} {kind}, which is the most; remove some")


def _has_ended(stored: Stored, now: datetime) -> bool:
    return stored.until is not None and now >= stored.until


class Watched(Generic[T]):
    """What a file holds; a change is seen within CHECK_SECONDS.

    read     returns the content of the path. Raises OptionError
    refused  what holds from a changed file on that cannot be read, of the error and what held before
    """

    def __init__(self, path: str | Path, read: Callable[[Path], T], refused: Callable[[OptionError, T], T]):
        self.path, self._read, self._refused = Path(path), read, refused
        self._held, self._seen, self._checked = read(self.path), _state(self.path), time.monotonic()

    def current(self) -> T:
        """What holds now."""
        now = time.monotonic()
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            if (state := _state(self.path)) != self._seen:
                self._seen = state
                try:
                    self._held = self._read(self.path)
                except OptionError as error:
                    self._held = self._refused(error, self._held)
        return self._held


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
