"""JSON objects: decoded and encoded within bounds, and what is wrong with one in the words of quarantine.

Imports neither Beam nor Polars: the collector judges events by it.
"""

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

# Errors that a decoder may raise on hostile bytes; anything else is a bug of ours and stops the run.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation)
FEW_KEYS = 100
SORTED_BYTES = 8 << 10  # of JSON, above which keys are put in order before it is written
DEEPEST = 256  # levels; what the decoder itself can bear depends on how deep the runner's own calls are
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)  # or a text, in which a bracket is none
_CONTAINERS = {dict, list}
_AT = re.compile(r" - at `(\$[^`]*)`$")


class Broken(NamedTuple):
    """The first rule that a record breaks: the path of the field, a code, and what is allowed; never the value."""

    path: str
    code: str
    message: str


decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_encode_sorted = msgspec.json.Encoder(order="deterministic", decimal_format="number").encode
_encode_as_it_is = msgspec.json.Encoder(decimal_format="number").encode


def encode_json(value: Any) -> bytes:
    """Return JSON in UTF-8, with the keys of each object sorted."""
    # msgspec's sort takes quadratic time for keys that are nearly in order, but not for keys that are: ten megabytes of
    # them would take minutes. So what is large is put in order first.
    flat = type(value) is dict and len(value) < FEW_KEYS and _CONTAINERS.isdisjoint(map(type, value.values()))
    large = not flat and len(_encode_as_it_is(value)) > SORTED_BYTES
    return _encode_sorted(_in_order(value) if large else value)


def _in_order(value: Any) -> Any:
    if type(value) is dict:
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(each) for each in value] if type(value) is list else value


def check_depth(payload: bytes) -> None:
    """Errors: msgspec.DecodeError if objects and arrays are nested deeper than DEEPEST."""
    if len(payload) < 2 * DEEPEST or payload.count(b"[") + payload.count(b"{") <= DEEPEST:
        return
    depth = 0
    for found in _BRACKET.finditer(payload):
        first = payload[found.start()]
        depth += 1 if first in b"[{" else -1 if first in b"]}" else 0
        if depth > DEEPEST:
            raise msgspec.DecodeError(f"nested deeper than {DEEPEST} levels")


def error_of(problem: Exception) -> tuple[str, str]:
    """The (code, errors JSON) of a payload that the decoder refused; names the path, never the value."""
    path, code, message = broken_by(problem)
    return code, errors_json(path, code, message)


def broken_by(problem: Exception) -> Broken:
    """The same in parts."""
    return _told(str(problem), isinstance(problem, InvalidOperation), isinstance(problem, msgspec.ValidationError))


@lru_cache(maxsize=1024)  # there may be millions of parse errors, mostly with the same message
def _told(text: str, out_of_range: bool, invalid: bool) -> Broken:
    text = "a number out of range" if out_of_range else text
    at = _AT.search(text)
    if invalid and at and at[1] not in ("$", "$[...]"):
        return Broken(at[1], "wrong_type", _AT.sub("", text))
    return Broken("$", "invalid_json", f"not a JSON object in UTF-8: {_AT.sub('', text)}")


@lru_cache(maxsize=1024)
def errors_json(path: str, code: str, message: str) -> str:
    """One error as the JSON array that the column `errors` holds."""
    return encode_json([{"path": path, "code": code, "message": message}]).decode()
