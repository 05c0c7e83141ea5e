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
        ("event_time: {path: t, time: ns}", {"t": 1_700_000_000_123_456_789}, {"t": "1700000000123456789"}),
        ("event_time: {path: t, time: ns}", {"t": 1_700_000_000_123_456_000}, None),
        ("event_time: {path: t, time: us}", {"t": "1700000000123456.70"}, {"t": "1700000000123456.70"}),
        ("event_time: {path: t, time: ms}", {"t": "1700000000123.4560"}, None),
        ("event_time: {path: t, time: ms}", {"t": "1700000000123.4561"}, {"t": "1700000000123.4561"}),
        ("event_time: {path: t, time: s}", {"t": "1700000000.0000005"}, {"t": "1700000000.0000005"}),
        ("event_time: {path: t, time: s}", {"t": "1.7000000000000005e9"}, {"t": "1.7000000000000005e9"}),
        ("event_time: {path: t, time: s}", {"t": "1.7000000000000E9"}, None),
        ("event_time: {path: t, time: s}", {"t": 1_700_000_001}, None),
        ("event_time: {path: t}", {"t": "2026-03-01T10:00:00.123456001Z"}, {"t": "2026-03-01T10:00:00.123456001Z"}),
        ("event_time: {path: t}", {"t": "2026-03-01 10:00:00,1234560000"}, None),
        ("event_time: {path: t, time: '%d.%m.%Y %H:%M:%S.%f'}", {"t": "01.03.2026 10:00:00.1234567"}, ...),
        ("event_time: {path: t, time: '%d.%m.%Y %H:%M:%S.%f'}", {"t": "01.03.2026 10:00:00.123456"}, None),
        ("event_time: {path: t, time: '%d.%m.%Y %H:%M:%S,%f'}", {"t": "01.03.2026 10:00:00,1234560001"}, ...),
        ("event_time: {path: t, time: '%Y%m%d%H%M%S%9f'}", {"t": "20260301100000123456789"}, ...),
        ("event_time: {path: t, time: '%Y%m%d%H%M%S%9f'}", {"t": "20260301100000123456000"}, None),
        (
            "event_time: {sum: [{path: s}, {path: n, scale: 0.000000001}], time: s}",
            {"s": 1_700_000_000, "n": 5},
            {"s": "1700000000", "n": "5"},
        ),
        ("user_id: {hash: [{path: mail}], map: {x: y}, else: z}", {"mail": "a@b.c"}, None),
        ("category: {path: 'c[0]', map: {x: y}, else: z}", {"c": ["k", "l"]}, {"c": ["k", "l"]}),
    ],
)
def test_a_value_that_is_read_and_not_kept_is_in_extra(fields, record, left):
    assert extras(mapping(fields), record, {}) == [record if left is ... else left, None]


@pytest.mark.parametrize(
    ("form", "record", "value", "left"),
    [
        ("coalesce: [{path: a}, {path: b}]", {"a": "N/A", "b": "x"}, "x", {"a": "N/A"}),
        ("coalesce: [{path: a}, {path: b}]", {"a": "x", "b": "y"}, "x", {"b": "y"}),
        ("coalesce: [{path: a}, {path: b}]", {"a": "x", "b": "x"}, "x", None),
        ("coalesce: [{path: a}, {path: b}]", {"a": 3, "b": "3"}, "3", None),
        ("coalesce: [{path: a}, {path: b}]", {"a": " ", "b": "-"}, None, {"b": "-"}),
        ("coalesce: [{path: a}, {path: b}]", {"a": None, "b": ""}, None, None),
        ("coalesce: [{path: a}, {const: none}]", {"a": "null"}, "none", {"a": "null"}),
        ("coalesce: [{path: a}, {const: '-'}]", {"a": "-"}, "-", None),
        ("coalesce: [{path: a, functions: [absent]}, {path: b}]", {"a": "N/A", "b": "x"}, "x", None),
        ("coalesce: [{path: a, functions: [{absent: [x]}]}, {path: b}]", {"a": "x", "b": "y"}, "y", None),
        ("coalesce: [{path: a, functions: [upper]}, {path: b}]", {"a": "x", "b": "X"}, "X", None),
        ("coalesce: [{path: a}], functions: [upper]", {"a": "x"}, "X", None),
        ("coalesce: [{path: a}], functions: [upper], default: no", {"a": "nil"}, "no", {"a": "nil"}),
        ("coalesce: [{path: a.b}, {path: c}]", {"a": {"b": "n/a", "d": 1}, "c": "x"}, "x", {"a": {"b": "n/a", "d": 1}}),
        ("coalesce: [{path: a}, {path: b}]", {"a": "x", "b": {"c": [1.5]}}, "x", {"b": {"c": [1.5]}}),
        ("coalesce: [{path: 'a[0]'}, {path: b}]", {"a": ["-", 2], "b": "x"}, "x", {"a": ["-", 2]}),
        ("coalesce: [{path: e.a}, {path: e}]", {"e": {"a": "x", "b": 1}}, "x", {"e": {"a": "x", "b": 1}}),
        ("coalesce: [{path: user}, {path: b}]", {"user": "-", "b": "x"}, "x", None),
        ("coalesce: [{path: mail}, {path: b}]", {"mail": "n/a", "b": "x"}, "x", None),
        ("coalesce: [{path: cut}, {path: b}]", {"cut": "-", "b": "x"}, "x", {"cut": "-"}),
        ("cases: [{when: {k: a}, path: a}, {path: b}]", {"k": "a", "a": "x", "b": "y"}, "x", {"k": "a", "b": "y"}),
        ("cases: [{when: {k: a}, path: a}, {path: b}]", {"a": "x", "b": "y"}, "y", {"a": "x"}),
        ("cases: [{when: {k: a}, path: a}]", {"a": "x"}, None, {"a": "x"}),
        ("cases: [{when: {k: a}, path: a}, {path: b}]", {"a": "y", "b": "y"}, "y", None),
    ],
)
def test_what_is_not_chosen_is_in_extra_unless_it_says_nothing_or_is_kept(form, record, value, left):
    beside = "user_id: {path: user}, session_id: {hash: [{path: mail}]}, device: {path: cut, functions: [{url: host}]}"
    spec = mapping(f"content_id: {{{form}}}, {beside}")
    assert mapped(spec, record)[0]["content_id"].to_list() == [value]
    assert extras(spec, record, {}) == [left, None]


