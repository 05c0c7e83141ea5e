"""Messages in requests that Pub/Sub takes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.pubsub.client import REQUEST_BYTES, REQUEST_MESSAGES, PubsubMessage, requests_of


@settings(max_examples=15)
@given(st.lists(st.integers(1, 400).map(lambda size: size * 25_000) | st.just(1), max_size=8), st.integers(0, 2_100))
def test_requests_hold_all_messages_in_order_within_both_bounds(sizes, small):
    messages = [
        PubsubMessage(data=b"x" * size, attributes={"number": str(number)})
        for number, size in enumerate([*sizes, *[1] * small])
    ]
    requests = list(requests_of(messages))
    assert [message.attributes["number"] for request in requests for message in request] == [
        str(number) for number in range(len(messages))
    ]
    for request in requests:
        assert 1 <= len(request) <= REQUEST_MESSAGES
        assert len(request) == 1 or sum(message.ByteSize() for message in request) <= REQUEST_BYTES
    full = [len(request) for request in requests_of(messages[len(sizes) :])]
    assert full == [REQUEST_MESSAGES] * (small // REQUEST_MESSAGES) + [small % REQUEST_MESSAGES] * (
        small % REQUEST_MESSAGES > 0
    ), "no request is smaller than it need be"
