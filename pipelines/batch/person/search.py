"""Detect whether a value names a person: plain identifiers, and encoded ones. Pure functions.

    search = Search(["u17", "a@mail.example"])
    search.near(pl.col("text"), pl.String)   a fast condition that every value that names one of them meets
    search.kind(value)                       exactly how a text or bytes name one of them; None if they do not

A value is decoded as often as it is encoded, up to DEPTH times in any order: escapes of JSON and of programming
languages, percent-encoding (also of percent-encoding, and `+` for a space), HTML entities, doubled quotes of CSV, NUL
bytes between characters, UTF-16, and for identifiers of at least LEAST_CODED bytes base64 and hex. Letters are compared
exactly: neither their case nor their Unicode normal form is changed.

A name stands by itself: no letter, digit, underscore or hyphen touches it, unless that character is of a script that
writes no spaces between words. Errors: none, whatever the value.
"""

import base64
import binascii
import html
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus, unquote

import polars as pl

MENTION, ENCODED, INSIDE = "mention", "encoded mention", "inside a longer word"
NAMING = (MENTION, ENCODED)  # the kinds that name the person; INSIDE may be the name of somebody else
DEPTH = 4
LEAST_CODED = 4  # minimum bytes of an identifier to search in base64 and hex: shorter ones occur by chance
LEAST_IN_BINARY = 6  # the same if the decoded bytes are not text
TOGETHER = 500  # values that are decoded as one text, so that most need not be decoded one by one
SEPARATOR = "\x1e"
UNREAD = "\0"

_UNSPACED = "[\u0e00-\U0010ffff]"  # Thai, Chinese, Japanese, Korean and beyond: other letters may touch a name
_BINARY = "[\x00-\x08\x0e-\x1f\ufffd]"  # a length or tag before a text: the adjacent character belongs to it
_LEFT = rf"(?:(?<![\w-])|(?<={_UNSPACED})|(?<={_BINARY}[\w-]))"
_RIGHT = rf"(?:(?![\w-])|(?={_UNSPACED})|(?=[\w-]{_BINARY}))"
# An escape that follows may continue a longer name: the decoded text decides.
_UNDECIDED = r"(?!\\[uUx]|%[0-9A-Fa-fu]|&#?\w+;)"
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL
)
_ENTITY = re.compile(r"&#?\w{1,32};")
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_PERCENT_U = re.compile(r"%u([0-9a-fA-F]{4})")
_BASE64, _HEX = re.compile(r"[A-Za-z0-9+/_-]{5,}"), re.compile(r"[0-9a-fA-F]{8,}")
# The start of an escape, a NUL, and base64 in lines, as in mail.
_ENCODED = r"\\|%[0-9A-Fa-fu]|&#?\w|\x00|[A-Za-z0-9+/_-]{60}[\r\n]"


