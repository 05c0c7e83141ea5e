"""Whoever is named is found, however a sender writes the name; who only has a like name is not."""

import base64
import json

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.batch.person.redaction import Redaction
from pipelines.batch.person.search import ENCODED, INSIDE, MENTION, NAMING, Search
from tests.support.encodings import IDS, written

MAIL = "zq77+x@mail.example"


def kind(id: str, value: str | bytes) -> str | None:
    """Of a value, by both steps: whoever is named is near, and looked at together with others is found as alone."""
    search = Search([id])
    column = pl.Series("value", [value])
    alone = search.kind(value)
    assert pl.select(search.near(pl.lit(column), column.dtype)).to_series()[0] or alone is None
    assert search.kinds(["", value, ""]) == [None, alone, None]
    return alone


@settings(max_examples=120)
@given(written(), st.sampled_from(['{"user_id":"%s"}', "u=%s&x", "not json %s"]))
@example(("café", "caf\\u00E9"), '{"user_id":"%s"}')
@example(("a b", "a+b"), "u=%s&x")
def test_a_name_is_found_in_every_form_that_a_sender_may_give_it(drawn, around):
    id, text = drawn
    value = around.replace("%s", text)
    assert kind(id, value) in NAMING
    assert kind(id, value.encode()) in NAMING


@settings(max_examples=50)
@given(IDS, st.sampled_from(["utf-16-le", "utf-16-be", "utf-16"]), st.booleans())
@example("Жук", "utf-16-le", True)
@example("Жук", "utf-16-be", False)
def test_a_name_is_found_in_bytes_of_utf_16_also_behind_a_cut_line(id, encoding, cut):
    value = json.dumps({"user_id": id}, ensure_ascii=False).encode(encoding)
    # A line ends after the first byte of a line feed: of little-endian text the next begins with the second.
    assert kind(id, b"\0" + value if cut and encoding == "utf-16-le" else value) in NAMING


@pytest.mark.parametrize(
    ("id", "value", "expected"),
    [
        ("u1", "wrote to u1 about it", MENTION),
        ("u1", "wrote to u10 about it", INSIDE),
        ("u1", "prefix_u1", INSIDE),
        ("u1", "mail-to-u1", INSIDE),
        ("u1", "du1bist", INSIDE),
        ("u1", "größeu1", INSIDE),
        ("u1", "用户u1说", MENTION),
        ("u1", "nobody", None),
        ("U1", "wrote to u1", None),
        ("caf", "caf\\u00e9", INSIDE),  # the decoded name goes on
        ("caf", '{"u":"caf\\u00e9"}', INSIDE),
        ("u1", "u=u1%30", INSIDE),
        ("nick", '{"text":"\\nick is not meant"}', INSIDE),
        ("nick", '{"login":"CORP\\\\nick"}', ENCODED),
        ("nick", "CORP\\nick", MENTION),
        (MAIL, "zq77%2Bx%40mail.example", ENCODED),
        (MAIL, "&#122;q77&plus;x&commat;mail.example", ENCODED),
        (MAIL, json.dumps({"a": json.dumps({"b": MAIL.replace("+", "\\u002b")})}), ENCODED),
        ("zq77person", "eyJhbGciOiJIUzI1NiJ9." + base64.urlsafe_b64encode(b'{"sub":"zq77person"}').decode(), ENCODED),
        ("zq77person", base64.b64encode(base64.b64encode(b"to zq77person")).decode(), ENCODED),
        (
            "zq77person",
            "\r\n".join(base64.b64encode(b"x" * 50 + b" zq77person").decode()[n : n + 76] for n in (0, 76)),
            ENCODED,
        ),
        ("zq77person", "profile/" + base64.b64encode(b"zq77person").decode(), ENCODED),
        ("zq77person", base64.b64encode(b"prefix_zq77person").decode(), INSIDE),
        ("zq77person", b"\x12\x30zq77person\x42\x01", MENTION),  # a length and a tag that look like letters
        ("zq77person", b"\xff zq77person", MENTION),
        ("Zoë", b"by Zo\xeb", ENCODED),  # Latin-1
        ('a"b', b'x,"a""b",y', ENCODED),
        ("u17", "753137", None),  # too short to be looked for in hex
    ],
)
def test_what_is_a_mention_and_what_is_not(id, value, expected):
    assert kind(id, value) == expected


@settings(max_examples=60)
@given(written(), st.sampled_from(["%s", "to %s,", '{"a": ["%s", 1.50], "b": 0.10}']))
def test_what_is_redacted_names_nobody_and_what_names_nobody_is_left(drawn, around):
    id, text = drawn
    redaction = Redaction(Search([id]))
    value = around.replace("%s", text)
    redacted = redaction.json(value) if value.startswith("{") else redaction.text(value)
    assert kind(id, redacted) not in NAMING
    assert redaction.text(redacted) == redacted


def test_in_json_only_the_string_is_redacted_and_a_number_that_is_the_name_as_well():
    redaction = Redaction(Search(["12345", MAIL]))
    token, mail = redaction.tokens["12345"], redaction.tokens[MAIL]
    document = '{"n": 0.10, "friend": 12345, "to": "zq77\\u002bx@mail.example, 7", "list": ["12345"]}'
    assert redaction.json(document) == f'{{"n": 0.10, "friend": "{token}", "to": "{mail}, 7", "list": ["{token}"]}}'


def test_two_values_stay_two_and_one_stays_one():
    redaction = Redaction(Search(["u1", "zq77person"]))
    values = ["order:u1", "order:zq77person", "order:u1:2", "see enE3N3BlcnNvbg==", "and enE3N3BlcnNvbg=="]
    redacted = list(map(redaction.text, values))
    assert len(set(redacted)) == len(values)
    assert list(map(redaction.text, values)) == redacted
