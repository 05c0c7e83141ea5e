import json

import polars as pl
import pytest

from transforms.block import PARSED_SCHEMA
from transforms.validate import Validator


def parsed(**fields) -> pl.DataFrame:
    """One row that keeps every rule but for `fields`."""
    row = {"event_id": "e1", "event_type": "page_view", "source": "shop", "payload": b"{}", "position": "f:1"} | fields
    return pl.DataFrame([row], schema={**PARSED_SCHEMA, "received_given": pl.Boolean})


@pytest.mark.parametrize(
    ("field", "bad", "code", "good"),
    [
        ("event_id", "", "invalid_event_id", "x"),
        ("event_id", "e" * 129, "invalid_event_id", "é" * 128),
        ("event_id", "tab\tbed", "invalid_event_id", "a b"),
        ("event_type", None, "missing_event_type", "custom_thing_9"),
        ("event_type", "PageView", "invalid_event_type", "a" * 64),
        ("event_type", "a" * 65, "invalid_event_type", "a"),
        ("source", "Web Shop", "invalid_source", "web-shop.eu"),
        ("user_id", "u" * 257, "too_long", "ü" * 256),
        ("referrer", "r" * 2049, "too_long", "r" * 2048),
        ("channel", "fax", "invalid_channel", None),
        ("currency", "eur", "invalid_currency", "EUR"),
        ("text", "é" * 4097, "too_long", "é" * 4096),
    ],
)
def test_each_rule_names_its_field_and_keeps_what_just_fits(field, bad, code, good):
    passed, rejected = Validator()(parsed(**{field: bad}))
    assert passed.is_empty()
    assert rejected["code"].to_list() == [code]
    assert rejected["stage"].to_list() == ["validate"]
    errors = json.loads(rejected["errors"][0])
    assert errors[0]["path"] == f"$.{field}"
    assert bad is None or len(bad) < 2 or bad not in rejected["errors"][0]
    passed, rejected = Validator()(parsed(**{field: good}))
    assert passed[field].to_list() == [good]
    assert rejected.is_empty()


def test_the_first_broken_rule_gives_the_code_and_errors_list_all():
    _, rejected = Validator()(parsed(event_type="No", channel="fax", currency="x"))
    assert rejected["code"].to_list() == ["invalid_event_type"]
    codes = [error["code"] for error in json.loads(rejected["errors"][0])]
    assert codes == ["invalid_event_type", "invalid_channel", "invalid_currency"]


def test_a_bad_row_takes_no_other_with_it():
    block = pl.concat([parsed(event_id="a"), parsed(event_id="b", channel="fax"), parsed(event_id="c")])
    passed, rejected = Validator()(block)
    assert passed["event_id"].to_list() == ["a", "c"]
    assert rejected.height == 1


@pytest.mark.parametrize(
    "text", ["null", "Undefined", "NaN", "[object Object]", "", "0" * 8 + "-0000-0000-0000-" + "0" * 12]
)
def test_an_id_that_stands_for_none_becomes_null_with_a_warning(text):
    passed, _ = Validator()(parsed(user_id=text, anonymous_id="a1"))
    assert passed.select("user_id", "anonymous_id", "warnings").row(0) == (None, "a1", "null_user_id")


def test_a_clean_block_has_no_warnings():
    passed, _ = Validator()(parsed(user_id="u1"))
    assert passed["warnings"].to_list() == [None]
