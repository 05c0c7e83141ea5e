"""The files of the page, from templates/live: the same for everybody, without a number in them."""

import gzip
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

_TEXT = "; charset=utf-8"
FILES = {
    "/": ("page.html", "text/html" + _TEXT),
    "/live.js": ("live.js", "text/javascript" + _TEXT),
    "/live.css": ("live.css", "text/css" + _TEXT),
    "/uplot/uPlot.js": ("uplot/uPlot.iife.min.js", "text/javascript" + _TEXT),
    "/uplot/uPlot.css": ("uplot/uPlot.min.css", "text/css" + _TEXT),
    "/uplot/LICENSE": ("uplot/LICENSE", "text/plain" + _TEXT),
}
PERSON_FILES = {
    "/person": ("person.html", "text/html" + _TEXT),
    "/person.js": ("person.js", "text/javascript" + _TEXT),
}


class Content(NamedTuple):
    """A file as it is sent: plain, and by gzip; `tag` tells it from that of another version."""

    plain: bytes
    packed: bytes
    kind: str
    tag: str


@cache
def file_at(path: str) -> Content:
    """The file of a path of FILES or PERSON_FILES."""
    name, kind = (FILES | PERSON_FILES)[path]
    plain = (files("templates") / "live" / name).read_bytes()
    return Content(plain, gzip.compress(plain, mtime=0), kind, f'"{sha256(plain).hexdigest()[:16]}"')
