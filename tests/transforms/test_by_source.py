"""By source: a block whose messages name their sources is settled as blocks of one source each would be."""

import json
import re
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.messages import Poll, block_of, encode_attributes
from transforms import settle
from transforms.block import LARGE_ROWS, RAW_SCHEMA
from transforms.by_source import cut_by_source
from transforms.lateness import Lateness
from transforms.mapping import load_mapping
from transforms.quality import add_up, unpack
from transforms.settle import Rules
from transforms.validate import Validator

NOON = 1_772_366_400_000_000  # 2026-03-01T12:00:00Z
NAMES = [
    "source",
    "ce-source",
    "a.b",
    "$x",
    "a'b",
    'a"b',
    "a\\b",
    "ü",
    "a[0]",
    "*",
    "^a.*$",
    "message",
    "received_time",
]
WEB = "source: web\nfields:\n  event_id: {path: id}\n  event_type: {path: kind}\n"
SHOP = "source: shop\nexplode: items\nfields:\n  event_type: {const: order}\n  content_id: {path: items.id}\n"
MAPPINGS = tuple(load_mapping(text, "test") for text in (WEB, SHOP))
NO_SOURCES = ("", "Web", "web shop", "web\n", "-web", "w" * 65, "w" * 100_000, "wéb", '{"a"')
PAYLOADS = (
    b'{"id": "1", "kind": "page_view"}',
    b'{"id": "2", "kind": "No Type"}',
    b'{"items": [{"id": "a"}, {"id": "b"}]}',
    b'{"event_type": "click", "event_id": "3"}',
    b'{"event_type": "click"}',
    b'{"event_type": "click", "source": "own"}',
    b"no JSON",
)
Message = tuple[bytes, dict[str, str]]


def poll_of(messages: list[Message], first: int = 0) -> Poll:
    """Messages of one pull, two a minute; their numbers begin with `first`."""
    numbers = range(first, first + len(messages))
    ids, times = [f"m{number}" for number in numbers], [NOON + number * 30_000_000 for number in numbers]
    told = [encode_attributes(attributes, "") for _, attributes in messages]
    return Poll(ids, [payload for payload, _ in messages], ids, times, told, 0)


def block(messages: list[Message], source: str = "web", first: int = 0) -> pl.DataFrame:
    return block_of([poll_of(messages, first)], source)


def told(blocks: list[pl.DataFrame]) -> list[tuple[str, list[str]]]:
    return [(each["source"].unique().item(), each["position"].to_list()) for each in blocks]


def settled(blocks: list[pl.DataFrame], named: str | None) -> dict[str, Any]:
    """What the step makes of blocks: rows in any order, and audit counts."""
    step = settle._Settle(Rules(MAPPINGS, "queue", Validator(), Lateness(timedelta(days=1)), source_attribute=named))
    rows, books = {"passed": Counter(), "rejected": Counter()}, []
    for output in (each for raw in blocks for each in step.process(raw)):
        tag, value = getattr(output, "tag", "passed"), getattr(output, "value", output)
        if tag == "books":
            books += unpack(value)
        else:
            rows[tag].update(map(repr, value.rows()))
    return {**rows, "books": sorted(add_up(books))}


def test_blocks_are_in_the_order_of_their_sources_and_rows_in_their_own():
    messages = [(b"", {"source": name}) for name in ("shop", "app", "shop", "web", "app")]
    assert told(cut_by_source(block(messages), "source")) == [
        ("shop", ["m0", "m2"]),
        ("app", ["m1", "m4"]),
        ("web", ["m3"]),
    ]


def test_a_message_that_names_no_source_is_of_that_of_its_block():
    named = [{"source": name} for name in NO_SOURCES]
    messages = [(b"", attributes) for attributes in [{}, {"Source": "shop"}, {"sources": "shop"}, *named]]
    assert told(cut_by_source(block(messages), "source")) == [
        ("web", [f"m{number}" for number in range(len(messages))])
    ]


