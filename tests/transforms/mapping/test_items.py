"""One record, many events: lists that are exploded, rules, parts, places and identities."""

import copy
import json
from decimal import Decimal
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.block import RAW_SCHEMA, split_to_size, tag_input
from transforms.errors import AudienceError, ConfigError
from transforms.mapping import items as mapping_items
from transforms.mapping import load_mapping, map_records, required_columns
from transforms.parse import Parsed, parse, parse_in_parts

SHOP = """
source: shop
explode: {path: items, most: 3}
fields: {user_id: {path: user}, content_id: {path: items.id}, value: {path: items.price}}
events:
  view: {fields: {event_type: {const: page_view}}, match: {items.seen: {exists: true}}}
  click: {fields: {event_type: {const: click}}, match: {items.clicked: 1}}
"""


def raw_of(payloads, attributes=None, positions=None, ids=None) -> pl.DataFrame:
    size = len(payloads)
    block = pl.DataFrame(
        {
            "payload": [at if isinstance(at, bytes) else json.dumps(at).encode() for at in payloads],
            "received_time": [None] * size,
            "source": ["shop"] * size,
            "position": positions or [f"in/f.jsonl:{at}" for at in range(size)],
            "attributes": attributes or [None] * size,
        },
        schema=RAW_SCHEMA,
    )
    block = tag_input(block, "f")
    return block if ids is None else block.with_columns(quarantine_id=pl.Series(ids, dtype=pl.String))


def run(text: str, *payloads, **given):
    """(passed, rejected) of JSON values, or of bytes."""
    return parse(raw_of(payloads, **given), load_mapping(text, "m.yaml"), "shop")


def column(block: pl.DataFrame, *names) -> list:
    return block.select(names).rows() if len(names) > 1 else block[names[0]].to_list()


BASKET = {"user": "u", "app": {"v": 1}, "items": [{"id": "a", "seen": 1, "clicked": 1}, {"id": "b", "seen": 1, "n": 2}]}


def test_each_element_makes_an_event_by_each_rule_that_it_fits():
    passed, rejected = run(SHOP, BASKET)
    assert rejected.is_empty()
    assert column(passed, "event_type", "content_id", "user_id", "part") == [
        ("page_view", "a", "u", 0),
        ("click", "a", "u", 1),
        ("page_view", "b", "u", 2),
    ]


def test_an_item_tells_its_element_and_its_rule():
    passed, _ = run(SHOP, BASKET)
    assert column(passed, "position", "attributes") == [
        ("in/f.jsonl:0#0/view", '{"item":{"element":0,"rule":"view"}}'),
        ("in/f.jsonl:0#0/click", '{"item":{"element":0,"rule":"click"}}'),
        ("in/f.jsonl:0#1/view", '{"item":{"element":1,"rule":"view"}}'),
    ]
    one_rule = "source: s\nexplode: items\nfields: {event_type: {const: a}}"
    assert column(run(one_rule, BASKET).passed, "position")[1] == "in/f.jsonl:0#1"
    no_list = "source: s\nevents: {a: {}, b: {}}\nfields: {event_type: {const: a}}"
    passed, _ = run(no_list, BASKET, attributes=['{"header":["x"]}'])
    assert column(passed, "position", "attributes")[1] == (
        "in/f.jsonl:0/b",
        '{"header":["x"],"item":{"rule":"b"}}',
    )


def test_extra_is_what_the_event_s_own_rule_leaves():
    passed, _ = run(SHOP, BASKET)
    assert column(passed, "extra") == [
        '{"app":{"v":1},"items":{"clicked":1,"seen":1}}',
        '{"app":{"v":1},"items":{"clicked":1,"seen":1}}',
        '{"app":{"v":1},"items":{"n":2,"seen":1}}',
    ]
    records = [copy.deepcopy(BASKET)]
    map_records(records, raw_of(records), load_mapping(SHOP, "m.yaml"))
    assert records == [BASKET]


