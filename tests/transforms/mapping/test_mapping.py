"""The mapping of records: each function, each refusal with its path, and what holds for any record."""

import copy
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.block import PARSED_SCHEMA, RECORD_SCHEMA, REJECTED_SCHEMA, hash128
from transforms.errors import ConfigError
from transforms.mapping import load_mapping, map_block, map_records, required_columns

MAPPINGS = Path(__file__).parents[3] / "templates/mappings"
RECEIVED = datetime(2024, 3, 1, 12, tzinfo=UTC)


def mapping(fields: str, rest: str = ""):
    """A mapping of these fields (flow YAML), of constant type unless they state one."""
    stated = fields if "event_type" in fields else f"event_type: {{const: view}}, {fields}"
    return load_mapping(f"source: shop\n{rest}\nfields: {{{stated}}}", "m.yaml")


def raw_of(records, received=None) -> pl.DataFrame:
    size = len(records)
    return pl.DataFrame(
        {
            "payload": [str(at).encode() for at in range(size)],
            "received_time": received or [None] * size,
            "source": [None] * size,
            "position": [f"f:{at}" for at in range(size)],
            "attributes": [None] * size,
            "input": ["f"] * size,
            "quarantine_id": [None] * size,
            "attempt": [1] * size,
            "part": [0] * size,
        },
        schema=RECORD_SCHEMA,
    )


def mapped(spec, *records, received=None) -> tuple[pl.DataFrame, pl.DataFrame]:
    return map_records(copy.deepcopy(list(records)), raw_of(records, received), spec)


def values(name: str, form: str, *inputs) -> list:
    """What the field `name` of this form makes of records {v: input}; an absent v for `...`."""
    records = [{} if at is ... else {"v": at} for at in inputs]
    passed, rejected = mapped(mapping(f"{name}: {form}"), *records)
    assert rejected.is_empty(), rejected["errors"].to_list()
    return passed[name].to_list()


def code(name: str, form: str, value) -> str:
    """The code with which this one value is rejected."""
    passed, rejected = mapped(mapping(f"{name}: {form}"), {"v": value})
    assert passed.is_empty()
    return rejected["code"].item()


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


# Sources and functions


def test_a_path_leads_through_keys_lists_and_quoted_keys():
    record = {"a": {"b": [{"x": 1}, {"c d": "deep"}]}, "a.b": "dotted", "": "unnamed"}
    for path, expected in {
        "a.b[1]['c d']": "deep",
        "['a.b']": "dotted",
        "['']": "unnamed",
        "a.b[7]": None,
    }.items():
        passed, _ = mapped(mapping(f'user_id: {{path: "{path}"}}'), record)
        assert passed["user_id"].item() == expected


def test_numbers_and_booleans_in_a_text_field_are_as_json_writes_them():
    inputs = (1, True, Decimal("1.50"), "x", None, ..., 2**70, 1.5)
    assert values("user_id", "{path: v}", *inputs) == [
        "1",
        "true",
        "1.50",
        "x",
        None,
        None,
        str(2**70),
        "1.5",
    ]
    assert values("user_id", "{path: v}", 1, 2) == ["1", "2"]
    assert values("user_id", "{path: v}", True, None) == ["true", None]


def test_lower_and_trim_apply_in_the_order_stated():
    assert values("user_id", "{path: v, functions: [trim, lower]}", "  ÀB ", 7, None) == ["àb", "7", None]


def test_snake_makes_an_event_type_of_any_spelling():
    spelled = ("PageView", "page-view", " Page view!", "HTTPError", "addToCart", "video2Play")
    made = ["page_view", "page_view", "page_view", "http_error", "add_to_cart", "video2_play"]
    assert values("event_type", "{path: v, functions: [snake]}", *spelled) == made


def test_number_reads_blanks_and_thousands():
    texts = (" 1,234,567.5 ", "-12", "+.5", 3, "1e3")
    numbers = [Decimal(text) for text in ("1234567.5", "-12", "0.5", "3", "1000")]
    assert values("value", "{path: v, functions: [number]}", *texts) == numbers
    assert code("user_id", "{path: v, functions: [number]}", "1,23") == "not_a_number"


