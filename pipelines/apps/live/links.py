"""Links: who may open the page from elsewhere, each by a token with an end.

    add_link(path, name, lasting)  a new token, which is returned once; the file holds only its hash
    remove_link(path, name)        the links of a name, at once
    Links(path)                    the links of a file, read again when it changes

The token is behind the # of the link, which a browser sends to nobody: the page's script sends it in a header, so that
it is in no log of a server or proxy. The file is JSON of mode 0600.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

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
        link = valid(self._file.current().links, token)
        return None if link is None else link.until


def add_link(path: str | Path, name: str, lasting: timedelta) -> tuple[str, datetime]:
    """Add a link and return its token and its end; links that have ended are removed. Errors: OptionError."""
    check_name("add_link", name, EXAMPLE)
    now = datetime.now(UTC).replace(microsecond=0)
    until = ending(lasting, now)
    stored = _read(Path(path)) if Path(path).exists() else Stored()
    kept = unended(stored.links, now)
    check_room(kept, path, "add_link", "links")
    token = new_token(PREFIX)
    write_json(path, Stored([*kept, Link(name, hash_token(token), now, until)]))
    return token, until


def remove_link(path: str | Path, name: str) -> int:
    """Remove the links of a name at once, and return how many there were. Errors: OptionError."""
    stored = _read(Path(path))
    kept = without(stored.links, name, "remove_link", "link")
    write_json(path, Stored(kept))
    return len(stored.links) - len(kept)


def _read(path: Path) -> Stored:
    return read_stored(path, Stored, lambda stored: stored.links, "links", "links", "add_link", EXAMPLE)
