"""The native form, and what holds of the bodies of all dialects: values stay as the client wrote them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import MOST_EVENTS, elements_of, event_of, members_of
from pipelines.apps.collector.dialects.headers import key_in
from pipelines.apps.collector.dialects.native import Native
from tests.support.json_values import objects, texts, values, written

NATIVE = Native()


def post(body: bytes, type: str = "application/json", headers=None, query=None) -> Request:
    return Request("POST", "/v1/events", query or {}, {"content-type": type, **(headers or {})}, body)


def read(body: bytes, type: str = "application/json") -> list[Event]:
    return NATIVE.read(post(body, type))


def test_an_object_a_list_and_lines_are_events_byte_for_byte():
    one, two = b'{"event_id": "a", "value": 1.50}', b'{ "event_id":"b","text":"\\u00e9" }'
    expected = [Event(one, "a"), Event(two, "b")]
    assert read(b" \xef\xbb\xbf".strip() + one + b"\n") == expected[:1]
    assert read(b"[" + one + b" ,\n" + two + b"]") == expected
    assert read(one + b"\r\n\r\n" + two + b"\n", "application/x-ndjson") == expected
    assert read(one + b"\n" + two, "text/plain;charset=UTF-8") == expected
    assert read(b'{\n "event_id": "a"\n}') == [Event(b'{\n "event_id": "a"\n}', "a")]
    assert read(b"[]") == []


def test_an_id_is_a_text_or_a_number_with_something_in_it():
    ids = [event.id for event in read(b'[{"event_id":7},{"event_id":""},{"event_id":null},{"event_id":[1]},{}]')]
    assert ids == ["7", None, None, None, None]


def test_an_element_that_is_no_object_is_rejected_and_not_its_batch():
    events = read(b'[{"event_id":"a"}, 7, "x", null, [1], true]')
    assert [event.error for event in events] == [
        None,
        *(f"got {kind}, allowed an object" for kind in ("a number", "a text", "null", "a list", "a boolean")),
    ]
    assert [event.payload for event in events[1:]] == [b"7", b'"x"', b"null", b"[1]", b"true"]
    lines = read(b'{"event_id":"a"}\n{"event_id"', "application/x-ndjson")
    assert lines == [Event(b'{"event_id":"a"}', "a"), Event(b'{"event_id"', None, "got what is not JSON")]
    assert read(b'{"event_id":"a"}\n{"event_id"') == lines


@pytest.mark.parametrize("element", [b"{}", b"0", b"NaN", b"[" + b"0," * 99 + b"0]"])
def test_a_request_has_a_limit_of_events_and_not_of_what_is_in_them(element):
    for count in (MOST_EVENTS, MOST_EVENTS + 1):
        array, lines = b"[" + b",".join([element] * count) + b"]", b"\n".join([element] * count)
        for body, type in ((array, "application/json"), (lines, "application/x-ndjson")):
            if count == MOST_EVENTS:
                assert [event.payload for event in read(body, type)] == [element] * count
            else:
                with pytest.raises(NotThisForm, match="more than 10,000 events in a request"):
                    read(body, type)


@pytest.mark.parametrize("odd", [b"NaN", b'"\\ud83d"', b'"\xff"', b'{"\xff": 1}', b'"a\x01"', b"9" * 5000])
def test_a_value_that_is_no_json_costs_no_other_event(odd):
    event = b'{"event_id": "odd", "value": ' + odd + b"}"
    assert read(b'[{"event_id": "a"}, ' + event + b' , {"event_id": "b"}]') == [
        Event(b'{"event_id": "a"}', "a"),
        Event(event, "odd"),
        Event(b'{"event_id": "b"}', "b"),
    ]
    assert read(event) == [Event(event, "odd")]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "got an empty body, allowed JSON"),
        (b"\xef\xbb\xbf \n", "got an empty body, allowed JSON"),
        (b"hello", "got what is not JSON, allowed an object, a list of objects, or lines of them"),
        (b"7", "got a number, allowed an object, a list of objects, or lines of them"),
        (b'[{"a": 1}', "got what is not JSON"),
        (b'[{"a": 1},]', "got what is not JSON"),
        (b'[{"a": NaN}] 1', "got what is not JSON"),
        (b'[{"a": 01}]', "got what is not JSON"),
        (b'{1: "\xff"}', "got what is not JSON"),
        (b'{"a"; 1}', "got what is not JSON"),
        (b"{} {}", "got what is not JSON"),
        (b"[" * 100_000, "got JSON that is nested too deeply"),
        (b'[NaN, {"a": ' + b"[" * 100_000, "got JSON that is nested too deeply"),
    ],
)
def test_what_is_not_the_form_at_all_is_refused_without_its_values(body, problem):
    with pytest.raises(NotThisForm) as refused:
        read(body)
    assert str(refused.value) == problem


def test_the_key_is_in_a_header_or_in_the_query():
    assert key_in(post(b"", headers={"x-write-key": " k "})) == "k"
    assert key_in(post(b"", headers={"authorization": "bearer k"})) == "k"
    assert key_in(post(b"", headers={"authorization": "Basic azo="})) == "k"
    assert key_in(post(b"", headers={"authorization": "Basic azpz"})) == "k"
    assert NATIVE.key_of(post(b"", query={"key": "k"})) == "k"
    for wrong in ({}, {"authorization": "Basic !"}, {"authorization": "Basic /w=="}, {"authorization": "Digest k"}):
        assert key_in(post(b"", headers=wrong)) is None


def test_the_answer_has_a_verdict_for_each_event():
    verdicts = [ACCEPTED, f"{REJECTED}got a number, allowed an object", DUPLICATE, ACCEPTED]
    answer = NATIVE.accepted(post(b"[]"), [], verdicts)
    assert answer.status == 202
    assert dict(answer.headers) == {"content-type": "application/json"}
    assert msgspec.json.decode(answer.body) == {
        "accepted": 2,
        "rejected": [{"index": 1, "reason": "got a number, allowed an object"}],
        "duplicates": 1,
    }
    refused = NATIVE.refused(post(b""), 429, "too_many_requests", "wait")
    assert refused.status == 429
    assert msgspec.json.decode(refused.body) == {"code": "too_many_requests", "message": "wait"}


@given(st.lists(objects, max_size=4), st.data())
def test_where_a_list_is_cut_into_requests_does_not_matter(batch, data):
    cut = data.draw(st.integers(0, len(batch)))
    whole = read(written(batch))
    assert whole == read(written(batch[:cut])) + read(written(batch[cut:]))
    lines = b"\n".join(map(written, batch))
    assert [event.payload for event in whole] == [
        event.payload for event in (read(lines, "application/x-ndjson") if lines else [])
    ]


@given(st.binary() | values.map(written), st.sampled_from(["application/json", "text/plain", "application/x-ndjson"]))
def test_any_body_is_a_list_of_events_or_not_this_form(body, type):
    try:
        events = read(body, type)
    except NotThisForm:
        return
    assert all(event.payload for event in events)


@given(objects, objects, st.sets(texts, max_size=3))
def test_what_the_batch_says_is_merged_in_and_never_over_the_event(own, batch, without):
    made = event_of(written(own), (), members_of(written(batch)), without)
    kept = {key: value for key, value in own.items() if key not in without}
    expected = {key: value for key, value in batch.items() if key not in own} | kept
    members = members_of(made.payload)
    assert members == {key: members_of(written({key: value}))[key] for key, value in expected.items()}
    if not without & own.keys() and own.keys() >= batch.keys():
        assert made.payload == written(own)


def test_a_list_is_not_taken_for_an_object_nor_the_other_way_round():
    for read_it, value in ((elements_of, b"{}"), (members_of, b"[]")):
        with pytest.raises(NotThisForm, match=r"^got (an object|a list), allowed"):
            read_it(value)
