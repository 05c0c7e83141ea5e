"""A stream of messages of several sources, each through its mapping: what their attribute names, whoever is killed."""

import signal
import time
from pathlib import Path

import msgspec

from pipelines.cli import main
from tests.integration.same import UNBALANCED
from tests.integration.streams import EVENTS, LONG, drained, until_balanced
from tests.servers.kafka import Topic
from tests.servers.pubsub import Queue
from tests.servers.stream import ROOT, Stream, ask, streaming

MAPPINGS = [str(ROOT / f"templates/mappings/{name}.yaml") for name in ("segment", "plausible")]
OPTIONS = ["--source_attribute", "source", *(word for path in MAPPINGS for word in ("--mapping", path))]
TOLD = "SELECT string_agg(source || ' ' || coalesce(n, ''), ', ' ORDER BY ALL) FROM ({})"
ROWS = TOLD.format("SELECT source, event_type || ' ' || count(*) AS n FROM events GROUP BY source, event_type")
HELD = TOLD.format(
    "SELECT source, source_format || ' ' || count(*) AS n FROM quarantine GROUP BY source, source_format"
)
ONCE = TOLD.format("SELECT source, sum(received - duplicates)::TEXT AS n FROM quality_1m_current GROUP BY source")


def segment(number: int) -> bytes:
    about = {"type": "track", "event": "Product Added", "messageId": f"s{number}", "userId": "u-1", "timestamp": _now()}
    return msgspec.json.encode(about)


def plausible(number: int) -> bytes:
    return msgspec.json.encode({"n": "pageview", "u": f"https://shop.example/{number}", "d": "shop.example"})


def native(number: int) -> bytes:
    return msgspec.json.encode(
        {"event_id": f"n{number}", "event_type": "click", "event_time": _now(), "user_id": "u-2"}
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def sent(first: int) -> list[tuple[bytes, dict[str, str]]]:
    """Messages of three sources, one of which no mapping has; some name none, or what is none: they are of the first
    mapping. One of each mapping cannot be read."""
    numbers = range(first, first + 4)
    found = [(make(each), {"source": name}) for each in numbers for make, name in MAKES]
    odd = [(segment(first + 10 + at), about) for at, about in enumerate([{}, {"source": "w" * 200}, {"source": "A B"}])]
    return [*found, *odd, *((b"no JSON %d" % first, {"source": name}) for _, name in MAKES)]


MAKES = ((segment, "segment"), (plausible, "plausible"), (native, "app"))


def publish(queue: Queue | Topic, messages: list[tuple[bytes, dict[str, str]]]) -> None:
    for payload, attributes in messages:
        if isinstance(queue, Topic):
            queue.publish(payload, headers=[(name, value.encode()) for name, value in attributes.items()])
        else:
            queue.publish(payload, **attributes)


def drain_all(stream: Stream, times: int) -> None:
    """Drain a stream that has read all that was sent so many times."""
    stream.until_counted(EVENTS, 15 * times, LONG)
    stream.until_counted("SELECT count(*) FROM quarantine", 3 * times, LONG)
    until_balanced(stream)
    drained(stream)
    assert "Traceback" not in stream.said()


def assert_there(stream: Stream, times: int) -> None:
    """All that was sent so many times is there, in the place of its source, and counted under it."""
    warehouse = stream.warehouse
    counted = {"app click": 4, "plausible page_view": 4, "segment add_to_cart": 7}
    assert ask(warehouse, ROWS) == ", ".join(f"{name} {n * times}" for name, n in counted.items())
    held = ("app native", "plausible mapped:plausible", "segment mapped:segment")
    assert ask(warehouse, HELD) == ", ".join(f"{name} {times}" for name in held)
    assert ask(warehouse, ONCE) == ", ".join(
        f"{name} {n * times}" for name, n in (("app", 5), ("plausible", 5), ("segment", 8))
    )
    assert ask(warehouse, UNBALANCED) == 0
    assert not list((warehouse / "landing").glob("*.parquet")), "what landed under one source is reconciled"


def replayed(warehouse: Path, *words: str) -> str:
    """What is in quarantine for the second time after a replay."""
    assert main(["replay", "--warehouse", str(warehouse), *words]) == 0
    assert ask(warehouse, UNBALANCED) == 0
    return str(
        ask(warehouse, TOLD.format("SELECT DISTINCT source, source_format AS n FROM quarantine WHERE attempt = 2"))
    )


def test_messages_go_through_the_mapping_of_the_source_that_they_name_whoever_is_killed(queue, prism, tmp_path):
    publish(queue, sent(0))
    with streaming(queue, prism, tmp_path, *OPTIONS) as stream:
        stream.until_counted(EVENTS, 15, LONG)
        publish(queue, sent(100))
        stream.until(lambda: list((stream.warehouse / "landing").glob("*.parquet")), LONG, "they landed")
        assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    publish(queue, sent(200))
    with streaming(queue, prism, tmp_path, *OPTIONS) as stream:
        drain_all(stream, 3)
    assert_there(stream, 3)
    assert replayed(stream.warehouse) == "app native"
    assert replayed(stream.warehouse, "--mapping", MAPPINGS[1]) == "app native, plausible mapped:plausible"


def test_headers_of_kafka_name_sources_as_attributes_do(topic, prism, tmp_path):
    with streaming(topic, prism, tmp_path, *OPTIONS) as stream:
        publish(topic, sent(0))
        drain_all(stream, 1)
    assert_there(stream, 1)
