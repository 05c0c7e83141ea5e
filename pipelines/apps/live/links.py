"""Links: who may open the page from elsewhere, each by a token with an end.

    add_link(path, name, lasting)  a new token, which is returned once; the file holds only its hash
    remove_link(path, name)        the links of a name, at once
    Links(path)                    the links of a file, read again when it changes

The token is behind the # of the link, which a browser sends to nobody: the page's script sends it in a header, so that
it is in no log of a server or proxy. The file is JSON of mode 0600.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

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

LONGEST = timedelta(days=366)
EXAMPLE = "board"
PREFIX = "al_"

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Link(msgspec.Struct, forbid_unknown_fields=True):
    """A link as the file holds it; from `until` on it opens nothing."""

    name: str
    sha256: str
    created: Time
    until: Time


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    links: list[Link] = []


class Links:
    """The links of a file. A change is seen within a second; a file that cannot be read opens nothing."""

    def __init__(self, path: str | Path):
        self._file = Watched(path, _read, lambda error, before: Stored())  # what is not known to be allowed is not

    def until(self, token: str) -> datetime | None:
        """When the link of this token ends; None for a token that is unknown or has ended. Takes as long for every
        token."""
        sent, now, found = hash_token(token), datetime.now(UTC), None
        for link in self._file.current().links:
            if is_same(sent, link.sha256) and now < link.until:
                found = link.until
        return found


def add_link(path: str | Path, name: str, lasting: timedelta) -> tuple[str, datetime]:
    """Add a link and return its token and its end; links that have ended are removed. Errors: OptionError."""
    check_name("add_link", name, EXAMPLE)
    if lasting > LONGEST:
        raise OptionError(f"--for: got {lasting.days} days; allowed: up to {LONGEST.days}")
    stored, now = _read(Path(path)) if Path(path).exists() else Stored(), datetime.now(UTC).replace(microsecond=0)
    token = new_token(PREFIX)
    kept = [link for link in stored.links if now < link.until]
    if len(kept) >= MOST_TOKENS:
        raise OptionError(f"--add_link: {path} has {MOST_TOKENS:,} links, which is the most; remove some")
    write_json(path, Stored([*kept, Link(name, hash_token(token), now, now + lasting)]))
    return token, now + lasting


def remove_link(path: str | Path, name: str) -> int:
    """Remove the links of a name at once, and return how many there were. Errors: OptionError."""
    stored = _read(Path(path))
    kept = [link for link in stored.links if link.name != name]
    if len(kept) == len(stored.links):
        known = sorted({link.name for link in stored.links}) or ["none, as the file has no link"]
        raise OptionError(f"--remove_link: got {shown(name)!r}; allowed: {', '.join(known)}")
    write_json(path, Stored(kept))
    return len(stored.links) - len(kept)


def _read(path: Path) -> Stored:
    """Return what the file holds. Errors: OptionError, which quotes nothing of the file."""
    content = read_private(path, "links", "links", "make one with --add_link NAME")
    try:
        stored = msgspec.json.decode(content, type=Stored)
    except (msgspec.DecodeError, UnicodeError):
        raise OptionError(f"--links: {path} is no file of links; fix it, or use a new file") from None
    if any(not re.fullmatch(NAME, link.name) for link in stored.links):
        raise OptionError(f"--links: {path} has a name that is not allowed; allowed: {names_in_words(EXAMPLE)}")
    return stored
