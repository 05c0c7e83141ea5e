"""A stream from Kinesis on Prism: the rows of a backfill and of SQL over the raw lines, whoever is killed.

The proxy in front of the emulator throttles and cuts connections, and gives each record the time of receipt that its
line states: as a file has it, so that both have the same.

STREAM_KILLS   how often the process is killed at a random moment (default 2); STREAM_SEED chooses the moments
"""

import base64
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
import pytest

from pipelines.batch.person.elsewhere import list_copies
from pipelines.sources.kinesis.marks import path_of, read_marks, write_marks
from pipelines.system.disk import write_atomically
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.records import Records, event, write_github
from tests.integration.streams import (
    BAD,
    EVENTS,
    LONG,
    RECEIVED,
    assert_nothing_lost_or_double,
    assert_those_of_github,
    assert_those_of_sql,
    drained,
    until_all_is_there,
    until_balanced,
)
from tests.integration.test_stream_faults import JUMPING, SEED, only_error, prism_of
from tests.pipelines.sources.kinesis.packed import pack
from tests.servers.faulty import Plan, faulty_http
from tests.servers.kinesis import ENDPOINT, DataStream
from tests.servers.needed import LIMIT
from tests.servers.stream import ROOT, ask, received_times, streaming

KILLS = int(os.environ.get("STREAM_KILLS", "2"))
GITHUB_LINES = 3_000
TRANSIENT = ("ProvisionedThroughputExceededException", "reset", "lost", "500", "ExpiredIteratorException")


def with_received_times(answer: bytes, times: Callable[[list[bytes]], list[str | None]] = received_times) -> bytes:
    """An answer of GetRecords whose records arrived when their lines say; packed ones when the first of them says."""
    told = json.loads(answer)
    for record in told["Records"]:
        data = base64.b64decode(record["Data"])
        (stated,) = times([data])
        if stated is not None:
            record["ApproximateArrivalTimestamp"] = datetime.fromisoformat(stated).timestamp()
    return json.dumps(told).encode()


class Sent(NamedTuple):
    """A stream that lines are sent to, and the proxy that it is read through."""

    stream: DataStream
    plan: Plan
    rand: random.Random

    def send(self, lines: list[bytes]) -> None:
        self.stream.put(lines, [f"{self.rand.random()}" for _ in lines])

    def faults(self, count: int) -> None:
        """Plan faults, each followed by some answers."""
        self.plan.set(*(fault for _ in range(count) for fault in (self.rand.choice(TRANSIENT), "pass", "pass")))


@pytest.fixture
def sent(aws, monkeypatch) -> Iterator[Sent]:
    stream = DataStream(aws.url, shards=2)
    # The times that the lines state are of days ago.
    stream.client.increase_stream_retention_period(StreamName=stream.name, RetentionPeriodHours=168)
    with faulty_http(aws.url, watched="GetRecords") as (url, plan):
        plan.change = with_received_times
        monkeypatch.setenv(ENDPOINT, url)
        yield Sent(stream, plan, random.Random(SEED))


@contextmanager
def jumping_clock(folder: Path, monkeypatch) -> Iterator[Path]:
    """A file with the seconds that the wall clock of a stream which begins now is ahead."""
    clock, startup = folder / "clock", folder / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(JUMPING.format(clock=str(clock)))
    write_atomically(clock, b"0")
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(startup))
        yield clock


class Beside:
    """The records that have landed, seen beside the marks at each kill."""

    def __init__(self, stream: DataStream, warehouse: Path):
        self.stream, self.warehouse, self.landed = stream, warehouse, set[str]()

    def check(self) -> int:
        """All that is behind a mark has landed; how many records that is."""
        path = path_of(self.warehouse, self.stream.arn)
        marks = read_marks(path)  # before the folder: what lands meanwhile proves nothing
        for file in (self.warehouse / "landing").glob("*.parquet"):
            self.landed |= set(pl.read_parquet(file, columns=["position"])["position"])
        behind = {
            f"{record['ShardId']}:{record['SequenceNumber']}"
            for record in self.stream.records()
            if marks is not None
            and (mark := marks.shards.get(record["ShardId"])) is not None
            and mark.sequence is not None
            and int(record["SequenceNumber"]) <= int(mark.sequence)
        }
        assert behind <= self.landed, f"{len(behind - self.landed)} records are behind a mark and nowhere else"
        return len(behind)


