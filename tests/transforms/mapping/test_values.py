"""Values that a mapping takes out of others: parts of texts, numbers written elsewhere, arithmetic, cases."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.transforms.mapping.test_mapping import code, mapped, mapping, values
from transforms.errors import ConfigError

COMMA = '{path: v, functions: [{number: {decimal: ",", unit: "€"}}]}'
URLS = ("https://u:p@Shop.Example:8080/a/b?x=1&utm_source=a%20b+c#f", "/a?b=1", "https://x.example", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("20,00", "20"),
        ("1.355,90", "1355.9"),
        ("4.711,98 €", "4711.98"),
        ("1.000", "1000"),
        ("-0,01", "-0.01"),
        ("-€5,1", "-5.1"),
        ("1 234,50", "1234.5"),
        ("1\u202f234,50", "1234.5"),
        ("(5,00)", "-5"),
        ("\u22124", "-4"),
        (12, "12"),
    ],
)
def test_a_number_with_a_decimal_comma_is_read(text, number):
    assert values("value", COMMA, text) == [Decimal(number)]


@pytest.mark.parametrize(
    "text", ["1'234.50", "20.00", "1.23.456", "1.000 000", "5 $", "(5", "--5", "", ",", "€", "12e"]
)
def test_a_number_in_another_form_than_the_stated_one_is_never_another_number(text):
    assert code("value", COMMA, text) == "not_a_number"


def test_a_number_with_a_decimal_point_may_be_grouped_and_have_a_unit():
    form = '{path: v, functions: [{number: {unit: ["°C"]}}]}'
    assert values("value", form, "30.11 °C", "1'234.50", "1,234.5", "1,00,000") == [
        Decimal(at) for at in ("30.11", "1234.5", "1234.5", "100000")
    ]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("{url: host}", ["shop.example", None, "x.example", None]),
        ("{url: path}", ["/a/b", "/a", "/", None]),
        ("{url: query}", ["x=1&utm_source=a%20b+c", "b=1", None, None]),
        ("{url: fragment}", ["f", None, None, None]),
        ("{query: utm_source}", ["a b c", None, None, None]),
    ],
)
def test_a_part_of_a_url_is_a_value(part, found):
    assert values("content_id", f"{{path: v, functions: [{part}]}}", *URLS) == found


def test_functions_are_applied_in_their_order():
    request = '{path: v, functions: [{extract: "^[A-Z]+ (\\\\S+)"}, {url: path}]}'
    assert values("content_id", request, "GET /shop/b?q=1 HTTP/1.1", "\\x03") == ["/shop/b", None]
    last = '{path: v, functions: [{split: {by: "|", at: -1}}, percent_decode, upper]}'
    assert values("content_id", last, "a|b%20c", "d") == ["B C", "D"]
    assert values("content_id", '{path: v, functions: [{split: {by: "|", at: 1}}]}', "a|b", "c") == ["b", None]


def test_a_text_of_which_a_part_is_taken_stays_in_extra():
    passed, _ = mapped(mapping("content_id: {path: v, functions: [{url: path}]}"), {"v": "/a?b"})
    assert passed["extra"].to_list() == ['{"v":"/a?b"}']


def test_json_inside_a_text_is_read_at_a_path():
    form = '{path: v, functions: [{json: "a.b[0]"}]}'
    assert values("content_id", form, '{"a":{"b":[1.50]}}', {"a": {"b": ["x"]}}, "", ..., "3") == [
        "1.50",
        "x",
        None,
        None,
        None,
    ]
    assert values("content_id", '{path: v, functions: [{json: "[key=k].v"}]}', '[{"key":"k","v":1}]') == ["1"]
    assert code("content_id", form, "{") == code("content_id", form, "[" * 100_000) == "invalid_json"
    assert code("content_id", form, '{"a":{"b":[{}]}}') == "not_a_text"


def test_a_text_that_says_nothing_is_no_value():
    assert values("content_id", "{path: v, functions: [absent]}", "a", " NULL ", "-", "(not set)") == ["a"] + [None] * 3
    assert values("content_id", "{path: v, functions: [{absent: [x]}]}", "x", " x", "-") == [None, None, "-"]


def test_coalesce_passes_over_empty_and_null_like_texts_but_not_over_a_constant():
    form = mapping("content_id: {coalesce: [{path: a}, {path: b}, {const: none}]}")
    records = {"a": "", "b": "x"}, {"a": "null", "b": 3}, {"a": " ", "b": "(not set)"}, {"a": "k"}
    assert mapped(form, *records)[0]["content_id"].to_list() == ["x", "3", "none", "k"]


def test_the_first_case_that_fits_is_the_value():
    cases = '[{when: {a: x}, const: one}, {when: {a: {pattern: "^y"}}, path: b}, {path: a, functions: [upper]}]'
    passed, _ = mapped(
        mapping(f"content_id: {{cases: {cases}}}"), {"a": "x"}, {"a": "yy", "b": 7}, {"a": "q"}, {"b": 1}
    )
    assert passed["content_id"].to_list() == ["one", "7", "Q", None]


@pytest.mark.parametrize(
    ("name", "made"),
    [("sum", ["14", "4"]), ("difference", ["6", "-2"]), ("product", ["40", "3"]), ("quotient", ["2.5", "0.333333333"])],
)
def test_arithmetic_is_exact_to_nine_places(name, made):
    form = mapping(f"value: {{{name}: [{{path: a}}, {{path: b}}]}}")
    passed, rejected = mapped(form, {"a": 10, "b": "4"}, {"a": 1, "b": 3}, {"a": 1}, {"a": "x", "b": 1})
    assert passed["value"].to_list() == [*map(Decimal, made), None]
    assert rejected["code"].to_list() == ["not_a_number"]


def test_a_division_by_zero_is_not_a_number():
    _, rejected = mapped(mapping("value: {quotient: [{path: a}, {path: b}]}"), {"a": 1, "b": 0})
    assert rejected["code"].to_list() == ["not_a_number"]


def test_minor_units_follow_the_currency():
    form = mapping(
        "value: {path: a, minor_units: {path: c, digits: {ISK: 2}}}, currency: {path: c, functions: [upper]}"
    )
    records = [
        {"a": a, "c": c} for a, c in ((2000, "usd"), (5000, "jpy"), (1999, "eur"), (12345, "KWD"), ("500", "isk"))
    ]
    passed, rejected = mapped(form, *records, {"a": 5}, {"a": "x", "c": "eur"})
    assert passed["value"].to_list() == [Decimal(at) for at in ("20", "5000", "19.99", "12.345", "5")]
    assert passed["currency"].to_list() == ["USD", "JPY", "EUR", "KWD", "ISK"]
    assert rejected["code"].to_list() == ["unknown_currency", "not_a_number"]


def test_a_key_value_list_is_read_by_key_wherever_the_element_is():
    form = mapping(
        "content_id: {path: 'p[key=page].value'}, value: {path: 'p[key=price].value'}, text: {path: \"p[key='a.b']\"}"
    )
    page, price = {"key": "page", "value": {"stringValue": "/a"}}, {"int_value": None, "double_value": Decimal("19.99")}
    lists = ([page, {"key": "price", "value": price}], [{"key": "price", "value": 5}, 7, page], [{"key": "page"}], 3)
    passed, rejected = mapped(form, *({"p": at} for at in lists))
    assert rejected.is_empty()
    assert passed["content_id"].to_list() == ["/a", "/a", None, None]
    assert passed["value"].to_list() == [Decimal("19.99"), Decimal(5), None, None]
    assert "price" in passed["extra"][0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ('{extract: "("}', ".extract: got '(', allowed a regular expression of Rust"),
        ('{extract: "(a)(b)"}', ".extract: got '(a)(b)', allowed a regular expression of Rust with at most one group"),
        ('{extract: "(?=x)"}', ".extract: got '(?=x)', allowed a regular expression of Rust"),
        ("{}", ": got no function, allowed exactly one of extract"),
        ("{url: foo}", ".url: got 'foo', allowed fragment, host, path, query"),
        ('{split: {by: "", at: 0}}', ".split.by: got ''"),
        ('{split: {by: ",", at: 99999999999999999999}}', ".split.at: got 99999999999999999999"),
        ('{number: {group: ".", decimal: "."}}', ".number.group: got '.'"),
        ('{number: {unit: "-"}}', ".number.unit: got '-'"),
        ('{json: "a..b"}', ".json: got 'a..b', allowed keys joined by dots"),
        ('{query: ""}', ".query: got ''"),
    ],
)
def test_a_function_that_cannot_be_applied_is_refused_with_its_path(function, message):
    with pytest.raises(ConfigError) as refused:
        mapping(f"content_id: {{path: v, functions: [{function}]}}")
    assert str(refused.value).startswith(f"m.yaml: $.fields.content_id.functions[0]{message}")


def test_a_time_in_two_numbers_is_their_sum():
    form = mapping("event_time: {sum: [{path: s}, {path: ns, scale: 0.000000001}], time: s}")
    passed, _ = mapped(form, {"s": 1_772_366_400, "ns": 275_000_000}, {"s": 1_772_366_400, "ns": 5_000_000}, {"s": 1})
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert passed["client_time"].to_list() == [
        at + timedelta(milliseconds=275),
        at + timedelta(milliseconds=5),
        None,
    ]
    base = mapping("event_time: {sum: [{path: bt}, {path: t, scale: -1}], time: s}")
    assert mapped(base, {"bt": 1_772_366_460, "t": 60})[0]["client_time"].to_list() == [at]


@pytest.mark.parametrize("scale", ["0", ".inf", "0.0000000001"])
def test_a_scale_that_loses_every_digit_is_refused(scale):
    with pytest.raises(ConfigError, match=r"\.scale: got"):
        mapping(f"value: {{path: v, scale: {scale}}}")