class Search:
    """A search for `ids`, none of which is empty."""

    def __init__(self, ids: Sequence[str]):
        self.ids = tuple(dict.fromkeys(ids))
        longest_first = "|".join(re.escape(id) for id in sorted(self.ids, key=len, reverse=True))
        self._decoded = re.compile(f"{_LEFT}(?:{longest_first}){_RIGHT}")
        self._raw = re.compile(f"{_LEFT}(?P<id>{longest_first}){_UNDECIDED}{_RIGHT}")
        self._in_json = re.compile(rf"{_LEFT}(?:(?<!\\)|(?![uUxbfnrt]))(?:{longest_first}){_UNDECIDED}{_RIGHT}")
        coded = [id for id in self.ids if len(id.encode()) >= LEAST_CODED]
        self._cores = sorted({core for id in coded for form in _forms(id) for core in _base64_cores(form)})
        self._hex = sorted({form.hex() for id in coded for form in _forms(id)})
        self._spaced = any(" " in id for id in self.ids)
        self._quoted = any('"' in id for id in self.ids)
        as_written = {each for id in self.ids for each in (id, id.replace(" ", "+"), id.replace('"', '""'))}
        self._literals = sorted(as_written | set(self._cores))

    def near(self, column: pl.Expr, dtype: pl.DataType | type[pl.DataType]) -> pl.Expr:
        """Return whether a value of a text or binary column may name a person; never null."""
        text = column.map_batches(_as_strings, pl.String) if dtype == pl.Binary else column
        near = text.str.contains_any(self._literals) | text.str.contains(_ENCODED)
        if self._hex:
            near = near | text.str.contains_any(self._hex, ascii_case_insensitive=True)
        return near.fill_null(False)

    def kinds(self, values: Sequence[str | bytes]) -> list[str | None]:
        """Return the kind of each value."""
        found: list[str | None] = []
        for first in range(0, len(values), TOGETHER):
            part = values[first : first + TOGETHER]
            read = [_as_string(value) if isinstance(value, bytes) else value for value in part]
            plain = [text for text in read if text != UNREAD]
            may = self.kind(SEPARATOR.join(plain)) is not None
            found += [
                self.kind(value) if may or text == UNREAD else None for value, text in zip(part, read, strict=True)
            ]
        return found

    def kind(self, value: str | bytes) -> str | None:
        """Return the first of MENTION, ENCODED, INSIDE that holds."""
        texts = [value] if isinstance(value, str) else list(_texts(value))
        first = texts[0]
        whole = self._in_json if first.lstrip()[:1] in ("{", "[", '"') else self._raw
        inside = self._holds(first)
        if inside and whole.search(first):
            return MENTION
        seen, level = {first}, texts[1:]
        for depth in range(DEPTH + 1):
            held = [text for text in level if self._holds(text)]
            if any(self._decoded.search(text) for text in held):
                return ENCODED
            inside = inside or bool(held)
            seen.update(level)
            below = [first, *level] if depth == 0 else level
            level = [
                text for text in dict.fromkeys(t for text in below for t in self._decode(text)) if text not in seen
            ]
        return INSIDE if inside else None

    def _holds(self, text: str) -> bool:
        return any(id in text for id in self.ids)

    def replace(self, text: str, tokens: dict[str, str]) -> str:
        """Return the text with each plain identifier replaced by its token."""
        return self._raw.sub(lambda match: tokens[match["id"]], text)

    def _decode(self, text: str) -> Iterator[str]:
        """Yield the texts that the text may encode."""
        if "\\" in text:
            yield _ESCAPE.sub(_unescaped, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "%" in text:
            plain = unquote(_PERCENT_U.sub(lambda match: chr(int(match[1], 16)), text))
            yield plain
            if "\ufffd" in plain:
                yield unquote(text, "latin-1")
        if self._spaced and "+" in text:
            yield text.replace("+", " ")
        if "&" in text and ";" in text:
            yield _ENTITY.sub(lambda match: html.unescape(match[0]), text)
        if self._quoted and '""' in text:
            yield text.replace('""', '"')
        if "\0" in text:
            yield text.replace("\0", "")
        yield from self._decode_tokens(text)

    def _decode_tokens(self, text: str) -> Iterator[str]:
        """Yield decoded base64 and hex of a text, if it contains what they would make of an identifier."""
        flat = re.sub(r"[\r\n]+\s*", "", text) if "\n" in text or "\r" in text else text
        for each in dict.fromkeys((text, flat)):
            if any(core in each for core in self._cores):
                for token in _BASE64.findall(each):
                    yield from self._as_text(_base64(token))
        lower = text.lower()
        if any(form in lower for form in self._hex):
            for token in _HEX.findall(text):
                digits = (token[start : start + (len(token) - start) // 2 * 2] for start in (0, 1))
                yield from self._as_text(map(bytes.fromhex, digits))

    def _as_text(self, decoded) -> Iterator[str]:
        for data in decoded:
            for text in _texts(data):
                if text.isprintable() or any(id in text for id in self.ids if len(id.encode()) >= LEAST_IN_BINARY):
                    yield text


def _as_strings(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(values.name, [value and _as_string(value) for value in values], pl.String)


def _as_string(value: bytes) -> str:
    """Return bytes as text, or UNREAD if they may be in another encoding than UTF-8."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return UNREAD
    return UNREAD if "\0" in text else text


def _forms(id: str) -> Iterator[bytes]:
    """Yield the identifier in the encodings that writers may apply before base64 or hex."""
    escaped = "".join(each if each.isascii() else f"\\u{ord(each):04x}" for each in _utf_16_units(id))
    yield from (text.encode() for text in (id, escaped, quote(id, safe=""), quote_plus(id), quote(id, safe="").lower()))
    yield from (id.encode(encoding) for encoding in ("utf-16-le", "utf-16-be"))
    yield from (core.encode() for core in _base64_cores(id.encode()))


def _utf_16_units(text: str) -> Iterator[str]:
    data = text.encode("utf-16-be")
    return (chr(int.from_bytes(data[n : n + 2], "big")) for n in range(0, len(data), 2))


def _base64_cores(data: bytes) -> Iterator[str]:
    """Yield the base64 characters that the bytes alone determine, for each alignment in a longer text."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data).decode()
        core = whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield from {core, core.replace("+", "-").replace("/", "_")}


def _base64(token: str) -> Iterator[bytes]:
    """Yield what a token decodes to: from each of its first four characters on, and the parts between its signs."""
    signs = re.split(r"[+/_-]+", token)
    for text in (*(token[start:] for start in range(4)), *(signs if len(signs) > 1 else ())):
        plain = text.replace("-", "+").replace("_", "/")
        plain = plain[:-1] if len(plain) % 4 == 1 else plain
        try:
            yield base64.b64decode(plain + "=" * (-len(plain) % 4))
        except binascii.Error:
            continue


def _texts(data: bytes) -> Iterator[str]:
    """Yield the texts that bytes may represent: UTF-8 first, then Latin-1 and UTF-16 if it is not valid."""
    text = data.decode("utf-8", "replace")
    yield text
    if "\ufffd" in text:
        yield data.decode("latin-1")
    if "\ufffd" in text or "\0" in text:
        for encoding in ("utf-16-le", "utf-16-be"):
            for start in (0, 1):
                yield data[start:].decode(encoding, "replace")


def _unescaped(match: re.Match) -> str:
    point = match[1] or match[2] or match[3] or match[4]
    if point is None:
        return _CONTROLS.get(match[5], match[5])
    number = int(point, 16)
    return chr(number) if number <= 0x10FFFF else "\ufffd"