def test_the_second_event_of_an_item_has_its_rule_behind_the_id():
    first, second, third = column(run(SHOP, BASKET).passed, "event_id")
    assert (second, third[:8], len({first, third})) == (f"{first}/click", "derived:", 2)
    stated = (
        "source: s\nfields: {event_id: {path: id}, event_type: {const: a}}\n"
        "events: {x: {match: {x: 1}}, y: {}, z: {fields: {event_id: {path: z}}}}"
    )
    passed, _ = run(stated, {"id": "i", "x": 1, "z": "own"}, {"id": "j"})
    ids = column(passed, "event_id")
    assert ids[:4] == ["i", "i/y", "own", "j"]
    assert ids[4].startswith("derived:") and ids[4].endswith("/z")
    assert column(passed, "id_source") == ["client", "client", "client", "client", "derived"]


def test_alike_elements_and_records_are_one_unless_the_position_counts():
    twice = {"items": [{"id": "a", "seen": 1}, {"id": "a", "seen": 1}]}
    assert len(set(column(run(SHOP, twice, twice).passed, "event_id"))) == 1
    placed = SHOP + "derived_id: position\n"
    ids = column(run(placed, twice, twice).passed, "event_id")
    assert len(set(ids)) == 4
    moved = ["other/f.jsonl:0", "f.jsonl:1"]
    assert column(run(placed, twice, twice, positions=moved).passed, "event_id") == ids
    plain = "source: s\nderived_id: position\nfields: {event_type: {const: a}}"
    assert len(set(column(run(plain, {"a": 1}, {"a": 1}).passed, "event_id"))) == 2


@pytest.mark.parametrize(
    ("record", "code", "position"),
    [
        ({}, "not_a_list", "in/f.jsonl:0"),
        ({"items": {"id": 1}}, "not_a_list", "in/f.jsonl:0"),
        ({"items": []}, "empty_list", "in/f.jsonl:0"),
        ({"items": [{"seen": 1}] * 4}, "too_many_elements", "in/f.jsonl:0"),
        ({"items": [7]}, "no_rule", "in/f.jsonl:0#0"),
    ],
)
def test_a_record_without_an_event_is_in_quarantine_once(record, code, position):
    passed, rejected = run(SHOP, record)
    assert passed.is_empty()
    assert column(rejected, "stage", "code", "position", "part") == [("map", code, position, 0)]


def test_a_record_whose_elements_would_repeat_too_much_of_it_is_in_quarantine_whole():
    text = "source: s\nexplode: items\nfields: {event_type: {const: a}, user_id: {path: items}}"
    wide = {"items": list(range(1000)), "pad": "x" * 17_000}
    passed, rejected = run(text, wide, wide | {"pad": "x" * 10_000})
    assert passed.height == 1000
    assert column(rejected, "code", "part", "position") == [("too_many_elements", 0, "in/f.jsonl:0")]


def test_the_parts_of_a_record_are_numbered_whether_they_pass_or_not():
    mixed = {"items": [{"seen": 1, "price": "x"}, {"id": 1}, {"seen": 1, "clicked": 1}]}
    passed, rejected = run(SHOP, b"[", mixed, ids=["q0", "q1"])
    assert sorted(column(passed, "part") + column(rejected, "part")[1:]) == [0, 1, 2, 3]
    assert sorted(column(rejected, "code", "part", "quarantine_id")) == [
        ("invalid_json", 0, "q0"),
        ("no_rule", 1, None),
        ("not_a_number", 0, "q1"),
    ]
    assert column(passed, "quarantine_id") == [None, None]


def test_a_match_alone_lets_the_others_go_to_quarantine():
    passed, rejected = run("source: s\nmatch: {a: 1}\nfields: {event_type: {const: x}}", {"a": 1}, {"a": 2})
    assert column(passed, "position", "extra", "attributes") == [("in/f.jsonl:0", '{"a":1}', None)]
    assert column(rejected, "code", "position", "attributes") == [("no_rule", "in/f.jsonl:1", None)]