def test_a_time_that_is_not_chosen_is_in_extra():
    spec = mapping("event_time: {coalesce: [{path: a}, {path: b}]}")
    noon, later = "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"
    records = {"a": "-", "b": noon}, {"a": noon, "b": later}, {"a": noon, "b": noon}
    assert extras(spec, *records) == [{"a": "-"}, {"b": later}, None]


def test_reading_a_trace_changes_no_other_field():
    spec = mapping(
        "event_time: {path: t, time: s}, content_id: {path: t}, category: {coalesce: [{path: a}, {path: t}]}"
    )
    passed, _ = mapped(spec, {"t": "1.7000000000000005e9", "a": "x"}, {"t": "1700000000"})
    assert passed["content_id"].to_list() == ["1.7000000000000005e9", "1700000000"]
    assert passed["category"].to_list() == ["x", "1700000000"]


SAID = st.sampled_from([None, "", " ", "-", "N/A", "x", "y", 3, "3", True, 1.5, {"c": 1}, ["x"]])


@given(st.lists(st.tuples(SAID, SAID), max_size=10), st.integers(0, 10))
def test_where_a_block_is_cut_does_not_matter_to_what_is_not_chosen(pairs, cut):
    spec = mapping("content_id: {coalesce: [{path: a}, {path: b.b}], on_error: null}")
    records = [{"a": one, "b": {"b": other}} for one, other in pairs]
    whole = extras(spec, *records)
    assert whole == extras(spec, *records[:cut]) + extras(spec, *records[cut:])
    for pair, left in zip(pairs, whole, strict=True):
        if not any(type(value) in (dict, list) for value in pair):
            assert (left or {}) == expected_of(*map(text_of, pair))


def text_of(value) -> str | None:
    return value if value is None or type(value) is str else json.dumps(value)


def expected_of(one: str | None, other: str | None) -> dict:
    """What `coalesce: [{path: a}, {path: b.b}]` leaves of two texts."""
    chosen = next((text for text in (one, other) if text not in (None, "", " ", "-", "N/A")), None)
    left_a = {"a": one} if one and one.strip() and one != chosen else {}
    return left_a | ({"b": {"b": other}} if other and other.strip() and other != chosen else {})


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


def test_what_properties_keep_and_what_a_hash_reads_in_part_leave_no_trace():
    value = "value: {coalesce: [{path: p.revenue}, {path: p.total}, {path: total}]}"
    person = 'anonymous_id: {hash: [{path: client, functions: [{extract: "^(.*):[0-9]+$"}]}]}'
    spec = mapping(f"{value}, {person}", "properties: [p]")
    record = {"p": {"revenue": 2, "total": 3}, "total": 4, "client": "192.0.2.7:51234"}
    assert extras(spec, record) == [{"total": "4"}]
    passed, _ = mapped(spec, record)
    assert json.loads(passed["properties"][0])["p"]["total"] == 3
    assert "192.0.2" not in str(passed.to_dicts())
