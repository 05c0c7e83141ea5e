"""A small body cannot become a large log: what a batch says of all its events is bounded by how many there are."""

import base64
import gzip
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector import merging
from pipelines.apps.collector.dialect import NotThisForm, Request
from pipelines.apps.collector.dialects.posthog import PostHog
from pipelines.apps.collector.dialects.segment import Segment
from pipelines.apps.collector.merging import MOST_MERGED, merges_too_much


def batch(said: int, events: int, each: bytes = b"{}") -> bytes:
    """A batch that says so many bytes of all its events."""
    return b'{"context":{"a":"%s"},"batch":[%s]}' % (b"x" * said, b",".join([each] * events))


def packed(body: bytes) -> dict[str, bytes]:
    form = b"data=" + quote(base64.b64encode(body), safe="").encode()
    return {"plain": body, "gzip": gzip.compress(body), "form": form}


BOMB = batch(100_000, 10_000)


@pytest.mark.parametrize("how", packed(b""))
def test_a_body_that_would_become_a_gigabyte_is_seen(how):
    assert merges_too_much(packed(BOMB)[how])
    assert not merges_too_much(packed(batch(1_000, 5_000))[how])


def test_of_what_is_no_strict_json_length_and_objects_decide():
    assert merges_too_much(BOMB[:-2] + b",NaN]}")
    assert not merges_too_much(batch(1_000, 100)[:-2] + b",NaN]}")


@pytest.mark.parametrize("body", [b"", b"data=", b"data=%ff", b"\x1f\x8bx", b"[" + b"{}," * 90_000 + b"{}]"])
def test_what_has_nothing_in_common_is_not_too_much(body):
    assert not merges_too_much(body)


def test_what_inflates_to_more_than_a_body_may_have_is_too_much():
    assert merges_too_much(gzip.compress(bytes(30_000_000)))


@given(st.integers(0, 60), st.integers(0, 40), st.booleans(), st.sampled_from((Segment(), PostHog())))
def test_what_is_let_through_has_no_more_bytes_than_the_bound_and_its_body(said, events, is_nested, dialect):
    each = json.dumps({"event": "e", "properties": {"a": 1}} if is_nested else {}).encode()
    body = batch(said, events, each)
    before, merging.MOST_MERGED = merging.MOST_MERGED, 1_000
    try:
        is_refused = merges_too_much(body)
    finally:
        merging.MOST_MERGED = before
    try:
        made = dialect.read(Request("POST", dialect.routes[0][1], {}, {}, body))
    except NotThisForm:
        return
    assert is_refused or sum(len(event.payload) for event in made) <= 1_000 + 2 * len(body)
    assert MOST_MERGED < 1 << 30
