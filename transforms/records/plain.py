"""Plain records: native JSON of the forms that programs write, made into columns without an object for each value.

    payloads -> read_plain -> Plain: which of them are plain, and what those state, as columns

One regular expression decides which records are plain: an object of the fields of the contract, each of its own type,
without an escape, with times in UTC to the second, milli- or microsecond, and numbers that are exact. Where the values
of a plain record are follows from its quotes alone, so NumPy finds those of thousands of records at a time and Arrow
copies them. Both release the interpreter's lock. A record that is not plain, or states a key twice or no `event_id`, is
left to msgspec (native.py), whose result for a plain record is the same.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from transforms.block import FIELDS, NUMERIC
from transforms.records.times import read_alike

CHUNK_ROWS = 4_096  # whose places are found at a time: they stay in the processor's cache
TIMES = {"event_time": "client_time", "sent_time": "sent_time", "received_time": "received_time"}
_NUMBERS = ("value", "quantity", "sequence", "rating")
_TEXTS = tuple(name for name, dtype in FIELDS.items() if dtype == pl.String and name not in ("properties", "extra"))
NAMES = (*_TEXTS, "source", *TIMES, *_NUMBERS, "is_bot", "properties")
_ID = NAMES.index("event_id")
_QUOTE, _COLON, _BLANK, _OPEN, _CLOSE, _NULL, _TRUE = b'": {}nt'
MOST_ASCII = 127
NO_END = -(1 << 40)  # of a null

# No string begins with a colon, so a quote before a colon ends a key.
_TEXT = r'"(?:[^":\\\x00-\x1f][^"\\\x00-\x1f]*)?"'
_INSIDE = r'"(?:[^":\\{}\x00-\x1f][^"\\{}\x00-\x1f]*)?"'
_WHOLE = r"(?:0|[1-9][0-9]{0,14})"
_NUMBER = rf"{_WHOLE}(?:\.[0-9]{{1,9}})?"
_DAY = (
    r"(?:(?:19[7-9]|20[0-9]|21[0-9])[0-9]-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:20(?:0[048]|[2468][048]|[13579][26])|19(?:[8][048]|[79][26]))-02-29)"
)
_TIME = rf'"{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{3}}(?:[0-9]{{3}})?)?Z"'
_MEMBER = rf"{_INSIDE}: ?(?:{_INSIDE}|-?{_NUMBER}|true|false|null)"
_FORMS = {
    _TEXT: (*_TEXTS, "source"),
    _TIME: tuple(TIMES),
    rf"-?{_NUMBER}": ("value",),
    _NUMBER: ("rating",),
    rf"-?{_WHOLE}": ("quantity", "sequence"),
    "true|false": ("is_bot",),
    rf"\{{(?:{_MEMBER}(?:, ?{_MEMBER})*)?\}}": ("properties",),
}
_FIELD = "|".join(rf'"(?:{"|".join(map(re.escape, names))})": ?(?:{form}|null)' for form, names in _FORMS.items())
PLAIN = rf"^\{{(?:{_FIELD})(?:, ?(?:{_FIELD}))*\}}$"


class Plain(NamedTuple):
    """Which payloads are plain, and what those state: a column for each field that any of them states, by its name, a
    time by that of the parsed block."""

    rows: np.ndarray
    columns: dict[str, pl.Series]


def read_plain(payloads: pl.Series) -> Plain | None:
    """Read the plain ones of a block of payloads; None if they are less than half."""
    rows, texts = _valid(payloads)
    matches = texts.str.contains(PLAIN).fill_null(False)
    if 2 * int(matches.sum()) < len(payloads):
        return None
    rows[rows] = matches.to_numpy()
    array = (texts if matches.all() else texts.filter(matches)).to_arrow()
    places = _places(array)
    columns = {name: column for name in NAMES for name, column in _column(places, name)}
    unsure = places.find_unsure()
    if len(unsure):
        sure = np.ones(len(array), bool)
        sure[unsure] = False
        rows[rows] = sure
        columns = {name: column.filter(pl.Series(sure)) for name, column in columns.items()}
    return Plain(rows, columns)


def _valid(payloads: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """(which payloads are UTF-8, those as String)."""
    rows = np.ones(len(payloads), bool)
    try:
        return rows, payloads.cast(pl.String)
    except pl.exceptions.PolarsError:
        array = payloads.to_arrow()
        content, offsets = _buffers(array)
        odd = np.flatnonzero(content[: offsets[-1]] > MOST_ASCII)
        for row in np.unique(np.searchsorted(offsets, odd, "right") - 1).tolist():
            rows[row] = _is_text(array[row].as_py())
        return rows, payloads.filter(pl.Series(rows)).cast(pl.String)


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _buffers(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(the bytes, where each value begins and the last one ends) of large strings or binaries."""
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(array.buffers()[2], np.uint8), offsets


class _Members(NamedTuple):
    """What records state, a member of an object each: its field and row, and where the value begins and ends in the
    bytes. A null ends before it begins."""

    fields: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    def select(self, members: np.ndarray | slice) -> "_Members":
        """Return some of them."""
        return _Members(*(column[members] for column in self))