def test_what_comes_back_from_quarantine_is_that_element_and_that_rule_with_the_same_id():
    first, _ = run(SHOP + "derived_id: position\n", BASKET)
    for at in range(3):
        again, rejected = run(
            SHOP + "derived_id: position\n",
            BASKET,
            attributes=[first["attributes"][at]],
            positions=[first["position"][at]],
            ids=["q"],
        )
        assert rejected.is_empty()
        same = ["event_id", "event_type", "content_id", "position", "attributes"]
        assert column(again, *same) == column(first[at], *same)
        assert column(again, "part", "quarantine_id") == [(0, "q")]


def test_an_item_of_a_rule_that_is_gone_goes_through_all_rules_of_its_element():
    gone = '{"item":{"element":0,"rule":"gone"}}'
    passed, _ = run(SHOP, BASKET, attributes=[gone], positions=["f:0#0/gone"])
    assert column(passed, "event_type", "position") == [("page_view", "f:0#0/gone/view"), ("click", "f:0#0/gone/click")]
    far = '{"item":{"element":9,"rule":"view"}}'
    assert column(run(SHOP, BASKET, attributes=[far]).rejected, "code") == ["no_element"]


def test_product_and_match_are_sources_of_a_value():
    text = (
        "source: s\nfields: {value: {product: [{path: n}, {path: price}]},"
        "event_type: {match: {id: {pattern: ^C}}, map: {true: refund, false: purchase}}, is_bot: {match: {id: C}}}"
    )
    passed, rejected = run(
        text,
        b'{"id":"C1","n":-3,"price":0.1}',
        b'{"id":"C","n":"1.5","price":"0.000000001"}',
        b'{"n":null,"price":2}',
        b'{"n":"x","price":2}',
        b'{"n":1e17,"price":100}',
        b'{"n":[1],"price":1}',
    )
    assert column(passed, "value") == [Decimal("-0.3"), Decimal("0.000000002"), None]
    assert column(passed, "event_type") == ["refund", "refund", "purchase"]
    assert column(passed, "is_bot") == [False, True, False]
    assert column(rejected, "code") == ["not_a_number", "not_a_number", "not_a_text"]


def test_a_block_is_cut_where_its_payloads_are_too_many_bytes():
    block = pl.DataFrame({"payload": [b"x" * 92] * 10})
    assert [part.height for part in split_to_size(block, 400)] == [4, 4, 2]
    assert [part.height for part in split_to_size(block, 5)] == [1] * 10
    assert [part.height for part in split_to_size(block, 1_000)] == [10]
    assert list(split_to_size(block.clear(), 5)) == []


ITEMS = st.fixed_dictionaries({"id": st.integers(0, 9), "seen": st.just(1), "clicked": st.integers(0, 1)})
ORDERS = st.fixed_dictionaries({"user": st.sampled_from(["u1", "u2"]), "items": st.lists(ITEMS, max_size=3)})


@given(st.lists(ORDERS, max_size=12), st.integers(1, 5_000))
@settings(max_examples=60, deadline=None)
def test_in_how_many_parts_events_are_made_does_not_matter(records, most):
    raw, mapping = raw_of([*records, b"no JSON"]), load_mapping(SHOP, "m.yaml")
    whole = parse(raw, mapping, "shop")
    with patch.object(mapping_items, "MOST_MADE", most):
        parts = list(parse_in_parts(raw, mapping, "shop"))
        assert sum(part.passed.height for part in parts) == whole.passed.height
        found = Parsed(*(pl.concat(column) for column in zip(*parts, strict=True)))
    assert found.passed.equals(whole.passed)
    order = ["position", "code"]
    assert found.rejected.sort(order).equals(whole.rejected.sort(order))