def test_const_concat_coalesce_and_hash_join_values():
    spec = mapping(
        "content_id: {concat: [{path: a}, {const: /}, {path: b}]},"
        "category: {coalesce: [{path: a}, {path: b}]},"
        "user_id: {hash: [{path: a, functions: [lower]}, {path: b}]}, channel: {const: social}"
    )
    passed, _ = mapped(spec, {"a": "X", "b": 1}, {"b": 2}, {})
    assert passed["content_id"].to_list() == ["X/1", None, None]
    assert passed["category"].to_list() == ["X", "2", None]
    assert passed["user_id"].to_list() == [hash128((b"x", b"1")), hash128((b"", b"2")), None]
    assert passed["channel"].to_list() == ["social"] * 3


def test_a_map_takes_a_values_text_and_default_or_else_what_it_lacks():
    form = "{path: v, map: {true: yes, 1: one, no: two}"
    assert values("user_id", form + "}", True, "1", "no", None) == ["yes", "one", "two", None]
    assert values("user_id", form + ", default: other}", "x", None) == ["other", "other"]
    assert values("user_id", form + ", else: other}", "x", None) == ["other", None]
    assert values("user_id", form + ", else: other, default: absent}", "x", None) == ["other", "absent"]
    assert code("user_id", form + "}", "x") == "unmapped_value"


# Types


def test_value_is_exact_and_rounds_half_away_from_zero_at_nine_places():
    texts = ("12.34", "0.0000000005", "-0.0000000005", "1.1234567894999", "1E-400", "9" * 18)
    made = [Decimal(text) for text in ("12.34", "0.000000001", "-0.000000001", "1.123456789", "0", "9" * 18)]
    assert values("value", "{path: v}", *texts) == made
    assert values("value", "{path: v}", *map(Decimal, texts)) == made
    assert values("value", "{path: v}", 0.1, 3, 1 - 10**18) == [Decimal("0.1"), 3, 1 - 10**18]
    assert values("value", "{path: v}", 3, 1 - 10**18) == [3, 1 - 10**18]


@pytest.mark.parametrize(
    "value",
    ["x", "", "NaN", "1_000", "1" * 19, 10**18, "9" * 18 + ".9999999999", "1E+400", True, "1\n", "1E2\n"],
)
def test_what_a_value_cannot_be_is_not_a_number(value):
    assert code("value", "{path: v}", value) == "not_a_number"


def test_integers_booleans_and_floats_are_read_from_texts_as_csv_gives_them():
    assert values("quantity", "{path: v}", "12", "12.0", "1E+3", None) == [12, 12, 1000, None]
    assert values("quantity", "{path: v}", 2**63 - 1, 3) == [2**63 - 1, 3]
    assert values("is_bot", "{path: v}", "true", "FALSE", "1", 0, "yes", True) == [
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert values("is_bot", "{path: v}", True, False) == [True, False]
    assert values("rating", "{path: v}", "12.5", 4, Decimal("1.5")) == [12.5, 4.0, 1.5]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("quantity", "12.5", "not_an_integer"),
        ("quantity", "0.99999999999", "not_an_integer"),
        ("quantity", 2**63, "not_an_integer"),
        ("quantity", True, "not_an_integer"),
        ("is_bot", "maybe", "not_a_boolean"),
        ("is_bot", 2, "not_a_boolean"),
        ("rating", "inf", "not_a_number"),
        ("rating", "1E+400", "not_a_number"),
        ("user_id", {"a": 1}, "not_a_text"),
        ("value", [1], "not_a_text"),
    ],
)
def test_a_value_of_another_type_is_rejected_with_its_code(name, value, expected):
    assert code(name, "{path: v}", value) == expected


def test_a_rejected_row_keeps_its_bytes_and_names_the_paths_of_all_that_failed_but_no_value():
    spec = mapping("value: {path: price}, quantity: {path: n}, event_type: {path: t, map: {a: view}}")
    bad = {"price": "secret", "n": "secret", "t": "secret"}
    passed, rejected = mapped(spec, {"t": "a"}, bad, received=[None, RECEIVED])
    assert passed["position"].to_list() == ["f:0"]
    assert rejected.schema == pl.Schema(REJECTED_SCHEMA)
    row = rejected.drop("errors").row(0, named=True)
    assert row == {
        "payload": b"1",
        "position": "f:1",
        "attributes": None,
        "input": "f",
        "quarantine_id": None,
        "attempt": 1,
        "part": 0,
        "received_time": RECEIVED,
        "event_time": None,
        "source": "shop",
        "source_format": "mapped:shop",
        "stage": "map",
        "code": "unmapped_value",
    }
    errors = msgspec.json.decode(rejected["errors"].item())
    assert [(error["path"], error["code"]) for error in errors] == [
        ("$.event_type", "unmapped_value"),
        ("$.value", "not_a_number"),
        ("$.quantity", "not_an_integer"),
    ]
    assert errors[0]["message"] == "read from t: a value that is missing from the map; it has a"
    assert "secret" not in rejected["errors"].item()


