"""Write keys: who may send events, to which source, and how many per second.

    KeyFile(path)       the keys of a file, read again when the file changes; Secrets(keys): those of webhooks
    add_key(path, ...)  a new key, which is returned once; the file holds only its hash
    Rates()             the events per second of each key

The file is JSON of mode 0600:

    {"keys": [{"name": "web", "source": "shop", "sha256": "...", "created": "2026-03-01T12:00:00Z", "until": null,
      "rate": 500}], "webhooks": {"stripe": {"source": "payments", "secret": "whsec_..."}}}

A name may have several keys: while one replaces another, both are valid until the old one's `until`. The secret of a
webhook is stored as it is, since a signature can be checked with nothing less.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from pipelines.system.tokens import (
    LONGEST,
    MOST_TOKENS,
    NAME,
    Watched,
    check_name,
    hash_token,
    names_in_words,
    new_token,
    read_private,
    unended,
    valid,
    write_json,
)
from transforms.errors import OptionError

EXAMPLE = "web-shop"
PREFIX = "ak_"
LONGEST_KEY = LONGEST  # characters of a secret

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class StoredKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key as the file holds it. `until` is the time from which it is refused, `rate` the events per second."""

    name: str
    source: str
    sha256: str
    created: Time
    until: Time | None = None
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Webhook(msgspec.Struct, forbid_unknown_fields=True):
    """The source of the events of a webhook, and the secret that signs them."""

    source: str
    secret: str

    def __repr__(self) -> str:
        return f"Webhook({self.source!r})"  # what prints it must not print the secret


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    keys: list[StoredKey] = []
    webhooks: dict[str, Webhook] = {}


class Sender(NamedTuple):
    """Who sends a request: the name of the key, the source of its events, and its events per second."""

    name: str
    source: str
    rate: float | None = None


class KeyFile:
    """The keys of a file. A change is seen within a second; a file that is no longer valid changes nothing, and
    `on_error` gets the reason in one line."""

    def __init__(self, path: str | Path, on_error: Callable[[str], None] = lambda line: None):
        self._on_error = on_error
        self._file = Watched(path, _read, self._keep)

    def sender(self, key: str) -> Sender | None:
        """Return who has this key; None for a key that is unknown or expired. Takes as long for every key."""
        found = valid(self._file.current().keys, key)
        return None if found is None else Sender(found.name, found.source, found.rate)

    def webhooks(self) -> dict[str, Webhook]:
        """Return the webhooks by name."""
        return self._file.current().webhooks

    def _keep(self, error: OptionError, before: Stored) -> Stored:
        self._on_error(f"{error}; the keys read before stay valid")
        return before


class Secrets(Mapping[str, str]):
    """The secrets of the webhooks of a file by name, as the file is now; none without a file."""

    def __init__(self, keys: KeyFile | None):
        self._keys = keys

    def __getitem__(self, name: str) -> str:
        return self._webhooks()[name].secret

    def __iter__(self) -> Iterator[str]:
        return iter(self._webhooks())

    def __len__(self) -> int:
        return len(self._webhooks())

    def _webhooks(self) -> dict[str, Webhook]:
        return {} if self._keys is None else self._keys.webhooks()


def add_key(
    path: str | Path, name: str, source: str, rate: float | None = None, overlap: timedelta = timedelta(days=7)
) -> str:
    """Add a key and return it; the other keys of the name expire after `overlap`. Errors: OptionError."""
    stored, now = _read_or_new(path), datetime.now(UTC)
    key = new_token(PREFIX)
    kept = unended(stored.keys, now)
    for each in kept:
        if each.name == name:
            each.until = min(each.until or now + overlap, now + overlap)
    new = StoredKey(
        _named("add_key", name), _named("source", source), hash_token(key), now.replace(microsecond=0), rate=rate
    )
    _write(path, Stored([*kept, new], stored.webhooks))
    return key