def test_the_events_of_records_that_repeat_much_are_made_a_part_at_a_time():
    """Each record makes a thousand events that repeat a thousand bytes: a megabyte of events of 4 kB."""
    order = {"user": "u", "rest": "x" * 1_000, "items": [{"seen": 1}] * 1_000}
    mapping = load_mapping(SHOP.replace("most: 3", "most: 1000"), "m.yaml")
    with patch.object(mapping_items, "MOST_MADE", 4 << 20):
        parts = list(parse_in_parts(raw_of([order] * 6), mapping, "shop"))
    assert [part.passed.height for part in parts] == [1_000] * 6


def test_a_csv_must_have_the_columns_that_a_match_looks_at():
    text = "source: s\nmatch: {a: 1, b: {exists: false}, c: {not: 1}}\nevents: {x: {match: {d.x: {above: 1}}}}"
    spec = load_mapping(text + "\nfields: {event_type: {match: {e: 1}, map: {true: x, false: y}}}", "m.yaml")
    assert required_columns(spec) == {"a", "d", "e"}


TYPE = "fields: {event_type: {const: a}}\n"
SHARED_ID = "fields: {event_type: {const: a}, event_id: {path: id}}\n"
REFUSED = [
    (TYPE + "explode: 'a[0]'", "$.explode: got 'a[0]', allowed keys only"),
    (TYPE + "explode: {path: a..b}", "$.explode.path: got 'a..b', allowed keys joined by dots"),
    (TYPE + "explode: {path: a, most: 100001}", "$.explode.most: got 100001, allowed 1 to 100000"),
    (SHARED_ID + "explode: items", "$.fields.event_id: got an id that all elements would share, allowed one that"),
    (TYPE + "events: {}", "$.events: got 0 rules, allowed 1 to 100"),
    (TYPE + "events: {A: {}}", "$.events: got the rule 'A', allowed a name like add_to_cart"),
    ("events: {a: {}}", "$.events.a.fields.event_type: missing, but required"),
    (TYPE + "events: {a: {fields: {usr: {path: a}}}}", "$.events.a.fields.usr: got the unknown key 'usr', allowed"),
    (TYPE + "events: {a: {fields: {channel: {const: tv}}}}", "$.events.a.fields.channel.const: got 'tv', allowed web"),
    (TYPE + "events: {a: {match: {}}}", "$.events.a.match: got nothing in it, allowed one or more"),
    (TYPE + "clock: trusted\nevents: {a: {}}", "$.clock: got 'trusted' without an event_time in the rule a"),
    (TYPE + "derived_id: time", "$.derived_id: got 'time', allowed content, occurrence, position"),
    ("fields: {event_type: {match: {a: 1}, map: {yes: a}}}", "$.fields.event_type.map: got 'yes', allowed true and"),
    ("fields: {event_type: {const: a}, value: {product: []}}", "$.fields.value.product: got nothing in it"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_cannot_be_is_refused_with_its_path(text, said):
    with pytest.raises(ConfigError) as refused:
        load_mapping(f"source: s\n{text}", "m.yaml")
    assert str(refused.value).startswith(f"m.yaml: {said}")


# What holds for any record

ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", "b", 1]),
        "seen": st.sampled_from([1, None]),
        "clicked": st.sampled_from([0, 1]),
        "price": st.sampled_from([1, "x", 2.5]),
    },
)
RECORDS = st.lists(
    st.fixed_dictionaries({"user": st.integers(0, 2)}, optional={"items": st.lists(ELEMENTS, max_size=4) | st.none()})
    | st.just(b"{"),
    max_size=6,
)
REPEATED = settings(derandomize=True, deadline=None, max_examples=60)


@REPEATED
@given(RECORDS)
def test_the_parts_of_each_record_are_numbered_and_each_is_in_one_place(records):
    passed, rejected = run(SHOP, *records)
    parts: dict = {at: [] for at in range(len(records))}
    for position, part in column(passed, "position", "part") + column(rejected, "position", "part"):
        parts[int(position.partition(":")[2].partition("#")[0])].append(part)
    assert all(sorted(found) == list(range(len(found))) and found for found in parts.values())