def test_whoever_is_killed_and_however_shards_change_the_rows_are_those_of_a_backfill_and_of_sql(
    few_records, sent, prism, tmp_path, monkeypatch
):
    print(f"STREAM_SEED={SEED}")
    parts, beside = KILLS + 4, Beside(sent.stream, tmp_path / "warehouse")
    behind = [kill_a_stream(sent, few_records.part(kill, parts), prism, tmp_path, beside) for kill in range(KILLS)]
    with streaming(sent.stream, prism, tmp_path) as stream:
        sent.send(few_records.part(KILLS, parts))
        stream.until(lambda: beside.check() > behind[-1], LONG, every=0.25)
        os.kill(prism_of(stream), signal.SIGKILL)
        assert stream.process.wait(LIMIT) == 2
    assert "restart to resume: unprocessed records are read again" in only_error(stream)
    assert beside.check() > 0
    with jumping_clock(tmp_path, monkeypatch) as clock, streaming(sent.stream, prism, tmp_path) as stream:
        stream.until_counted(EVENTS, 1, LONG)
        change_shards(sent, few_records, parts)
        sent.plan.set(*["reset"] * 12)  # gone for a while, as the waits grow
        write_atomically(clock, b"-3600")
        stream.until(lambda: not sent.plan.left, LONG)
        write_atomically(clock, b"0")
        sent.send(few_records.part(KILLS + 3, parts))
        until_all_is_there(stream, few_records)
        last = {record["ShardId"]: record["SequenceNumber"] for record in sent.stream.records()}
        stream.until(lambda: marked(sent.stream, tmp_path / "warehouse") == last, LONG, "all is read", 0.5)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, few_records.batch, BAD)
    assert_those_of_sql(stream.warehouse, few_records.file)
    assert marked(sent.stream, stream.warehouse) == last
    kept = f"Kinesis ({sent.stream.arn}): records for the retention of the stream: 24 hours by default, "
    assert any(line.startswith(kept) for line in list_copies(LocalWarehouse.open(stream.warehouse)))


def marked(stream: DataStream, warehouse: Path) -> dict[str, str]:
    """Shard -> the last record that is behind its mark."""
    marks = read_marks(path_of(warehouse, stream.arn))
    return {name: mark.sequence for name, mark in marks.shards.items() if mark.sequence}


def kill_a_stream(sent: Sent, lines: list[bytes], prism: str, folder: Path, beside: Beside) -> int:
    """Stream lines, kill the process soon after it committed some; how many records are behind the marks."""
    sent.send(lines)
    sent.faults(10)
    with streaming(sent.stream, prism, folder) as stream:
        stream.until_counted(EVENTS, (ask(stream.warehouse, EVENTS) or 0) + 1, LONG)
        moment = time.monotonic() + sent.rand.uniform(0.0, 1.0)
        stream.until(lambda: time.monotonic() >= moment, LONG)
        assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    return beside.check()


def change_shards(sent: Sent, records: Records, parts: int) -> None:
    """Split a shard and merge two in the middle of what is sent."""
    one, other = (shard["ShardId"] for shard in sent.stream.open_shards())
    first = records.part(KILLS + 1, parts)
    sent.send(first[::2])
    _, right = sent.stream.split(one)
    sent.send(first[1::2])
    sent.stream.merge(right, other)
    sent.send(records.part(KILLS + 2, parts))


def first_times(packs: list[bytes]) -> list[str | None]:
    """When the first of GitHub's events in each pack happened."""
    found = (re.search(rb'"dt": ?"([^"]+)"', data) for data in packs)
    return [one[1].decode() if one else None for one in found]


