"""Validate: check each parsed record against the event contract. Pure functions, a part of the step settle.py.

    PARSED_SCHEMA block -> the same block with `warnings`, and what breaks a rule as REJECTED_SCHEMA (stage `validate`)

Adds `warnings` (codes joined by commas): values that are not real identifiers (`undefined`, an all-zero UUID) become
NULL with a warning, instead of one person who did everything.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from transforms.block import REJECTED_SCHEMA, empty
from transforms.contract import (
    CHANNELS,
    ID_ALLOWED,
    ID_CHARACTERS,
    LONGEST,
    PATTERNS,
    TEXT_ALLOWED,
    TEXT_BYTES,
    UNPRINTABLE,
    allowed_channels,
    longest_allowed,
)
from transforms.json_objects import errors_json
from transforms.records.bots import flag_bots
from transforms.records.match import Match
from transforms.stage import rejections

NULL_IDS = (
    "",
    "null",
    "undefined",
    "none",
    "nan",
    "[object object]",
    "00000000-0000-0000-0000-000000000000",
)
_PERSON = ("user_id", "anonymous_id")


class Rule(NamedTuple):
    """A rule of the contract: `breaks` is true where a row breaks it."""

    field: str
    code: str
    message: str
    breaks: pl.Expr


_REQUIRED = (
    Rule(
        "event_id",
        "invalid_event_id",
        ID_ALLOWED,
        ~pl.col("event_id").str.len_chars().is_between(1, ID_CHARACTERS) | pl.col("event_id").str.contains(UNPRINTABLE),
    ),
    Rule("event_type", "missing_event_type", "required", pl.col("event_type").is_null()),
)
_TEXT = Rule("text", "too_long", TEXT_ALLOWED, pl.col("text").str.len_bytes() > TEXT_BYTES)


class Validator:
    """Checks a block. `null_ids` are the values, in lower case, treated as a missing identifier; a record that one of
    `bots` matches is flagged is_bot."""

    def __init__(self, null_ids: Iterable[str] = NULL_IDS, bots: Iterable[Match] = ()):
        self.null_ids, self.bots = tuple(null_ids), tuple(bots)

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (valid rows with `warnings`, the others as REJECTED_SCHEMA)."""
        return validate(null_false_ids(flag_bots(block, self.bots), self.null_ids))

    @property
    def clean(self) -> pl.Expr:
        """Whether a block with flagged bots passes as it is, without a warning: one Boolean. False may be wrong."""
        return _clean(self.null_ids)

    @property
    def unsure(self) -> pl.Expr:
        """Which rows of a block with flagged bots may not pass as they are. True may be wrong."""
        return _unsure(self.null_ids)


@lru_cache(maxsize=16)
def _clean(null_ids: tuple[str, ...]) -> pl.Expr:
    false = [_is_false(name, null_ids).any() for name in _PERSON]
    few = [_few(name).str.contains(pattern).all() for name, (pattern, _) in PATTERNS.items()]
    long = [(pl.col(name).str.len_bytes() > longest).any() for name, longest in LONGEST.items()]
    known = _few("channel").is_in(CHANNELS).all()
    broken = [*false, *(rule.breaks.any() for rule in (*_REQUIRED, _TEXT)), *long]
    return pl.all_horizontal(known, *few, *(~each for each in broken))


@lru_cache(maxsize=16)
def _unsure(null_ids: tuple[str, ...]) -> pl.Expr:
    few = {name: _few(name, in_order=True) for name in (*PATTERNS, "channel")}
    allows = {name: few[name].str.contains(pattern) for name, (pattern, _) in PATTERNS.items()}
    allows["channel"] = few["channel"].is_in(CHANNELS)
    odd = [pl.col(name).is_in(few[name].filter(~allows[name]).implode()) for name in few]
    long = [pl.col(name).str.len_bytes() > longest for name, longest in LONGEST.items()]
    broken = [*odd, *(rule.breaks for rule in (*_REQUIRED, _TEXT)), *long]
    return pl.any_horizontal(
        *(_is_false(name, null_ids) for name in _PERSON), *(each.fill_null(False) for each in broken)
    )