def test_a_value_that_fails_twice_is_one_error():
    spec = mapping("value: {path: v, functions: [number]}")
    errors = mapped(spec, {"v": "x"})[1]["errors"].item()
    assert errors == '[{"code":"not_a_number","message":"read from v: not a number","path":"$.value"}]'


def test_a_value_that_coalesce_passes_over_cannot_fail():
    spec = mapping("category: {coalesce: [{path: a}, {path: b}, {path: c}]}")
    passed, rejected = mapped(spec, {"a": "x", "b": []}, {"b": [], "c": "y"})
    assert passed["category"].to_list() == ["x"]
    assert rejected["code"].to_list() == ["not_a_text"]


def test_constants_are_the_texts_that_stand_in_the_yaml():
    stated = {"2015-01-01": "2015-01-01", "no": "no", "true": "true", "12": "12", "1.5": "1.5", "'01'": "01"}
    for written, read in stated.items():
        assert values("user_id", f"{{const: {written}}}", ...) == [read]


def test_on_error_null_leaves_the_field_null_whether_it_or_the_mapping_says_so():
    own = mapping("value: {path: v, on_error: null, default: 7}, user_id: {path: v}")
    passed, rejected = mapped(own, {"v": "x"}, {})
    assert passed["value"].to_list() == [None, Decimal(7)]
    assert passed["user_id"].to_list() == ["x", None]
    assert rejected.is_empty()
    of_all = mapping("value: {path: v}, quantity: {path: q, on_error: quarantine}", "on_error: null")
    passed, rejected = mapped(of_all, {"v": "x"}, {"q": "x"})
    assert passed["value"].to_list() == [None]
    assert rejected["code"].to_list() == ["not_an_integer"]


# Times


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("s", 1424638800, utc(2015, 2, 22, 21)),
        ("s", Decimal("1424638800.25"), utc(2015, 2, 22, 21, 0, 0, 250_000)),
        ("ms", "1424638800123", utc(2015, 2, 22, 21, 0, 0, 123_000)),
        ("us", 1424638800123456, utc(2015, 2, 22, 21, 0, 0, 123_456)),
        ("us", 1424638800123456 * 1000, None),
        ("s", -1, None),
        ("s", "soon", None),
        ("rfc3339", "2015-02-22T21:00:00Z", utc(2015, 2, 22, 21)),
        ("rfc3339", "2019-11-24 00:01:03.979311+00:00", utc(2019, 11, 24, 0, 1, 3, 979_311)),
        ("rfc3339", "2015-02-22T21:00:00.1234567+05:30", utc(2015, 2, 22, 15, 30, 0, 123_456)),
        ("rfc3339", "2015-02-22T21:00:00.5", utc(2015, 2, 22, 21, 0, 0, 500_000)),
        ("rfc3339", "2201-01-01T00:00:00Z", None),
        ("rfc3339", "1969-12-31T23:59:59Z", None),
        ("rfc3339", "2015-02-30T21:00:00Z", None),
        ("rfc3339", {"date": 1}, None),
        ("'%m/%d/%Y %H:%M'", "12/1/2010 8:26", utc(2010, 12, 1, 8, 26)),
        ("'%Y-%m-%dT%H:%M:%S%z'", "2010-12-01T08:26:00+0200", utc(2010, 12, 1, 6, 26)),
        ("'%d.%m.%Y'", "24.12.2010", utc(2010, 12, 24)),
    ],
)
def test_a_time_is_read_in_its_form_and_an_unreadable_one_is_null_not_quarantined(form, value, expected):
    spec = mapping(f"event_time: {{path: v, time: {form}}}, sent_time: {{path: v, time: {form}}}")
    passed, rejected = mapped(spec, {"v": value}, {})
    assert rejected.is_empty()
    assert passed["client_time"].to_list() == [expected, None]
    assert passed["sent_time"].to_list() == [expected, None]
    assert passed["client_time_given"].to_list() == [True, False]


def test_the_time_that_the_queue_tells_wins_over_a_mapped_one():
    spec = mapping("received_time: {path: at}")
    record = {"at": "2024-03-01T00:00:00Z"}
    passed, _ = mapped(spec, record, record, {"at": "x"}, received=[None, RECEIVED, None])
    assert passed["received_time"].to_list() == [utc(2024, 3, 1), RECEIVED, None]
    assert passed["client_time_given"].to_list() == [False] * 3


