"""Traces: what a field reads and does not keep is in `extra`, at the path that it was read from."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.mapping.test_mapping import mapped, mapping

NAMES = ["한글 이벤트", "購入", "Home | Nav", "Product Viewed", "🎉 party", "2nd_step"]
TYPED = "event_type: {path: e.action, functions: [snake], map: {product_viewed: product_view}, else: other}"


def extras(spec, *records) -> list:
    passed, rejected = mapped(spec, *records)
    assert rejected.is_empty(), rejected["errors"].to_list()
    return [text and json.loads(text) for text in passed["extra"]]


def test_names_that_no_rule_takes_can_still_be_told_apart():
    kept = extras(mapping(TYPED), *({"e": {"action": name}, "b": 1} for name in NAMES))
    assert kept == [{"b": 1} if name == "Product Viewed" else {"b": 1, "e": {"action": name}} for name in NAMES]


@pytest.mark.parametrize(
    ("fields", "record", "left"),
    [
        ("value: {path: price, functions: [number], on_error: null}", {"price": "20,5 EUR"}, {"price": "20,5 EUR"}),
        ("value: {path: price, functions: [number], on_error: null}", {"price": "20.5"}, None),
        ("value: {path: p.at, on_error: null}", {"p": {"at": {"eur": 5}, "x": 1}}, {"p": {"at": {"eur": 5}, "x": 1}}),
        ("rating: {path: r, on_error: null}", {"r": [1, 2]}, {"r": [1, 2]}),
        ("quantity: {path: n, on_error: null}", {"n": 1.5}, {"n": "1.5"}),
        ("is_bot: {path: b, map: {yes: true}, default: false}", {"b": "perhaps"}, {"b": "perhaps"}),
        ("is_bot: {path: b, map: {yes: true}, default: false}", {}, None),
        ("event_time: {path: t.at}", {"t": {"at": "soon"}}, {"t": {"at": "soon"}}),
        ("event_time: {path: t, time: s}", {"t": 10**15}, {"t": str(10**15)}),
        ("event_time: {path: t, time_zone: {path: tz}}", {"t": "2026-03-01 10:00:00", "tz": "Mars"}, ...),
        ("event_time: {path: t}", {"t": "2026-03-01T10:00:00Z"}, None),
        (
            "category: {coalesce: [{path: a}, {path: b}], map: {x: y}, else: z}",
            {"a": "k", "b": "x"},
            {"a": "k", "b": "x"},
        ),
        ("user_id: {hash: [{path: mail}], map: {x: y}, else: z}", {"mail": "a@b.c"}, None),
        ("category: {path: 'c[0]', map: {x: y}, else: z}", {"c": ["k", "l"]}, {"c": ["k", "l"]}),
    ],
)
def test_a_value_that_is_read_and_not_kept_is_in_extra(fields, record, left):
    assert extras(mapping(fields), record, {}) == [record if left is ... else left, None]


@given(st.lists(st.sampled_from([*NAMES, None, 7, True, {"a": 1}, ["b"]]), max_size=12), st.integers(0, 12))
def test_where_a_block_is_cut_does_not_matter_to_traces(names, cut):
    spec = mapping(f"{TYPED[:-1]}, on_error: null, default: other}}")
    records = [{} if name is None else {"e": {"action": name}} for name in names]
    whole = extras(spec, *records)
    texts = {7: "7", True: "true"}
    assert [at and at["e"]["action"] for at in whole] == [
        None if name in (None, "Product Viewed") else texts.get(name, name) if type(name) in (int, bool) else name
        for name in names
    ]
    assert whole == extras(spec, *records[:cut]) + extras(spec, *records[cut:])