@pytest.mark.parametrize("attributes", [{}, {"source": "web"}, {"source": "shop"}], ids=["none", "its own", "another"])
def test_a_block_of_one_source_stays_whole(attributes):
    raw = block([(b"a", attributes), (b"b", attributes)])
    (one,) = cut_by_source(raw, "source")
    assert one.schema == raw.schema == RAW_SCHEMA
    assert one.equals(raw.with_columns(source=pl.lit(attributes.get("source", "web"))))


@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_of_any_name_names_a_source(name):
    messages = [(b"", {name: "shop"}), (b"", {name + "x": "app", "x" + name: "app"}), (b"", {})]
    assert told(cut_by_source(block(messages), name)) == [("shop", ["m0"]), ("web", ["m1", "m2"])]


def test_what_the_reader_says_of_a_message_names_no_source():
    raw = block([(b"", {}), (b"", {"topic": "shop"})]).with_columns(
        attributes=pl.Series(['{"received_time":"x","topic":"app"}', '{"topic":"app","message":{"topic":"shop"}}'])
    )
    assert told(cut_by_source(raw, "topic")) == [("web", ["m0"]), ("shop", ["m1"])]


def test_columns_of_a_landed_block_stay():
    raw = block([(b"", {"source": "shop"}), (b"", {})]).with_columns(input=pl.lit("queue@run.0.1"))
    for each in cut_by_source(raw, "source"):
        assert each.columns == raw.columns and each["input"].to_list() == ["queue@run.0.1"]


named = st.sampled_from(["web", "shop", "app", *NO_SOURCES]).map(lambda name: {"source": name})
messages_of = st.lists(st.tuples(st.sampled_from(PAYLOADS), named | st.just({})), min_size=1, max_size=12)


@given(messages_of, st.data())
def test_a_block_is_settled_as_each_message_in_a_block_of_its_source_however_blocks_are_cut(messages, data):
    fits = re.compile("[a-z0-9][a-z0-9_.-]{0,63}").fullmatch
    sources = [name if fits(name := each.get("source", "")) else "web" for _, each in messages]
    alone = [block([message], source, at) for at, (message, source) in enumerate(zip(messages, sources, strict=True))]
    expected = settled(alone, None)
    whole = block(messages)
    assert settled([whole], "source") == expected
    cuts = sorted(data.draw(st.sets(st.integers(1, len(messages)), max_size=3)) | {0, len(messages)})
    parts = [whole[start:stop] for start, stop in pairwise(cuts)]
    assert settled(data.draw(st.permutations(parts)), "source") == expected
    received = Counter()
    for _, source, _, outcome, number in expected["books"]:
        received[source] += number if outcome == "received" else 0
    own = [json.loads(payload).get("source") if payload in PAYLOADS[3:6] else None for payload, _ in messages]
    read = ["own" if told and source == "app" else source for told, source in zip(own, sources, strict=True)]
    assert +received == Counter(read)


def test_without_an_attribute_a_block_is_of_one_source():
    made = settled([block([(PAYLOADS[0], {"source": "shop"}), (PAYLOADS[2], {"source": "shop"})])], None)
    assert made["passed"].total() == 1
    assert {source for _, source, *_ in made["books"]} == {"web"}


def test_what_is_rejected_of_a_small_source_holds_no_texts_of_the_block():
    filler = b'{"event_type": "click", "event_id": "%d", "properties": {"a": "' + b"x" * 200 + b'"}}'
    messages = [(filler % number, {"source": "app"}) for number in range(LARGE_ROWS)]
    messages[7::500] = [(b"no JSON: " + b"y" * 50, {"source": "web"})] * len(messages[7::500])
    step = settle._Settle(Rules(MAPPINGS, "f", Validator(), Lateness(None), source_attribute="source"))
    rejected = [each.value for each in step.process(block(messages)) if getattr(each, "tag", None) == "rejected"]
    (rows,) = rejected
    assert len(rows) == 10
    arrays = [column.to_arrow(compat_level=pl.CompatLevel.newest()) for column in rows]
    assert sum(buffer.size for array in arrays for buffer in array.buffers() if buffer) < 20_000
