"""Tests that stand in a mapping: what they compare, and how a failing one is reported."""

import pytest

from pipelines.settings.mapping_tests import check_tests
from transforms.errors import ConfigError
from transforms.mapping import load_mapping

HEAD = """
source: s
properties: [p]
fields:
  event_time: {path: at, time: ms}
  event_type: {path: type, map: {share: share, like: like}}
  value: {path: v}
  user_id: {path: u}
  is_bot: {path: bot}
"""
RECORD = "record: {at: 1424638800000, type: share, v: 1.50, u: 7, bot: true, p: {a: [1, 2.5]}, z: 1}"


def check(tests: str, head: str = HEAD) -> None:
    check_tests(load_mapping(f"{head}tests:\n{tests}", "m.yaml"), "m.yaml")


def refusal(tests: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigError) as refused:
        check(tests, head)
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix("m.yaml: ")


def test_only_what_is_stated_is_compared_by_its_value():
    for stated in (
        "event_type: share, value: 1.5, user_id: 7, is_bot: true, category: null",
        'event_time: "2015-02-22T21:00:00Z", time_source: client, properties: {p: {a: [1, 2.5]}}, extra: {z: 1}',
        'event_time: "2015-02-22T22:00:00+01:00", user_id: "7"',
    ):
        check(f"  - {RECORD}\n    events: [{{{stated}}}]")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("event_type: like", "got event_type 'share', expected 'like'"),
        ("value: 2", "got value 1.5, expected 2"),
        ("value: null", "got value 1.5, expected null"),
        ("is_bot: 1", "got is_bot true, expected 1"),
        ("category: a", "got category null, expected 'a'"),
        (
            'event_time: "2016-02-22T21:00:00Z"',
            "got event_time 2015-02-22T21:00:00+00:00, expected 2016-02-22T21",
        ),
        ("event_time: soon", "got event_time 'soon', allowed a time such as"),
        ("extra: {z: 2}", 'got extra \'{"z":1}\', expected {"z":2}'),
        ("usr: 1", "got the unknown field 'usr', allowed event_id, id_source, event_type"),
    ],
)
def test_a_difference_is_told_in_one_line(stated, said):
    assert refusal(f"  - {RECORD}\n    events: [{{{stated}}}]").startswith(f"$.tests[0]: {said}")


def test_what_goes_to_quarantine_is_told_by_its_code():
    check("  - {text: 'not JSON', quarantine: invalid_json}\n  - {record: {type: x}, quarantine: [unmapped_value]}")
    check("  - {record: {type: like}, quarantine: no_time}")
    assert refusal("  - {record: {type: x, at: 1}, events: [{}]}") == (
        "$.tests[0]: got unmapped_value in quarantine, expected nothing"
    )
    assert refusal(f"  - {RECORD}\n    quarantine: no_time") == (
        "$.tests[0]: got nothing in quarantine, expected no_time"
    )
    assert refusal(f"  - {RECORD}\n    events: []") == "$.tests[0]: got 1 events (share), expected 0"


def test_several_events_are_compared_in_their_order_and_the_rest_may_be_rejected():
    head = "source: s\nexplode: e\nfields: {event_time: {path: t, time: s}, event_type: {path: e, map: {a: a, b: b}}}\n"
    record = "record: {t: 1424638800, e: [a, x, b]}"
    check(f"  - {record}\n    events: [{{event_type: a}}, {{event_type: b}}]\n    quarantine: unmapped_value", head)
    said = refusal(f"  - {record}\n    events: [{{}}, {{event_type: a}}]\n    quarantine: unmapped_value", head)
    assert said == "$.tests[0]: got event_type 'b', expected 'a' (event 1)"


def test_a_record_of_a_csv_is_written_as_one():
    fields = "fields: {event_time: {path: t}, event_type: {const: a}, user_id: {path: u}}"
    head = f"source: s\ncsv: {{delimiter: ';'}}\n{fields}\n"
    time = '"2015-02-22T21:00:00Z"'
    check(f"  - {{record: {{t: {time}, u: 'a;\"b'}}, events: [{{user_id: 'a;\"b'}}]}}", head)
    check(f"  - {{record: {{t: {time}, u: 1.5}}, events: [{{user_id: 1.5}}]}}", head)
    check(f"  - {{record: {{t: {time}, u: null}}, events: [{{user_id: null}}]}}", head)
    assert refusal("  - {text: 'a;b', events: []}", head).startswith("$.tests[0]: got a text of CSV, whose header")
    named = head.replace("delimiter: ';'", "delimiter: ';', header: false, columns: [t, u]")
    check("  - {text: '2015-02-22T21:00:00Z;x', events: [{user_id: x}]}", named)


def test_a_record_of_a_csv_is_read_by_its_whole_layout():
    layout = "{delimiter: ' ', escape: '!', header: false, columns: [t, u], 'null': ['-'], rest: r, multiline: false}"
    fields = "{event_time: {path: t}, event_type: {const: a}, user_id: {path: u}}"
    head = f"source: s\ncsv: {layout}\nfields: {fields}\n"
    time = "2015-02-22T21:00:00Z"
    check(f"  - {{text: '{time} \"a!\"b\"', events: [{{user_id: 'a\"b', extra: null}}]}}", head)
    check(f"  - {{text: '{time} - c d', events: [{{user_id: null, extra: {{r: c d}}}}]}}", head)
    check(f"  - {{text: '{time}', events: [{{user_id: null}}]}}", head)
    check(f"  - {{record: {{t: '{time}', u: 'a!b'}}, events: [{{user_id: 'a!b'}}]}}", head)
    check(f"  - {{record: {{t: '{time}', u: 'x y'}}, events: [{{user_id: x y}}]}}", head.replace("' '", "blanks"))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("{events: []}", "$.tests[0]: got neither of record and text, allowed exactly one"),
        ("{record: {}, text: a, events: []}", "$.tests[0]: got both of record and text, allowed exactly one"),
        ("{record: {}}", "$.tests[0]: got neither events nor quarantine, allowed one of them, or both"),
        ("{record: [], events: []}", "$.tests[0].record: got [], allowed keys with values or null"),
    ],
)
def test_a_test_that_is_none_is_refused(case, said):
    assert refusal(f"  - {case}").startswith(said)