def remove_key(path: str | Path, name: str) -> int:
    """Remove the keys and the webhook of a name at once, and return how many there were. Errors: OptionError."""
    stored = _read(Path(path))
    keys = [each for each in stored.keys if each.name != name]
    webhooks = {each: webhook for each, webhook in stored.webhooks.items() if each != name}
    removed = len(stored.keys) - len(keys) + len(stored.webhooks) - len(webhooks)
    if not removed:
        known = sorted({*(each.name for each in stored.keys), *stored.webhooks}) or ["none, as the file has no key"]
        raise OptionError(f"--remove_key: got {name!r}; allowed: {', '.join(known)}")
    _write(path, Stored(keys, webhooks))
    return removed


def add_webhook(path: str | Path, name: str, source: str, secret: str) -> None:
    """Add a webhook, or replace the one of this name. Errors: OptionError."""
    if not 8 <= len(secret) <= LONGEST_KEY or not secret.isprintable():
        allowed = f"8 to {LONGEST_KEY}, all printable"
        raise OptionError(f"--add_webhook: got a secret of {len(secret)} characters; allowed: {allowed}")
    stored = _read_or_new(path)
    webhook = Webhook(_named("source", source), secret)
    _write(path, Stored(stored.keys, stored.webhooks | {_named("add_webhook", name): webhook}))


def _named(option: str, text: str) -> str:
    return check_name(option, text, EXAMPLE)


def _read_or_new(path: str | Path) -> Stored:
    return _read(Path(path)) if Path(path).exists() else Stored()


def _read(path: Path) -> Stored:
    """Return what the file holds. Errors: OptionError, which quotes nothing of the file."""
    content = read_private(path, "keys", "keys", "make one with --add_key NAME --source SOURCE")
    try:
        stored = msgspec.json.decode(content, type=Stored)
    except (msgspec.DecodeError, UnicodeError) as error:
        what = str(error) if isinstance(error, msgspec.ValidationError) else "not JSON"
        raise OptionError(f"--keys: {path} is no file of keys: {_safe(what)}; fix it, or use a new file") from None
    if len(stored.keys) > MOST_TOKENS:
        raise OptionError(f"--keys: {path} has too much; allowed: {MOST_TOKENS:,} keys")
    names = [(each.name, each.source) for each in stored.keys]
    names += [(name, webhook.source) for name, webhook in stored.webhooks.items()]
    if any(not re.fullmatch(NAME, text) for pair in names for text in pair):
        raise OptionError(
            f"--keys: {path} has a name or a source that is not allowed; allowed: {names_in_words(EXAMPLE)}"
        )
    return stored


def _safe(text: str) -> str:
    """A message of msgspec without the key of an unknown field, which may be a secret at the wrong place."""
    return re.sub(r"unknown field `[^`]*`", "an unknown field", text)


def _write(path: str | Path, stored: Stored) -> None:
    if len(stored.keys) > MOST_TOKENS:
        raise OptionError(
            f"--add_key: {path} has {MOST_TOKENS:,} keys, which is the most; remove some with --remove_key"
        )
    write_json(path, stored)


class Rates:
    """A bucket of tokens for each key: `rate` events per second, and BURST_SECONDS of them at once."""

    BURST_SECONDS = 10.0

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}  # key -> (tokens, when they were counted)

    def wait(self, sender: Sender, now: float) -> float:
        """Return the seconds until the key may send again, 0 if it may now; `now` in seconds of a monotonic clock."""
        if sender.rate is None:
            return 0.0
        return max(-self._tokens(sender, now) / sender.rate, 0.0)

    def take(self, sender: Sender, events: int, now: float) -> None:
        """Count events that were read. A batch may take more than there is: the next one waits for it."""
        if sender.rate is not None:
            self._left[sender.name] = self._tokens(sender, now) - events, now

    def _tokens(self, sender: Sender, now: float) -> float:
        assert sender.rate is not None
        most = sender.rate * self.BURST_SECONDS
        tokens, counted = self._left.get(sender.name, (most, now))
        return min(tokens + (now - counted) * sender.rate, most)
