"""Records in JSON that is not one object a line: arrays, objects over several lines or one behind the other, documents.

    [{..}, {..}]    {..}{..}    {..} {..},    {"page": 1, "events": [{..}, {..}]} with the list `events` stated

Records are objects outside of arrays, the elements of arrays, or the elements of the list that is stated: a document
without that list is a record itself. They are read a piece at a time: an array may have any size, a record at most
RECORD_LIMIT bytes. A record is known by the byte at which it begins, in the text as UTF-8.

What is no JSON costs itself, up to where the next record begins: on a line that is indented no deeper, or, if all is on
one line, with the same first key. All of that is one record, which is refused with its bytes.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np

from pipelines.sources.files.split import Batch
from transforms.json_objects import DEEPEST
from transforms.records.payloads import RECORD_LIMIT

SEEN_LINES = 100  # by which a file is taken to be of lines
NEAR = 64 << 10
MOST_INDENT = 256
MARGIN = 16  # characters before the end of what was read, where a mistake may be that something is cut
_AROUND = re.compile(r"[\s,\ufeff]*")
_OPENING = re.compile(r"[\[{]")
_BLANK = re.compile(r"\s*")
_NESTED = re.compile(r"\[\s*[\[{\]]")
_NEXT_LINE = re.compile(r"\n([ \t]*)[,\[ \t]*\{")
_FIRST_KEY = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"')
_IN_TEXT = re.compile(r'(?:[^"\\]|\\.)*+', re.DOTALL)
_IN_PLAIN, _IN_SCALAR = re.compile(r'[^\[\]{}"]*+'), re.compile(r'[^\[\]{}",]*+')
_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str).raw_decode
_is_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_RECORDS, _DOCUMENTS = "records", "documents"


def is_of_documents(head: bytes, at_end: bool) -> bool:
    """Whether the beginning of a file is JSON other than one object a line; `at_end` if it is all of the file."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:1] not in (b"{", b"["):
        return False
    lines = text.split(b"\n", SEEN_LINES)
    lines = [line for line in (lines if at_end and len(lines) <= SEEN_LINES else lines[:-1]) if line.strip()]
    right = sum(map(_is_whole, lines))
    if lines and right * 2 >= len(lines):
        return False
    if text[:1] == b"[":
        return True
    found = [data for _, data in records(iter([text]), ())]
    known = found if at_end else found[:-1]  # the last may be cut
    objects = sum(map(_is_whole, known))
    return objects == len(known) or objects > right


def _is_whole(data: bytes) -> bool:
    try:
        _is_object(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def batches(
    chunks: Iterable[bytes], path: Sequence[str], block_bytes: int, most_rows: int, offset: int = 0
) -> Iterator[Batch]:
    """The records in a stream of bytes, as many as make a block at a time."""
    held: list[tuple[int, bytes]] = []
    size = 0
    for at, data in records(chunks, path):
        if held and (len(held) >= most_rows or size + len(data) > block_bytes):
            yield _batch(held, offset)
            held, size = [], 0
        held.append((at, data))
        size += len(data)
    if held:
        yield _batch(held, offset)


def _batch(held: list[tuple[int, bytes]], offset: int) -> Batch:
    stops = np.cumsum([len(data) for _, data in held], dtype=np.int64)
    starts = np.concatenate(([0], stops[:-1]))
    offsets = np.array([at for at, _ in held], dtype=np.int64) + offset
    return Batch(b"".join(data for _, data in held), starts, stops, np.zeros(len(held), np.int64), offsets)


def records(chunks: Iterable[bytes], path: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of each record; `path` leads to the list of records in each document, if it is not empty."""
    return _Reader(chunks, tuple(path)).records()


class _Walk(NamedTuple):
    """An object whose keys are read, to find the list at a path in it."""

    path: tuple[str, ...]


class _Lost(NamedTuple):
    """How a record that is no JSON began: the blanks before its line, whether it stood at the beginning of that, and
    the first key of such records."""

    indent: int
    begins_line: bool
    key: str


class _Reader:
    """Reads values one after the other; `text` is what is held of the stream, `at` the place in it."""

    def __init__(self, chunks: Iterable[bytes], path: tuple[str, ...]):
        self.chunks, self.path = iter(chunks), path
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")  # what is no UTF-8 stays as it is
        self.text, self.at, self.at_end = "", 0, False
        self.counted, self.offset = 0, 0  # characters of the text, and the bytes of the stream before them
        self.line = ""  # the beginning of the line in which the text begins
        self.sample = ""  # the beginning of the first record
        self.newline = -1  # the first newline that was found behind a mistake
        self.lost: _Lost | None = None
        self.frames: list[str | _Walk] = [_DOCUMENTS if path else _RECORDS]

    def records(self) -> Iterator[tuple[int, bytes]]:
        while self.lost or self._skip(_AROUND):
            frame, char = self.frames[-1], self.text[self.at : self.at + 1]
            if self.lost:
                yield from self._give_up(self.lost, self.at)
            elif isinstance(frame, _Walk):
                yield from self._read_key(frame)
            elif char in ("]", "}"):  # the second belongs to nothing
                self.at += 1
                if char == "]" and len(self.frames) > 1:
                    self.frames.pop()
            elif char == "[" and self._is_nested():
                self.at += 1
                self.frames.append(frame)
            elif char == "{" and frame == _DOCUMENTS and self._holds_list():
                self.at += 1
                self.frames.append(_Walk(self.path))
            else:
                yield from self._read_record()

    def _read_record(self) -> Iterator[tuple[int, bytes]]:
        if self.newline >= 0 and self.at > NEAR:
            self._hold(0)  # a mistake states its line, which the decoder counts from the beginning of the text
        end, problem = self._end_of_value()
        if problem is None:
            self.sample = self.sample or self.text[self.at : self.at + MOST_INDENT]
            yield self._taken(end)
            return
        begun = self.text.rfind("\n", 0, self.at) + 1
        line = self.text[begun : self.at] if begun else self.line + self.text[: self.at]
        key = _FIRST_KEY.match(self.sample) or _FIRST_KEY.match(self.text, self.at)
        indent = len(line) - len(line.lstrip(" \t"))
        self.lost = _Lost(indent, not line.strip(" \t,["), key[0] if key else "")
        yield from self._give_up(self.lost, max(problem, self.at + 1))

    def _end_of_value(self) -> tuple[int, int | None]:
        """(where the value ends, None), or (0, where it is no JSON, or too long)."""
        while True:
            try:
                end = _decode(self.text, self.at)[1]
            except json.JSONDecodeError as mistake:
                problem = mistake.pos
                is_cut = problem >= len(self.text) - MARGIN or mistake.msg.startswith("Unterminated string")
            except (RecursionError, ValueError):
                deep = islice(_OPENING.finditer(self.text, self.at), DEEPEST, None)
                return 0, next((found.start() for found in deep), self.at)
            else:
                if end < len(self.text) or self.at_end or self.text[self.at] in '{["':
                    return end, None
                problem, is_cut = end, True  # a number may go on
            held = len(self.text) - self.at
            if not is_cut or self.at_end or held > RECORD_LIMIT:
                return 0, problem
            self._hold(2 * held)

    def _give_up(self, lost: _Lost, problem: int) -> Iterator[tuple[int, bytes]]:
        """What stands from here to where the next record begins, as much as shows that it is too long at a time."""
        problem -= self.at
        while True:
            held = len(self.text) - self.at
            is_last = self.at_end or held > RECORD_LIMIT
            end = self._next_start(lost, self.at + problem, is_last)
            if end is not None or is_last:
                break
            self._hold(2 * held + MARGIN)
        self.lost = None if end is not None or self.at_end else lost
        end = len(self.text) if end is None else end
        if self.text[self.at : end].strip(" \t\r\n,"):
            yield self._taken(end)
        self.at = end

    def _next_start(self, lost: _Lost, problem: int, is_last: bool) -> int | None:
        """Where a record begins behind a mistake; `is_last` if no more is read to find it."""
        line = self._next_line(lost, max(self.text.rfind("\n", self.at + 1, problem + 1), self.at))
        if not lost.key or (lost.begins_line and (line is not None or not is_last)):
            return line
        same = self.text.find(lost.key, max(problem, self.at + 1), line)
        return same if same >= 0 else line

    def _next_line(self, lost: _Lost, at: int) -> int | None:
        """Where an object begins a line that is indented no deeper than that of the record that is lost."""
        if not at <= self.newline:
            self.newline = self.text.find("\n", at) % (len(self.text) + 1)
        at = self.newline
        while at < len(self.text):
            found = _NEXT_LINE.match(self.text, at)
            if found and len(found[1]) <= lost.indent:
                return found.end() - 1
            at = self.text.find("\n", at + 1) % (len(self.text) + 1)
        return None

    def _is_nested(self) -> bool:
        """Whether an array holds objects or arrays, or nothing."""
        while not _NESTED.match(self.text, self.at):
            if self.at_end or _BLANK.match(self.text, self.at + 1).end() < len(self.text):  # type: ignore[union-attr]
                return False
            self._hold(2 * (len(self.text) - self.at) + MARGIN)
        return True

    def _holds_list(self) -> bool:
        """Whether a document has the list of records; one that is too long to be a record is taken to have it."""
        _, problem = self._end_of_value()
        if problem is not None:
            return len(self.text) - self.at > RECORD_LIMIT
        value = _decode(self.text, self.at)[0]
        for key in self.path:
            value = value.get(key) if isinstance(value, dict) else None
        return isinstance(value, list)

    def _read_key(self, walk: _Walk) -> Iterator[tuple[int, bytes]]:
        """Read a key of a document and go to its value, or behind it, if it is of no use."""
        if self.text[self.at] == "}":
            self.at += 1
            self.frames.pop()
            return
        end, problem = self._end_of_value()
        if problem is not None or self.text[self.at] != '"':
            self.frames.pop()
            yield from self._read_record()
            return
        key = _decode(self.text, self.at)[0]
        self.at = end
        self._skip(_BLANK)
        self.at += self.text[self.at : self.at + 1] == ":"
        self._skip(_BLANK)
        char, is_last = self.text[self.at : self.at + 1], len(walk.path) == 1
        if walk.path and key == walk.path[0] and char == ("[" if is_last else "{"):
            self.at += 1
            self.frames.append(_RECORDS if is_last else _Walk(walk.path[1:]))
        else:
            self._skip_value()

    def _skip_value(self) -> None:
        """Go behind a value of any size."""
        depth = 0
        while self._skip(_BLANK):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                self._skip_all(_IN_TEXT)
                self.at += 1
            elif char in "[]{}":
                self.at += 1
                depth += 1 if char in "[{" else -1
            else:
                self._skip_all(_IN_PLAIN if depth else _IN_SCALAR)
            if depth <= 0 and (char not in ",:" or self.text[self.at : self.at + 1] in (",", "}", "]")):
                return

    def _skip_all(self, pattern: re.Pattern[str]) -> None:
        """Go behind all that a pattern matches, however much that is."""
        while True:
            self.at = pattern.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.at_end or self.at < len(self.text) - 1:
                return
            self._hold(MARGIN)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go behind what a pattern matches; whether there is more."""
        while True:
            self.at = pattern.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.at < len(self.text):
                return True
            if self.at_end:
                return False
            self._hold(1)

    def _hold(self, size: int) -> None:
        """Forget what is before the place, and read until so many characters are held, or all."""
        gone = self.text[: self.at]
        begun = gone.rfind("\n") + 1
        self.line = (gone[begun:] if begun else self.line + gone)[:MOST_INDENT]
        self.offset, self.counted = self._offset_of(self.at), 0
        held = [self.text[self.at :]]
        length, self.at = len(held[0]), 0
        while length < size and not self.at_end:
            chunk = next(self.chunks, b"")
            self.at_end = not chunk
            held.append(self.decoder.decode(chunk, final=self.at_end))
            length += len(held[-1])
        self.text, self.newline = "".join(held), -1

    def _taken(self, end: int) -> tuple[int, bytes]:
        """(offset, bytes) of the text from here to `end`."""
        start = self.at
        self.offset, self.counted, self.at = self._offset_of(start), start, end
        return self.offset, _encoded(self.text[start:end].rstrip())[: RECORD_LIMIT + 1]

    def _offset_of(self, at: int) -> int:
        return self.offset + len(_encoded(self.text[self.counted : at]))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
