"""Bodies: bounds of bytes and time, and every encoding that a client sends."""

import asyncio
import gzip
import zlib
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector import bodies
from pipelines.apps.collector.bodies import (
    MOST_BYTES,
    MOST_DRAINED,
    Busy,
    Gone,
    Held,
    NotInflated,
    TooLarge,
    TooSlow,
    inflate_body,
    read_body,
)


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


ENCODERS = {
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


class Client:
    """Sends parts of a body as an ASGI server hands them on; `None` closes the connection, `...` waits without end."""

    def __init__(self, *parts):
        self.parts, self.taken = list(parts), 0

    async def __call__(self):
        part = self.parts.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        if part is ...:
            await asyncio.Event().wait()
        self.taken += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}


def read(client: Client, length: str | None = None, held: Held | None = None, seconds: float = 20) -> bytes:
    with (held or Held()).share() as share:
        return asyncio.run(read_body(client, length, share, seconds))


@given(st.binary(max_size=4_000), st.lists(st.integers(0, 4_000), max_size=6))
def test_a_body_is_the_same_however_it_is_cut(body, cuts):
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert read(Client(*(body[a:b] for a, b in pairwise(at)))) == body


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_refused():
    half = b"x" * (MOST_BYTES // 2)
    assert len(read(Client(half, half))) == MOST_BYTES
    with pytest.raises(TooLarge):
        read(Client(half, half, b"x"))


def test_a_body_that_states_too_much_is_refused_and_read_no_further_than_the_bound():
    client = Client(*[b"x" * MOST_BYTES] * 20)
    with pytest.raises(TooLarge):
        read(client, str(20 * MOST_BYTES))
    assert MOST_DRAINED <= client.taken <= MOST_DRAINED + MOST_BYTES


@pytest.mark.parametrize("length", ["abc", "-1", "", "²", "9" * 5])
def test_a_length_that_is_none_decides_nothing(length):
    assert read(Client(b"ab"), length) == b"ab"


def test_a_client_that_stops_sending_is_not_waited_for():
    with pytest.raises(TooSlow):
        read(Client(b"ab", ...), seconds=0.01)


def test_a_client_that_goes_leaves_nothing():
    with pytest.raises(Gone):
        read(Client(b"ab", None))


def test_all_bodies_together_have_a_bound_and_what_has_ended_is_free():
    held = Held(10)
    with held.share() as first:
        first.add(8)
        with pytest.raises(Busy):
            read(Client(b"abc"), held=held)
        assert held.bytes == 8 and read(Client(b"ab"), held=held) == b"ab"
    assert held.bytes == 0


@pytest.mark.parametrize("name", ENCODERS)
@given(body=st.binary(max_size=300_000))
def test_what_was_encoded_is_inflated(name, body):
    assert inflate_body(ENCODERS[name](body), name) == body


def test_a_bare_deflate_and_members_and_two_encodings_are_inflated():
    assert inflate_body(raw_deflate(b"abc" * 99), "deflate") == b"abc" * 99
    assert inflate_body(gzip.compress(b"ab") + gzip.compress(b"c"), "gzip") == b"abc"
    assert inflate_body(gzip.compress(zlib.compress(b"abc")), "deflate, GZIP") == b"abc"


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_what_inflates_to_more_than_the_limit_is_refused(name):
    assert len(inflate_body(ENCODERS[name](bytes(MOST_BYTES)), name)) == MOST_BYTES
    with pytest.raises(TooLarge):
        inflate_body(ENCODERS[name](bytes(MOST_BYTES + 1)), name)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
@given(junk=st.binary(max_size=200), cut=st.integers(1, 10))
def test_bytes_of_another_form_are_one_error_that_quotes_nothing(name, junk, cut):
    whole = ENCODERS[name](b"canary" * 100)
    for body in (whole[:-cut], b"\xffcanary" + junk):
        with pytest.raises(NotInflated, match=f"^the body is not {name}, which"):
            inflate_body(body, name)


@pytest.mark.parametrize("encoding", ["br", "gzip, br", "gzip, gzip, gzip", "canary"])
def test_an_unknown_encoding_says_which_are_known(encoding):
    with pytest.raises(NotInflated, match=r"allowed: deflate, gzip, identity, x-gzip, zstd$"):
        inflate_body(b"", encoding)
    assert bodies.MOST_ENCODINGS == 2