@REPEATED
@given(RECORDS, st.integers(0, 6))
def test_where_a_block_is_cut_does_not_matter(records, cut):
    raw, mapping = raw_of(records), load_mapping(SHOP, "m.yaml")
    whole, halves = parse(raw, mapping, "s"), [parse(raw[:cut], mapping, "s"), parse(raw[cut:], mapping, "s")]
    assert pl.concat(half.passed for half in halves).equals(whole.passed)
    together = pl.concat(half.rejected for half in halves).sort("position")
    assert together.equals(whole.rejected.sort("position"))


@REPEATED
@given(RECORDS)
def test_the_order_of_rules_changes_no_event_but_its_suffix(records):
    head, _, rules = SHOP.partition("events:\n")
    lines = rules.splitlines()
    there, back = (run(f"{head}events:\n{chr(10).join(order)}\n", *records) for order in (lines, lines[::-1]))
    same = ["event_type", "content_id", "position", "extra"]
    assert sorted(map(repr, column(there.passed, *same))) == sorted(map(repr, column(back.passed, *same)))
    assert sorted(column(there.rejected, "code", "position")) == sorted(column(back.rejected, "code", "position"))


# Any file: it is refused in one line, or it maps any JSON

PATHS = st.sampled_from(["a", "b", "a.b", "items", "items.a", "a[0]", "['x y']", "", "a..b"])
SCALARS = st.sampled_from([1, 0, 1.5, True, "a", "click", "s", "", "(", None])
CONDITIONS = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["pattern", "exists", "not", "above", "x"]), inner, max_size=2),
    max_leaves=3,
)
MATCHES = st.dictionaries(PATHS, CONDITIONS, min_size=1, max_size=2) | st.lists(
    st.dictionaries(PATHS, CONDITIONS, max_size=2), max_size=2
)
PARTS = st.builds(lambda path: {"path": path}, PATHS) | st.builds(lambda const: {"const": const}, SCALARS)
PARTED = st.builds(
    lambda kind, parts: {kind: parts},
    st.sampled_from(["coalesce", "concat", "hash", "product"]),
    st.lists(PARTS, max_size=3),
)
FIELDS = PARTS | PARTED | st.builds(lambda match: {"match": match}, MATCHES) | SCALARS
NAMED = st.dictionaries(
    st.sampled_from(["event_id", "event_type", "event_time", "user_id", "value", "quantity", "is_bot", "x"]),
    FIELDS,
    max_size=4,
).map(lambda fields: {"event_type": {"const": "view"}} | fields)
FILES = st.fixed_dictionaries(
    {"source": st.just("s")},
    optional={
        "fields": NAMED,
        "match": MATCHES,
        "explode": PATHS | st.fixed_dictionaries({"path": PATHS}, optional={"most": SCALARS}),
        "events": st.dictionaries(
            st.sampled_from(["one", "two", "A"]),
            st.fixed_dictionaries({}, optional={"match": MATCHES, "fields": NAMED}),
            max_size=2,
        ),
        "derived_id": st.sampled_from(["content", "position", "x"]),
        "properties": st.lists(PATHS, max_size=2),
        "transport": st.lists(PATHS, max_size=2),
        "tests": SCALARS,
    },
)
JSONS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "x y", "items"]), inner),
    max_leaves=6,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(FILES, st.lists(JSONS, max_size=4))
def test_any_file_is_refused_in_one_line_or_maps_any_json(file, records):
    try:
        mapping = load_mapping(json.dumps(file), "m.yaml")
    except AudienceError as refused:
        assert str(refused).startswith("m.yaml: ") and "\n" not in str(refused)
        return
    passed, rejected = parse(raw_of(records), mapping, "s")
    places = column(passed, "position") + column(rejected, "position")
    rows = {position.partition("#")[0].partition(":")[2].partition("/")[0] for position in places}
    assert rows == {str(at) for at in range(len(records))}