def test_github_events_replayed_through_kinesis_give_the_rows_of_a_backfill_and_of_sql(sent, prism, tmp_path):
    file, mapping = write_github(tmp_path), str(ROOT / "templates/mappings/github-events.yaml")
    # The emulator needs minutes for an hour of records: these are some minutes, packed as the producer's library does,
    # those of a second together, since a pack arrives at once.
    lines = file.read_bytes().splitlines()[:GITHUB_LINES]
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    sent.plan.change = lambda answer: with_received_times(answer, first_times)
    seconds = groupby(lines, lambda line: json.loads(line)["dt"])
    sent.send([pack([("any", line) for line in second]) for _, second in seconds])
    with streaming(sent.stream, prism, tmp_path, "--mapping", mapping) as stream:
        stream.until_counted(RECEIVED, len(lines), LONG)
        until_balanced(stream)
        drained(stream)
    assert_those_of_github(stream.warehouse, file, mapping)


def test_packed_records_and_attributes_are_mapped_and_what_no_mapping_reads_is_quarantined(aws, prism, tmp_path):
    mapping = tmp_path / "web.yaml"
    mapping.write_text("""
source: web
fields:
  event_id: {path: id}
  event_type: {path: type}
  event_time: {path: at}
  user_id: {path: $attributes.kinesis_partition_key}
""")
    stream_of = DataStream(aws.url)
    at = datetime.now().astimezone().isoformat()
    lines = [json.dumps({"id": f"{number}", "type": "click", "at": at}).encode() for number in range(4)]
    stream_of.put([pack([("ann", lines[0]), ("bob", lines[1])]), lines[2], b"no JSON at all"], ["x", "cid", "y"])
    stream_of.put([pack([("ann", lines[0])])], ["z"])  # as the library sends what it does not know to be there
    with streaming(stream_of, prism, tmp_path, "--mapping", str(mapping)) as stream:
        stream.until_counted(RECEIVED, 5, LONG)
        until_balanced(stream)
        drained(stream)
    told = "SELECT string_agg(event_id || ' ' || user_id, ', ' ORDER BY event_id) FROM events"
    assert ask(stream.warehouse, told) == "0 ann, 1 bob, 2 cid"
    held = "SELECT payload::VARCHAR || ' ' || code FROM quarantine"
    assert ask(stream.warehouse, held) == "no JSON at all invalid_json"
    assert ask(stream.warehouse, "SELECT sum(duplicates) FROM quality_1m_current") == 1


def test_a_gap_ends_the_run_with_one_line_and_both_ways_out_and_loses_nothing_that_was_read(aws, prism, tmp_path):
    stream_of = DataStream(aws.url)
    stream_of.put([event(f"{number}", datetime.now(UTC)) for number in range(5)])
    file = path_of(tmp_path / "warehouse", stream_of.arn)
    with streaming(stream_of, prism, tmp_path) as stream:
        stream.until_counted(EVENTS, 5, LONG)
        stream.until(lambda: (marks := read_marks(file)) and marks.shards, LONG, "a mark")
        assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    (mark,) = read_marks(file).shards.values()
    since = msgspec.structs.replace(mark, known=mark.known - 90_000)
    old = msgspec.structs.replace(read_marks(file), shards={"shardId-000000000000": since})
    write_marks(file, old)
    stream_of.put([event("later", datetime.now(UTC))])
    with streaming(stream_of, prism, tmp_path) as stream:
        assert stream.process.wait(LIMIT) == 2
    said = only_error(stream)
    assert said.startswith("error: records of shardId-000000000000 may be lost: what came before ")
    assert f"move {file} away, and start again: with --start_at earliest" in said
    file.rename(tmp_path / "aside")
    with streaming(stream_of, prism, tmp_path, "--start_at", "earliest") as stream:
        stream.until_counted(EVENTS, 6, LONG)
        until_balanced(stream)
        drained(stream)
    assert ask(stream.warehouse, "SELECT count(*) - count(DISTINCT event_id) FROM events") == 0
