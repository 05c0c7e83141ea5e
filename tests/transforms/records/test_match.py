"""Conditions: each form, over the values of records and over columns."""

from decimal import Decimal

import polars as pl
import pytest

from transforms.block import NUMERIC
from transforms.errors import ConfigError
from transforms.mapping.functions import column_of
from transforms.mapping.spec import load_mapping
from transforms.records.bots import COLUMNS, flag_bots
from transforms.records.match import Criterion, holds

VALUES = [1, "1", True, "true", None, "", "abc", Decimal("1.0"), 2**63, 10]


def fitting(condition, values=VALUES) -> list:
    """The values that a condition, in YAML, fits."""
    mapping = load_mapping(f"source: s\nmatch: {{v: {condition}}}\nfields: {{event_type: {{const: a}}}}", "m.yaml")
    found = holds(mapping.match, lambda _: column_of(values).values)
    assert found.null_count() == 0
    return [value for value, fits in zip(values, found.to_list(), strict=True) if fits]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("1", [1, "1"]),
        ("true", [True, "true"]),
        ("'true'", [True, "true"]),
        ("1.0", [Decimal("1.0")]),
        ("''", [""]),
        ("[abc, 10]", ["abc", 10]),
        ("{pattern: b}", ["abc"]),
        ("{pattern: '^1$'}", [1, "1"]),
        ("{exists: true}", [value for value in VALUES if value is not None]),
        ("{exists: false}", [None]),
        ("{not: 1}", [value for value in VALUES if value not in (1, "1") or value is True or type(value) is Decimal]),
        ("{not: {exists: true}}", [None]),
        ("{above: 1}", [2**63, 10]),
        ("{at_least: 1, below: 10}", [1, "1", Decimal("1.0")]),
        ("{at_most: 1.5, not: 1}", [Decimal("1.0")]),
    ],
)
def test_a_condition_fits_what_it_says(condition, expected):
    assert list(map(repr, fitting(condition))) == list(map(repr, expected))


def test_integers_are_compared_exactly_in_any_company():
    close = [2**53, 2**53 + 1]
    assert fitting(f"{{above: {2**53}}}", close) == [2**53 + 1]
    assert fitting(f"{{above: {2**53}}}", [*close, "x"]) == [2**53 + 1]


def test_all_of_a_map_must_hold_and_any_of_a_list_of_maps():
    frame = pl.DataFrame({"a": ["1", "1", "2"], "b": ["x", "y", "x"]})
    assert holds({"a": 1, "b": "x"}, frame.get_column).to_list() == [True, False, False]
    assert holds(({"a": 2}, {"b": "y"}), frame.get_column).to_list() == [False, True, True]


def test_numbers_of_a_column_are_as_a_person_writes_them():
    for column in (pl.Series([5, None], dtype=NUMERIC), pl.Series([5.0, None]), pl.Series([5, None])):
        assert holds({"v": 5}, lambda _, column=column: column).to_list() == [True, False]
    small = pl.Series([1.5e-20])
    assert holds({"v": Criterion(pattern="^1.5e-20$")}, lambda _: small).to_list() == [True]


def test_bots_are_flagged_and_never_cleared():
    block = pl.DataFrame({"device": ["x Bot", None, "phone"], "user_id": ["a", "b", "crawler"]}).with_columns(
        is_bot=pl.Series([None, True, False])
    )
    bots = ({"device": Criterion(pattern="(?i)bot")}, {"user_id": "crawler"})
    assert flag_bots(block, bots)["is_bot"].to_list() == [True, True, True]
    assert flag_bots(block, ())["is_bot"].to_list() == [None, True, False]
    assert "is_bot" not in COLUMNS


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("{}", "$.match: got nothing in it, allowed one or more"),
        ("[]", "$.match: got nothing in it, allowed one or more"),
        ("[{a: 1}, {}]", "$.match[1]: got nothing in it, allowed one or more"),
        ("{a: []}", "$.match.a: got nothing in it, allowed one or more"),
        ("{a..b: 1}", "$.match: got 'a..b', allowed keys joined by dots"),
        ("{a: null}", "$.match.a: got None, allowed true or false or"),
        ("{a: {}}", "$.match.a: got no condition, allowed one or more of pattern, exists, not, above"),
        ("{a.b: {pattern: '('}}", "$.match['a.b'].pattern: got '(', allowed a regular expression as Rust has them"),
        ("{a: {gt: 1}}", "$.match.a.gt: got the unknown key 'gt', allowed pattern, exists, not, above"),
        ("{a: {above: x}}", "$.match.a.above: got 'x', allowed an integer or a number"),
        ("{a: {below: .inf}}", "$.match.a.below: got inf, allowed a number of at most 18 digits"),
        ("{a: {not: {exists: 1}}}", "$.match.a.not.exists: got 1, allowed true or false"),
    ],
)
def test_a_match_that_is_none_is_refused_with_its_path(match, said):
    with pytest.raises(ConfigError) as refused:
        load_mapping(f"source: s\nmatch: {match}\nfields: {{event_type: {{const: a}}}}", "m.yaml")
    assert str(refused.value).startswith(f"m.yaml: {said}")
