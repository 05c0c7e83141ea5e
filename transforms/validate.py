"""Validate: check each parsed record against the event contract.

    PCollection[PARSED_SCHEMA block] -> passed: PCollection[the same block], rejected (stage `validate`)

Adds `warnings` (codes joined by commas): values that are not real identifiers (`undefined`, an all-zero UUID) become
NULL with a warning, instead of one person who did everything.
State   none
Emits   at once
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import polars as pl

from transforms.block import REJECTED_SCHEMA, empty
from transforms.records.bots import flag_bots
from transforms.records.match import Match
from transforms.records.payloads import errors_json
from transforms.stage import RecordFilter, rejections

CHANNELS = ("web", "mobile", "social", "iot", "email", "pos", "server", "other")
NULL_IDS = (
    "",
    "null",
    "undefined",
    "none",
    "nan",
    "[object object]",
    "00000000-0000-0000-0000-000000000000",
)
TEXT_BYTES = 8192
_LONGEST = {
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "content_id", "content_type", "category"), 256),
    **dict.fromkeys(("campaign", "country", "device"), 256),
    "referrer": 2048,
}


class Rule(NamedTuple):
    """A rule of the contract: `breaks` is true where a row breaks it."""

    field: str
    code: str
    message: str
    breaks: pl.Expr


def validator(null_ids: Iterable[str] = NULL_IDS, bots: Iterable[Match] = ()) -> RecordFilter:
    """Return the filter for `Validate`; `null_ids` are the values, in lower case, treated as a missing identifier.

    A record that one of `bots` matches is flagged is_bot.
    """
    return _Validator(tuple(null_ids), tuple(bots))


class _Validator:
    """A picklable filter."""

    def __init__(self, null_ids: tuple[str, ...], bots: tuple[Match, ...]):
        self.null_ids, self.bots = null_ids, bots

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        return validate(null_false_ids(flag_bots(block, self.bots), self.null_ids))


def null_false_ids(block: pl.DataFrame, null_ids: tuple[str, ...]) -> pl.DataFrame:
    """NULL the identifiers that stand for none, and say so in `warnings`."""
    names = ("user_id", "anonymous_id")
    false = {name: pl.col(name).str.to_lowercase().is_in(null_ids).fill_null(False) for name in names}
    found = block.select(**{name: expr.any() for name, expr in false.items()})
    if not any(found.row(0)):
        return block.with_columns(warnings=pl.lit(None, pl.String))
    warnings = [pl.when(false[name]).then(pl.lit(f"null_{name}")) for name in names]
    text = pl.concat_str(warnings, separator=",", ignore_nulls=True)
    return block.with_columns(
        warnings=pl.when(text != "").then(text),
        **{name: pl.when(~false[name]).then(pl.col(name)) for name in names},
    )


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
    event_id = pl.col("event_id")
    yield from _kept(
        block,
        Rule(
            "event_id",
            "invalid_event_id",
            "1 to 128 printable characters",
            ~event_id.str.len_chars().is_between(1, 128) | event_id.str.contains(r"\p{C}"),
        ),
        Rule("event_type", "missing_event_type", "required", pl.col("event_type").is_null()),
    )
    yield from _pattern(block, "event_type", r"^[a-z][a-z0-9_]{0,63}$", "like page_view: ^[a-z][a-z0-9_]{0,63}$")
    yield from _pattern(block, "source", r"^[a-z0-9][a-z0-9_.-]{0,63}$", "like web-shop: ^[a-z0-9][a-z0-9_.-]{0,63}$")
    for name, longest in _LONGEST.items():
        if block.select((pl.col(name).str.len_bytes() > longest).any()).item():
            message = f"at most {longest} characters"
            yield from _kept(block, Rule(name, "too_long", message, pl.col(name).str.len_chars() > longest))
    yield from _among(block, "channel", lambda values: values.is_in(CHANNELS), f"one of {', '.join(CHANNELS)}")
    yield from _pattern(block, "currency", "^[A-Z]{3}$", "three capital letters, ISO 4217")
    too_long = pl.col("text").str.len_bytes() > TEXT_BYTES
    yield from _kept(block, Rule("text", "too_long", f"at most {TEXT_BYTES} bytes of UTF-8", too_long))


def _kept(block: pl.DataFrame, *rules: Rule) -> Iterable[Rule]:
    broken = block.select(rule.breaks.any().alias(str(at)) for at, rule in enumerate(rules)).row(0)
    return [rule for rule, any_row in zip(rules, broken, strict=True) if any_row]


def _pattern(block: pl.DataFrame, name: str, pattern: str, message: str) -> Iterable[Rule]:
    return _among(block, name, lambda values: values.str.contains(pattern), message)


def _among(block: pl.DataFrame, name: str, allows: Callable[[pl.Series], pl.Series], message: str) -> Iterable[Rule]:
    # These columns have few distinct values: check each value once, not each row.
    values = block[name].unique().drop_nulls()
    bad = values.filter(~allows(values))
    if len(bad):
        yield Rule(name, f"invalid_{name}", message, pl.col(name).is_in(bad.implode()))