def null_false_ids(block: pl.DataFrame, null_ids: tuple[str, ...]) -> pl.DataFrame:
    """NULL the identifiers that stand for none, and say so in `warnings`."""
    false = {name: _is_false(name, null_ids) for name in _PERSON}
    found = block.select(**{name: expr.any() for name, expr in false.items()})
    if not any(found.row(0)):
        return block.with_columns(warnings=pl.lit(None, pl.String))
    warnings = [pl.when(false[name]).then(pl.lit(f"null_{name}")) for name in _PERSON]
    text = pl.concat_str(warnings, separator=",", ignore_nulls=True)
    return block.with_columns(
        warnings=pl.when(text != "").then(text),
        **{name: pl.when(~false[name]).then(pl.col(name)) for name in _PERSON},
    )


def _is_false(name: str, null_ids: tuple[str, ...]) -> pl.Expr:
    return pl.col(name).str.to_lowercase().is_in(null_ids).fill_null(False)


def validate(block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (valid rows, the others as REJECTED_SCHEMA); the first broken rule gives the code."""
    rules = list(_broken_rules(block))
    if not rules:
        return block, empty(REJECTED_SCHEMA)
    checked = block.with_columns(rule.breaks.fill_null(False).alias(f"_{at}") for at, rule in enumerate(rules))
    marks = [pl.col(f"_{at}") for at in range(len(rules))]
    bad = checked.filter(pl.any_horizontal(marks))
    code = pl.coalesce(pl.when(mark).then(pl.lit(rule.code)) for mark, rule in zip(marks, rules, strict=True))
    errors = [
        pl.when(mark).then(pl.lit(errors_json(f"$.{rule.field}", rule.code, rule.message)[1:-1]))
        for mark, rule in zip(marks, rules, strict=True)
    ]
    joined = pl.concat_str(pl.lit("["), pl.concat_str(errors, separator=",", ignore_nulls=True), pl.lit("]"))
    return checked.filter(~pl.any_horizontal(marks)).select(block.columns), rejections(bad, "validate", code, joined)


def _broken_rules(block: pl.DataFrame) -> Iterable[Rule]:
    """Yield the rules that at least one row breaks, in the order of the contract."""
    yield from _kept(block, *_REQUIRED)
    for name in ("event_type", "source"):
        yield from _pattern(block, name)
    for name, longest in LONGEST.items():
        if block.select((pl.col(name).str.len_bytes() > longest).any()).item():
            yield from _kept(
                block, Rule(name, "too_long", longest_allowed(name), pl.col(name).str.len_chars() > longest)
            )
    yield from _among(block, "channel", lambda values: values.is_in(CHANNELS), allowed_channels())
    yield from _pattern(block, "currency")
    yield from _kept(block, _TEXT)


def _few(name: str, in_order: bool = False) -> pl.Expr:
    """The distinct values of a column that has few; in order, they are the same each time they are asked for."""
    return pl.col(name).drop_nulls().unique(maintain_order=in_order)


def _kept(block: pl.DataFrame, *rules: Rule) -> Iterable[Rule]:
    broken = block.select(rule.breaks.any().alias(str(at)) for at, rule in enumerate(rules)).row(0)
    return [rule for rule, any_row in zip(rules, broken, strict=True) if any_row]


def _pattern(block: pl.DataFrame, name: str) -> Iterable[Rule]:
    pattern, message = PATTERNS[name]
    return _among(block, name, lambda values: values.str.contains(pattern), message)


def _among(block: pl.DataFrame, name: str, allows: Callable[[pl.Series], pl.Series], message: str) -> Iterable[Rule]:
    # These columns have few distinct values: check each value once, not each row.
    values = block[name].unique().drop_nulls()
    bad = values.filter(~allows(values))
    if len(bad):
        yield Rule(name, f"invalid_{name}", message, pl.col(name).is_in(bad.implode()))