# Identity, extra, properties


def ids(spec, *records) -> list[str]:
    return mapped(spec, *records)[0]["event_id"].to_list()


def test_an_id_is_derived_from_all_that_does_not_say_how_the_record_travelled():
    spec = mapping("user_id: {path: u}, sent_time: {path: meta.sent}", "transport: [hop]")
    record = {"u": "x", "meta": {"sent": 1, "app": "a"}, "hop": 3, "n": 5}
    again = {"n": 5, "hop": 4, "meta": {"app": "a", "sent": 2}, "u": "x"}
    other = {"u": "x", "meta": {"sent": 1, "app": "b"}, "hop": 3, "n": 5}
    first, second, third = ids(spec, record, again, other)
    assert first == second == "derived:" + hash128((b"shop", b'{"meta":{"app":"a"},"n":5,"u":"x"}'))
    assert first != third


def test_a_time_that_is_the_event_time_too_stays_in_a_derived_id():
    spec = mapping("event_time: {path: at}, received_time: {path: at}")
    first, second = ids(spec, {"at": "2024-03-01T00:00:00Z"}, {"at": "2024-03-01T00:00:01Z"})
    assert first != second


def test_only_a_record_without_an_id_gets_a_derived_one():
    passed, _ = mapped(mapping("event_id: {path: id}"), {"id": 7}, {"a": 1})
    assert passed["event_id"].to_list() == ["7", "derived:" + hash128((b"shop", b'{"a":1}'))]
    assert passed["id_source"].to_list() == ["client", "derived"]


def test_extra_holds_all_that_no_path_reads_in_the_order_of_keys():
    spec = mapping('event_id: {path: id}, user_id: {path: a.b}, category: {path: "c[0]"}, session_id: {path: d}')
    full = {
        "z": None,
        "id": 1,
        "a": {"b": 2, "k": Decimal("1.50")},
        "c": ["x", "y"],
        "d": 4,
        "b": {"deep": [1]},
    }
    passed, _ = mapped(spec, full, {"id": 1, "a": {"b": 2}}, {"id": 1, "a": 5})
    expected = ['{"a":{"k":1.50},"b":{"deep":[1]},"c":["x","y"],"z":null}', None, '{"a":5}']
    assert passed["extra"].to_list() == expected


def test_what_is_discarded_leaves_no_trace_whether_it_is_read_or_not():
    fields = "user_id: {path: c.id, functions: [{split: {by: ':', at: 0}}]}, value: {path: p, on_error: null}"
    spec = mapping(fields, "discard: [cookie, c.id, c.none, p, deep.at.key]\nderived_id: content")
    record = {"cookie": "a=1", "c": {"id": "u:1", "b": 2}, "p": "free", "deep": {"at": {"key": 1}}, "x": 1}
    passed, _ = mapped(spec, record, {"deep": {"at": {"key": 1, "more": 2}}}, {"cookie": {"a": 1}}, {})
    assert passed["user_id"].to_list() == ["u", None, None, None]
    assert [text and msgspec.json.decode(text) for text in passed["extra"]] == [
        {"c": {"b": 2}, "x": 1},
        {"deep": {"at": {"more": 2}}},
        None,
        None,
    ]
    kept, _ = mapped(mapping(fields), record)
    assert kept["event_id"].item() == passed["event_id"][0]  # an id is of the whole record
    for count in (1, 700):
        block = raw_of([record] * count).with_columns(payload=pl.lit(msgspec.json.encode(record)))
        for part, _ in map_block(block, spec):
            assert set(part["extra"]) == {'{"c":{"b":2},"x":1}'}


def test_properties_gather_keys_that_a_field_may_read_as_well():
    spec = mapping("user_id: {path: u}", "properties: [u, app]")
    passed, _ = mapped(spec, {"u": 1, "app": {"v": 2}, "x": 0}, {})
    assert passed["properties"].to_list() == ['{"app":{"v":2},"u":1}', None]
    assert passed["extra"].to_list() == ['{"x":0}', None]


def test_a_csv_must_have_the_columns_that_nothing_else_can_stand_in_for():
    spec = mapping(
        "user_id: {path: u.x}, category: {path: c, default: none},"
        "country: {coalesce: [{path: d}, {const: GB}]},"
        "content_id: {hash: [{path: \"['e f']\"}, {path: g}]}"
    )
    assert required_columns(spec) == {"u", "e f", "g"}
    layout = "csv: {header: false, columns: [u], rest: more, multiline: false}"
    assert required_columns(mapping("user_id: {path: u}, category: {path: more}", layout)) == {"u"}


