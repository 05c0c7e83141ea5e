"""Functions of a mapping that read a part of a text, or a text as something else. String in, String out."""

from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import msgspec
import polars as pl

from transforms.json_objects import UNREADABLE, check_depth
from transforms.mapping.functions import Column, Failure, column_of, texts_of, trim
from transforms.records.paths import parse_path, read

# What programs write for no value, in lower case.
NULL_LIKE = ("", "-", "null", "(null)", "none", "(none)", "nil", "undefined", "(not set)", "n/a", "nan")
MINUS = "\u2212"
_BLANKS, _APOSTROPHES = " \u00a0\u2009\u202f", "'\u2019"
_GROUPS = {",": "." + _APOSTROPHES + _BLANKS, ".": "," + _APOSTROPHES + _BLANKS + "_"}
_ORIGIN = r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*)"  # scheme and host
_URL_PARTS = {
    "host": r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^/?#:]*)",
    "path": rf"^{_ORIGIN}?([^?#]*)",
    "query": r"^[^?#]*\?([^#]*)",
    "fragment": r"#(.*)$",
}


def groups_of(pattern: str) -> int:
    """How many groups a regular expression has."""
    return len(pl.Series([""]).str.extract_groups(pattern).struct.fields)


def extract(texts: pl.Series, pattern: str) -> pl.Series:
    """The group of a regular expression, or all that it finds if it has none; null where it finds nothing."""
    return texts.str.extract(pattern, groups_of(pattern))


def piece(texts: pl.Series, by: str, at: int) -> pl.Series:
    """The piece at a place, counted from 0, or from -1 backwards; null where there is none."""
    return texts.str.split(by).list.get(at, null_on_oob=True)


def part_of_url(texts: pl.Series, part: str) -> pl.Series:
    """The host (in lower case), path, query or fragment of URLs; null where there is none."""
    found = texts.str.strip_chars().str.extract(_URL_PARTS[part], 1)
    if part == "path":
        return found.replace("", "/").set(texts == "", None)
    found = found.str.to_lowercase() if part == "host" else found
    return found.set((found == "").fill_null(False), None)


def query_parameter(texts: pl.Series, name: str) -> pl.Series:
    """The decoded value of a parameter of the query; null where a URL lacks it."""
    spelled = "|".join(dict.fromkeys(map(pl.escape_regex, (name, quote(name, safe=""), quote_plus(name)))))
    found = texts.str.extract(rf"^[^?#]*\?(?:[^#]*&)??(?:{spelled})=([^&#]*)", 1)
    return _decoded(found, unquote_plus, "%+")


def percent_decode(texts: pl.Series) -> pl.Series:
    """%20 as a blank; bytes that are no UTF-8 become U+FFFD."""
    return _decoded(texts, unquote, "%")


def _decoded(texts: pl.Series, decode: Any, signs: str) -> pl.Series:
    if not texts.str.contains(f"[{signs}]").any():
        return texts
    return pl.Series([None if text is None else decode(text) for text in texts.to_list()], dtype=pl.String)


def without(texts: pl.Series, absent: tuple[str, ...]) -> pl.Series:
    """Null in place of the texts that are no value."""
    return texts.set(trim(texts).is_in([text.strip() for text in absent]).fill_null(False), None)


def without_null_like(texts: pl.Series) -> pl.Series:
    """Null in place of empty texts and of what programs write for no value, in any case: NULL_LIKE."""
    return texts.set(trim(texts).str.to_lowercase().is_in(NULL_LIKE).fill_null(False), None)


# JSON inside a text

_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode


def inside(path: str) -> str:
    """A path into the JSON of a text, whose outermost value may be a list: [0].id."""
    return f"v{path}" if path.startswith("[") else f"v.{path}"


def read_inside(column: Column, path: str) -> Column:
    """The value at a path in JSON texts, or in objects; invalid_json where a text holds none."""
    texts, wrong, values = texts_of(column.values).to_list(), [], []
    for text in texts:
        try:
            payload = (text or "null").strip().encode()
            check_depth(payload)
            values.append(_decode_json(payload or b"null"))
            wrong.append(False)
        except UNREADABLE:
            values.append(None)
            wrong.append(True)
    made = column_of(read([{"v": value} for value in values], parse_path(inside(path))))
    failures = tuple(failure for failure in column.failures if failure.code != "not_a_text")
    if any(wrong):
        failures += (Failure("invalid_json", "a text that is not JSON", pl.Series(wrong, dtype=pl.Boolean)),)
    return Column(made.values, failures + made.failures)


# Numbers as they are written elsewhere


def read_number(values: pl.Series, decimal: str, group: str | None, units: tuple[str, ...]) -> Column:
    """The numbers of texts as JSON writes them; else not_a_number."""
    if values.dtype == pl.Int64:
        return Column(values)
    texts = texts_of(values)
    parts = trim(texts).str.extract_groups(_number_pattern(decimal, group, units)).struct.unnest()
    parenthesized = (pl.col("open") != "") & (pl.col("close") != "")
    lopsided = ((pl.col("open") != "") != (pl.col("close") != "")) | (pl.col("open") != "") & (pl.col("sign") != "")
    digits = pl.col("whole").str.replace_all("[^0-9]", "")
    negative = parenthesized | pl.col("sign").is_in(["-", MINUS])
    number = pl.concat_str(
        pl.when(negative).then(pl.lit("-")).otherwise(pl.lit("")),
        pl.when(digits == "").then(pl.lit("0")).otherwise(digits),
        pl.when(pl.col("places") == "").then(pl.lit("")).otherwise(pl.concat_str(pl.lit("."), "places")),
        pl.col("power"),
    )
    nothing = (digits == "") & (pl.col("places") == "")
    sign = pl.concat_str("outer", "inner").alias("sign")
    filled = parts.with_columns(pl.when(pl.col("whole").is_not_null()).then(pl.all().fill_null(""))).with_columns(sign)
    read_texts = filled.select(
        pl.when(~(lopsided | nothing | (pl.col("sign").str.len_chars() > 1))).then(number).alias("number")
    )["number"]
    wrong = read_texts.is_null() & texts.is_not_null()
    if not wrong.any():
        return Column(read_texts)
    mark = "comma" if decimal == "," else "point"
    message = f"not a number with a decimal {mark}" + (f" and the unit {' or '.join(units)}" if units else "")
    return Column(read_texts.zip_with(~wrong, texts), (Failure("not_a_number", message, wrong),))


@lru_cache(maxsize=64)
def _number_pattern(decimal: str, group: str | None, units: tuple[str, ...]) -> str:
    signs = _GROUPS[decimal] if group is None else group
    grouped = [rf"[0-9]{{1,3}}(?:{pl.escape_regex(sign)}[0-9]{{3}})+" for sign in signs]
    if "," in signs:
        grouped.append("[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")  # as in India: 1,00,000
    unit = "|".join(pl.escape_regex(unit.strip()) for unit in sorted(units, key=len, reverse=True))
    before, behind = (rf"(?:(?:{unit})\s*)?", rf"\s*(?:{unit})?") if units else ("", "")
    whole = "|".join([*grouped, "[0-9]*"])
    return (
        rf"^(?P<open>\(?)\s*(?P<outer>[+{MINUS}-]?)\s*{before}(?P<inner>[+{MINUS}-]?)\s*(?P<whole>{whole})"
        rf"(?:{pl.escape_regex(decimal)}(?P<places>[0-9]*))?(?P<power>(?:[eE][+-]?[0-9]+)?){behind}\s*(?P<close>\)?)$"
    )