class _Places(NamedTuple):
    """The members of `height` plain records by field, each in the order of rows."""

    data: pa.Buffer
    height: int
    members: list[_Members]

    def find_unsure(self) -> np.ndarray:
        """Return the rows that are to be read by msgspec: of records that state a key twice, or no id."""
        twice = [of.rows[1:][of.rows[1:] == of.rows[:-1]] for of in self.members]
        ids = self.members[_ID]
        nameless = np.ones(self.height, bool)
        nameless[ids.rows[ids.ends >= ids.begins]] = False
        return np.concatenate([*twice, np.flatnonzero(nameless)])

    def texts(self, of: _Members) -> pa.Array:
        """Return the values of a field as large strings, NULL where there is none."""
        count = len(of.rows)
        bounds = np.empty(2 * count + 1, np.int64)
        bounds[:-1:2], bounds[1::2], bounds[-1] = of.begins, of.ends, of.ends[-1]
        # Every second of these strings is a value, the others are what is between two.
        strings = pa.LargeStringArray.from_buffers(2 * count, pa.py_buffer(bounds), self.data)
        numbers = np.arange(0, 2 * count, 2)
        if count == self.height and (of.rows == np.arange(count)).all():
            return strings.take(pa.array(numbers))
        index, missing = np.zeros(self.height, np.int64), np.ones(self.height, bool)
        index[of.rows], missing[of.rows] = numbers, False
        return strings.take(pa.array(index, mask=missing))


def _places(array: pa.Array) -> _Places:
    content, offsets = _buffers(array)
    found = []
    for first in range(0, len(array), CHUNK_ROWS):
        bounds = offsets[first : first + CHUNK_ROWS + 1]
        part = _members_of(content[bounds[0] : bounds[-1]], bounds - bounds[0])
        found.append(part._replace(rows=part.rows + first, begins=part.begins + bounds[0], ends=part.ends + bounds[0]))
    members = _Members(*map(np.concatenate, zip(*found, strict=True)))
    members = members.select(np.argsort(members.fields, kind="stable"))
    limits = np.searchsorted(members.fields, np.arange(len(NAMES) + 1))
    by_field = [members.select(slice(*pair)) for pair in pairwise(limits)]
    return _Places(array.buffers()[2], len(array), by_field)


def _members_of(content: np.ndarray, bounds: np.ndarray) -> _Members:
    """The members of plain records whose bytes lie one behind another; record n is at bounds[n : n + 2]."""
    quotes = np.flatnonzero(content == _QUOTE)
    closing = np.flatnonzero(content[quotes + 1] == _COLON)
    opening, keys, last = quotes[closing - 1], quotes[closing], len(quotes) - 1
    # A key inside `properties` may have any number: it is left out below.
    codes = _code(content[opening + 1].astype(np.int64), content[keys - 2], keys - opening - 1)
    rows = np.repeat(np.arange(len(bounds) - 1), np.diff(np.searchsorted(keys, bounds)))
    begins = keys + 2
    begins += content[begins] == _BLANK
    kinds = content[begins]
    members = _Members(_by_code()[codes], rows, begins + 1, quotes[np.minimum(closing + 2, last)])
    bare = np.flatnonzero(kinds != _QUOTE)
    if not len(bare):
        return members
    # What is no text ends before the comma in front of the next key, or before the brace that ends its record.
    following = np.where(closing[bare] < last, quotes[np.minimum(closing[bare] + 1, last)], len(content))
    following -= 1 + (content[following - 1] == _BLANK)
    members.begins[bare] = begins[bare]
    members.ends[bare] = np.minimum(following, bounds[1:][rows[bare]] - 1)
    members.ends[bare[kinds[bare] == _NULL]] = NO_END
    return _without_inner(members, content, keys, bare[kinds[bare] == _OPEN])


def _without_inner(members: _Members, content: np.ndarray, keys: np.ndarray, objects: np.ndarray) -> _Members:
    """The members without those of the `objects` among them, which end at their first closing brace."""
    if not len(objects):
        return members
    braces = np.flatnonzero(content == _CLOSE)
    members.ends[objects] = braces[np.searchsorted(braces, members.begins[objects])] + 1
    depth = np.zeros(len(keys) + 1, np.int8)
    depth[objects + 1] = 1
    np.subtract.at(depth, np.searchsorted(keys, members.ends[objects]), 1)
    return members.select(np.cumsum(depth[:-1], dtype=np.int8) == 0)


@lru_cache(maxsize=1)
def _by_code() -> np.ndarray:
    numbers = np.zeros(256, np.int8)
    codes = [_code(ord(name[0]), ord(name[-2]), len(name)) for name in NAMES]
    if len(set(codes)) < len(codes):
        raise ValueError("two fields have one code: change the factors of _code")
    numbers[codes] = range(len(NAMES))
    return numbers


def _code(first, last_but_one, size):
    """A number below 256 that tells the names of the fields apart by two of their letters and their size."""
    return (first + last_but_one * 3 + size * 22) & 255


def _column(places: _Places, name: str) -> list[tuple[str, pl.Series]]:
    of = places.members[NAMES.index(name)]
    of = of.select(of.ends >= of.begins)
    if not len(of.rows):
        return []
    if name == "is_bot":
        numbers = np.full(places.height, -1, np.int8)
        numbers[of.rows] = np.frombuffer(places.data, np.uint8)[of.begins] == _TRUE
        found = pl.Series(numbers)
        return [(name, (found == 1).set(found < 0, None))]
    texts = places.texts(of)
    if name in TIMES:
        return [(TIMES[name], read_alike(texts))]
    column = pl.Series(name, texts)
    dtype = NUMERIC if name == "value" else FIELDS.get(name, pl.String)
    return [(name, column if dtype == pl.String else column.cast(dtype))]