# Refusals


# What is stated for event_type, the place within it, what the message says of it.
BAD_TYPES = [
    ("{path: t, map: [a]}", ".map", "got ['a'], allowed keys with values or null"),
    ("{path: t, map: {}}", ".map", "got nothing in it, allowed one or more"),
    ("{path: t, map: {a: Page View}}", ".map.a", "got 'Page View', allowed a name like page_view: ^[a-z]"),
    ("{path: t, else: a}", ".else", "got 'a' without a map, allowed beside a map"),
    (
        "{path: t, const: a}",
        "",
        "got path and const, allowed exactly one of path, const, coalesce, concat, hash",
    ),
    ("{functions: [lower]}", "", "got no source of a value, allowed exactly one of path, const"),
    (
        "{path: t, functions: [up]}",
        ".functions[0]",
        "got 'up', allowed absent, lower, number, percent_decode, snake, trim, upper, or a map of one of extract",
    ),
    ("{path: t, functions: lower}", ".functions", "got 'lower', allowed a list"),
    ("{path: a..b}", ".path", "got 'a..b', allowed keys joined by dots, [0] for an element of a list"),
    ("{hash: [{path: a}, {path: ''}]}", ".hash[1].path", "got '', allowed keys joined by dots"),
    (
        "{hash: [{const: a, map: {}}]}",
        ".hash[0].map",
        "got the unknown key 'map', allowed path, const, functions",
    ),
    ("{path: t, time: s}", ".time", "got 's', allowed for event_time, sent_time, received_time only"),
    ("{const: a, on_error: drop}", ".on_error", "got 'drop', allowed null, quarantine"),
    ("click", "", "got 'click', allowed keys with values or null"),
]

# What is stated for other fields.
BAD_FIELDS = [
    (
        "event_tpye: {path: t}",
        ".event_tpye",
        "got the unknown key 'event_tpye', allowed event_time, sent_time, ",
    ),
    ("channel: {const: tv}", ".channel.const", "got 'tv', allowed web, mobile, social"),
    ("value: {path: v, default: x}", ".value.default", "got 'x', allowed a number of at most 18 digits"),
    ("is_bot: {const: maybe}", ".is_bot.const", "got 'maybe', allowed one of true, 1, yes, false, 0, no"),
    (
        "event_time: {path: t, time: '%H'}",
        ".event_time.time",
        "got '%H', allowed s, ms, us, ns, rfc3339 or a strptime",
    ),
    (
        "event_time: {path: t, on_error: null}",
        ".event_time.on_error",
        "got None, allowed nothing: an unreadable",
    ),
]

# What is stated beside the fields.
BAD_RESTS = [
    ("clok: client", ".clok", "got the unknown key 'clok', allowed source, fields, format, csv"),
    ("clock: sure", ".clock", "got 'sure', allowed client, trusted"),
    ("clock: trusted", ".clock", "got 'trusted' without an event_time, allowed client"),
    ("format: xml", ".format", "got 'xml', allowed csv, jsonl, parquet"),
    ("format: jsonl\ncsv: {}", ".csv", "got a block with format 'jsonl', allowed with format csv"),
    ("csv: {delimiter: ';;'}", ".csv.delimiter", "got ';;', allowed one ASCII character, 'blanks' or ''"),
    ("csv: {quote: ';', delimiter: ';'}", ".csv.quote", "got ';', which is also the delimiter; give another"),
    (
        "csv: {header: false}",
        ".csv.columns",
        "got [] with header false, allowed names if header is false",
    ),
    (
        "csv: {rest: r}",
        ".csv.rest",
        "got 'r' with values of several lines, allowed with multiline false",
    ),
    (
        "csv: {rest: r, multiline: false, header: false, columns: [q, r]}",
        ".csv.rest",
        "got 'r', which is one of the columns; give another name",
    ),
    ("csv: {escaped_bytes: true}", ".csv.escaped_bytes", "got true without an escape, allowed with one, such as"),
    ("discard: [a, 'b[0]']", ".discard[1]", "got 'b[0]', allowed keys only"),
    ("discard: [a.b]\nproperties: [a]", ".discard[0]", "got 'a.b', which is in properties; state it in one of them"),
    ("transport: [a, 'b[']", ".transport[1]", "got 'b[', allowed keys joined by dots"),
    ("properties: [a.b]", ".properties[0]", "got 'a.b', allowed a key at the top of the record"),
]

