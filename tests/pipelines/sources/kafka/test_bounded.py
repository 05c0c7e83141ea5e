"""Kafka as the bounded input of a backfill: the same tables as from a file, between offsets that are fixed."""

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from pipelines.sources.kafka import bounded
from pipelines.sources.kafka.client import Connection
from pipelines.sources.kafka.topics import Place, choose_parts, split_of
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.sources.queue_contract import numbered
from tests.servers.kafka import make_producer
from tests.servers.needed import LIMIT
from tests.servers.stream import ask
from transforms.errors import OptionError, SourceError

NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z


def event(number: int) -> bytes:
    at = datetime.fromtimestamp(NOON / 1_000 + number, UTC).isoformat()
    return msgspec.json.encode(
        {"event_id": f"e{number}", "event_type": "click", "event_time": at, "user_id": f"u{number % 7}"}
    )


def run(topic, folder, **more) -> dict[str, int]:
    values = {"input_kafka": topic.name, "warehouse": str(folder / "warehouse"), "workers": "1"}
    return backfill(resolve(values | more)).counts


def ids(folder) -> list[str]:
    return ask(folder / "warehouse", "SELECT list(event_id ORDER BY event_id) FROM events")


def publish(topic, numbers) -> None:
    """Publish events, each a second after the one before it."""
    for number in numbers:
        topic.producer.produce(
            topic.name, value=event(number), partition=number % topic.partitions, timestamp=NOON + 1_000 * number
        )
    assert topic.producer.flush(LIMIT) == 0


def test_topics_are_read_to_their_end_once_and_a_second_time_adds_what_came_since(topic, tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "PART_OFFSETS", 7)
    monkeypatch.setattr(bounded, "BLOCK_ROWS", 3)
    publish(topic, range(50))
    topic.publish(None, b"no JSON", partition=0, timestamp=NOON)
    counts = run(topic, tmp_path)
    assert (counts["received"], counts["events"], counts["quarantined"]) == (52, 50, 2)
    assert ids(tmp_path) == sorted(f"e{number}" for number in range(50))
    assert topic.committed() == [-1001, -1001], "no group is touched"
    publish(topic, range(50, 60))
    assert run(topic, tmp_path, add="true")["events"] >= 10
    assert ids(tmp_path) == sorted(f"e{number}" for number in range(60))


def test_a_time_to_start_and_a_time_to_stop_bound_what_is_read(topic, tmp_path):
    publish(topic, range(50))
    counts = run(topic, tmp_path, start_at="2026-03-01T12:00:10Z", stop_at="2026-03-01T12:00:30Z")
    assert counts["events"] == 20
    assert ids(tmp_path) == sorted(f"e{number}" for number in range(10, 30))


def test_headers_name_the_sources_of_what_a_backfill_reads(topic, tmp_path):
    for name, fields in (("web", ""), ("shop", "\n  event_type: {const: order}")):
        text = f"source: {name}\nfields:\n  event_id: {{path: event_id}}\n  event_time: {{path: event_time}}"
        (tmp_path / f"{name}.yaml").write_text(text + (fields or "\n  event_type: {const: page_view}"))
    for number, headers in enumerate(({}, {"source": "web"}, {"source": "shop"}, {"source": "app"}, {"source": ""})):
        told = [(name, value.encode()) for name, value in headers.items()]
        topic.publish(event(number), headers=told, timestamp=NOON)
    mappings = [str(tmp_path / f"{name}.yaml") for name in ("web", "shop")]
    counts = run(topic, tmp_path, source_attribute="source", mapping=mappings)
    assert (counts["received"], counts["events"]) == (5, 5)
    told = "SELECT string_agg(source || ' ' || event_type, ', ' ORDER BY event_id) FROM events"
    assert ask(tmp_path / "warehouse", told) == "web page_view, web page_view, shop order, app click, web page_view"
    balance = (
        "SELECT string_agg(source || ' ' || received || ' ' || balance, ', ' ORDER BY source) FROM quality_summary"
    )
    assert ask(tmp_path / "warehouse", balance) == "app 1 0, shop 1 0, web 3 0"


def test_transactions_that_were_aborted_or_are_open_are_not_read_and_hold_nothing_up(topic, tmp_path):
    producer = make_producer(topic.cluster, **{"transactional.id": topic.name})
    producer.init_transactions(60)
    for number, end in ((1, producer.abort_transaction), (2, producer.commit_transaction), (3, None)):
        producer.begin_transaction()
        producer.produce(topic.name, value=event(number), partition=0, timestamp=NOON)
        producer.flush(LIMIT)
        if end is not None:
            end(60)
    assert run(topic, tmp_path)["events"] == 1
    assert ids(tmp_path) == ["e2"]
    producer.abort_transaction(60)


def test_offsets_that_are_deleted_meanwhile_fail_the_run_and_change_nothing(topic, tmp_path, monkeypatch):
    publish(topic, range(20))
    find = bounded.find_between

    def find_and_delete(*given, **named):
        found = find(*given, **named)
        topic.delete_before(0, 5)
        return found

    monkeypatch.setattr(bounded, "find_between", find_and_delete)
    with pytest.raises(SourceError, match=f"offsets of {topic.name}-0 from 0 on were deleted before they were read"):
        run(topic, tmp_path)
    assert LocalWarehouse.open(tmp_path / "warehouse").rows_by_day("events") == {}


def test_the_same_offsets_are_the_same_input_and_others_are_another(topic):
    topic.publish(*numbered(4))
    connection = Connection(topic.cluster.servers)
    first = bounded.find_between(connection, topic.name, "earliest", "latest")
    assert bounded.find_between(connection, topic.name, "earliest", "latest").input == first.input
    topic.publish(*numbered(2))
    assert bounded.find_between(connection, topic.name, "earliest", "latest").input != first.input


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"input": ["a"], "input_kafka": "events"}, "--input and --input_kafka exclude each other"),
        ({"input_kafka": "events", "format": "csv"}, "--format: got 'csv'; allowed: only with --input;"),
        ({"input": ["a"], "stop_at": "latest"}, "--stop_at: got 'latest'; allowed: only with --input_kafka"),
        ({"input": ["a"], "timestamp_attribute": "at"}, "--timestamp_attribute: got 'at'; allowed: only with --inp"),
        ({"input_kafka": "events", "stop_at": "earliest"}, "--stop_at: got 'earliest'; allowed: latest, or a time"),
    ],
    ids=["both", "format", "stop", "header", "earliest"],
)
def test_options_that_do_not_go_together_are_refused(values, said):
    with pytest.raises(OptionError, match=said):
        resolve(values)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 50))
def test_parts_cover_all_offsets_once(start, rows, size):
    parts = choose_parts(Place("t", 0), start, start + rows, size)
    assert [offset for part in parts for offset in range(part.start, part.stop)] == list(range(start, start + rows))
    assert all(0 < part.stop - part.start <= size for part in parts)


@given(st.integers(1, 99), st.integers(1, 20), st.text("abc.-_", min_size=1, max_size=9))
def test_each_partition_has_one_split_and_the_partitions_of_a_topic_go_round(partitions, splits, topic):
    owners = [split_of(Place(topic, number), splits) for number in range(partitions)]
    assert all(0 <= owner < splits for owner in owners)
    assert all((after - before) % splits == 1 % splits for before, after in pairwise(owners))