BAD_TEXTS = [
    ("fields: {event_type: {const: a}}", "$.source: missing, but required; state it"),
    (
        "source: My Shop\nfields: {event_type: {const: a}}",
        "$.source: got 'My Shop', allowed a name like web-shop",
    ),
    (
        "source: s\nfields: {user_id: {path: u}}",
        "$.fields.event_type: missing, but required; state it",
    ),
    ("source: s\nsource: t", "not YAML: duplicate key 'source'"),
    ("[a]: b", "not YAML: a key is a single text"),
    ("source: [", "not YAML: while parsing a flow node"),
    ("", "$: got None, allowed keys with values"),
]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_mapping(text, "m.yaml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(("form", "place", "message"), BAD_TYPES)
def test_a_field_that_cannot_be_read_is_refused_with_its_path(form, place, message):
    text = f"source: s\nfields: {{event_type: {form}}}"
    assert refusal(text).startswith(f"m.yaml: $.fields.event_type{place}: {message}")


@pytest.mark.parametrize(("field", "place", "message"), BAD_FIELDS)
def test_a_field_that_is_none_or_can_never_hold_is_refused_with_its_path(field, place, message):
    text = f"source: s\nfields: {{event_type: {{const: a}}, {field}}}"
    assert refusal(text).startswith(f"m.yaml: $.fields{place}: {message}")


@pytest.mark.parametrize(("rest", "place", "message"), BAD_RESTS)
def test_what_stands_beside_the_fields_is_refused_with_its_path(rest, place, message):
    text = f"source: s\nfields: {{event_type: {{const: a}}}}\n{rest}"
    assert refusal(text).startswith(f"m.yaml: ${place}: {message}")


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_a_text_that_is_no_mapping_is_refused(text, message):
    assert refusal(text).startswith(f"m.yaml: {message}")


# What holds for any record

SCALARS = st.sampled_from([None, True, False, 0, 1424638800, -1, 2**63, 2**70, 0.5, *map(Decimal, ("1.5", "1E+400"))])
TEXTS = st.sampled_from(["", "a", " A ", "1", "12.5", "1,234", "1E+9", "NaN", "\x1f", "\u00e9\U0001f600", "20240301"])
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from("abcdefg"), VALUES, max_size=6), max_size=8)
REPEATED = settings(derandomize=True, deadline=None, max_examples=60)
EVERYTHING = mapping(
    "event_id: {path: a}, event_type: {path: b, functions: [snake], map: {a: view}, else: other},"
    "event_time: {path: c, time: s}, sent_time: {path: d}, received_time: {path: d.a, time: '%Y%m%d'},"
    "user_id: {hash: [{path: a}, {path: 'b[0]'}]}, value: {path: f, functions: [number]}, rating: {path: c},"
    "content_id: {concat: [{path: c}, {const: /}, {path: d.b}]}, is_bot: {path: f, on_error: null},"
    "category: {coalesce: [{path: e.a}, {path: e}], on_error: null}, quantity: {path: f, on_error: null}",
    "transport: [g, 'e[0].a']\nproperties: [g]",
)


@REPEATED
@given(RECORDS)
def test_every_record_ends_as_an_event_or_in_quarantine(records):
    passed, rejected = mapped(EVERYTHING, *records)
    assert passed.schema == pl.Schema(PARSED_SCHEMA)
    assert rejected.schema == pl.Schema(REJECTED_SCHEMA)
    places = passed["position"].to_list() + rejected["position"].to_list()
    assert sorted(places) == sorted(f"f:{at}" for at in range(len(records)))
    assert passed["event_id"].null_count() == 0


@REPEATED
@given(RECORDS, st.integers(0, 8))
def test_where_a_block_is_cut_does_not_matter(records, cut):
    raw = raw_of(records)
    whole = map_records(copy.deepcopy(records), raw, EVERYTHING)
    parts = [
        map_records(copy.deepcopy(records[part]), raw[part], EVERYTHING) for part in (slice(cut), slice(cut, None))
    ]
    for at, side in enumerate(whole):
        assert pl.concat([part[at] for part in parts]).equals(side)


def test_a_mapping_survives_the_way_to_a_worker():
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING


def test_the_shipped_mappings_load_and_name_their_source():
    for file in sorted(MAPPINGS.glob("*.yaml")):
        assert load_mapping(file.read_text(), file.name).source == file.stem
