"""A Kinesis that throttles, fails, goes away, or no longer has what the marks say; and the one line that says so."""

import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from botocore.exceptions import ClientError

from pipelines.settings.resolve import resolve
from pipelines.sources import queues
from pipelines.sources.kinesis import client, pull
from pipelines.sources.kinesis.marks import Mark, path_of, read_marks, write_marks
from pipelines.sources.kinesis.queue import KinesisQueue
from pipelines.sources.kinesis.source import KinesisSource
from pipelines.sources.pubsub.queue import PubSubQueue
from tests.pipelines.sources.queue_contract import ByHand, Clock, numbered
from tests.servers.faulty import Plan, faulty_http
from tests.servers.kinesis import ENDPOINT, DataStream
from tests.servers.needed import wait_until
from transforms.errors import AudienceError, OptionError, SourceError

OLD = 24 * 3_600 + 60  # seconds: longer than a record is kept
BOTH_WAYS = r"move .*\.json away, and start again: with --start_at earliest, .*, or with --start_at latest, "


class Faulty(NamedTuple):
    """A stream behind a proxy that fails by plan, and readers of it by hand."""

    stream: DataStream
    plan: Plan
    queue: KinesisQueue
    clock: Clock
    folder: Path

    def hand(self) -> ByHand:
        read = self.queue.read(source="shop", landing=None, again=(), drain_file=str(self.folder / "drain"))
        return ByHand(KinesisSource(read.reading), self.clock)

    @property
    def marks(self) -> Path:
        return path_of(self.folder, self.stream.arn)

    def change(self, change: Callable[[Mark], Mark]) -> None:
        """Change the marks of a run that has ended."""
        found = read_marks(self.marks)
        assert found is not None
        found.shards.update({name: change(mark) for name, mark in found.shards.items()})
        write_marks(self.marks, found)

    def refused(self) -> str:
        """What ends a run that begins now."""
        hand = self.hand()
        with pytest.raises(AudienceError) as refused:
            wait_until(lambda: hand.step(), 20)
        self.queue.close()
        assert "\n" not in str(refused.value)
        return str(refused.value)


@pytest.fixture
def faulty(data_stream, monkeypatch, tmp_path) -> Iterator[Faulty]:
    clock = Clock(1_800_000_000.0)
    with faulty_http(data_stream.client.meta.endpoint_url, watched="GetRecords") as (url, plan):
        monkeypatch.setenv(ENDPOINT, url)
        queue = KinesisQueue(data_stream.name, wall=clock, monotonic=clock)
        yield Faulty(data_stream, plan, queue, clock, tmp_path)
        queue.close()


def read_and_end(faulty: Faulty, count: int = 5) -> None:
    faulty.stream.put(numbered(count))
    hand = faulty.hand()
    hand.read(count)
    hand.finalize()
    faulty.queue.close()


def test_what_is_throttled_or_fails_for_now_is_asked_again_and_each_record_is_read_once(faulty):
    faults = (
        "ProvisionedThroughputExceededException",
        "reset",
        "pass",
        "lost",
        "500",
        "ExpiredIteratorException",
        "503",
        "KMSThrottlingException",
        "lost",
    )
    faulty.plan.set(*faults)
    hand, sent = faulty.hand(), 0
    while faulty.plan.left or not sent:
        faulty.stream.put(numbered(20, start=sent))
        sent += 20
        hand.read(sent)
    assert sorted(payload for block in hand.blocks for payload in block["payload"]) == numbered(sent)
    assert len(faulty.plan.met) == len(faults) - 1
    counts = hand.readers[0].reader.counts
    assert (counts.throttled, counts.failed, counts.messages) == (2, 5, sent)


def test_while_the_endpoint_is_gone_the_watermark_rests_and_then_goes_on(faulty):
    hand = faulty.hand()
    wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > 0)
    faulty.plan.set(*["reset"] * 1_000)
    wait_until(lambda: hand.step() or faulty.plan.met)
    wait_until(lambda: not next(iter(hand.readers[0].reader.shards.by_id.values())).is_at_tip)
    before = float(hand.watermarks()[0])
    faulty.clock.now += 60
    hand.step()
    assert float(hand.watermarks()[0]) == before
    faulty.stream.put(numbered(5))
    faulty.plan.set()
    hand.read(5)
    wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > before + 50)


def test_a_refusal_that_lasts_ends_the_run_with_what_to_allow(faulty, monkeypatch):
    monkeypatch.setattr(pull, "GRACE_SECONDS", 0.3)
    faulty.plan.set(*["AccessDeniedException"] * 1_000)
    said = faulty.refused()
    assert said.startswith(
        f"Kinesis stream {faulty.stream.name} cannot be read: AccessDeniedException (by plan); allow"
    )
    assert "kinesis:DescribeStreamSummary, ListShards, GetShardIterator and GetRecords" in said


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDeniedException", "allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and GetRecords"),
        ("KMSAccessDeniedException", "allow kms:Decrypt on the key of the stream"),
    ],
)
def test_a_stream_that_may_be_described_and_not_read_is_said_before_a_run_starts(faulty, code, advice):
    faulty.plan.set(code)
    with pytest.raises(SourceError, match=f"cannot be read: {code} .by plan.; {advice}"), faulty.queue.open():
        pass
    faulty.plan.set("ProvisionedThroughputExceededException")
    with faulty.queue.open():
        assert faulty.plan.met, "what fails for now keeps no run from its start"


def test_a_refusal_that_does_not_last_is_none(faulty, monkeypatch):
    monkeypatch.setattr(pull, "GRACE_SECONDS", 0.3)
    faulty.plan.set("AccessDeniedException", "pass", *["ExpiredTokenException", "pass"] * 4)
    faulty.stream.put(numbered(5))
    hand = faulty.hand()
    hand.read(5)
    wait_until(lambda: hand.step() or not faulty.plan.left)
    hand.step()
    assert len(faulty.plan.met) == 5


def test_a_stream_that_is_deleted_while_it_is_read_is_said_in_a_line(faulty, monkeypatch):
    monkeypatch.setattr(pull, "GRACE_SECONDS", 0.3)
    hand = faulty.hand()
    wait_until(lambda: hand.step() or faulty.plan.requests > 1)
    faulty.stream.delete()
    with pytest.raises(SourceError, match="does not exist; create it with `aws kinesis create-stream"):
        wait_until(lambda: hand.step(), 20)


def test_records_that_may_have_been_deleted_unread_end_the_run_with_both_ways_out(faulty):
    read_and_end(faulty)
    faulty.change(lambda mark: Mark(mark.sequence, mark.known - OLD))
    said = faulty.refused()
    assert said.startswith("records of shardId-000000000000 may be lost: what came before ")
    assert "and Kinesis keeps a record for 24 hours; to go on without them move" in said
    faulty.stream.client.increase_stream_retention_period(StreamName=faulty.stream.name, RetentionPeriodHours=48)
    faulty.stream.put(numbered(3, start=5))
    hand = faulty.hand()
    assert sorted(hand.read(3)["payload"]) == numbered(3, start=5)


def test_a_server_whose_clock_is_past_the_retention_says_so_while_it_is_read(faulty):
    hand = faulty.hand()
    faulty.stream.put(numbered(5))
    hand.read(5)
    faulty.plan.ahead = 25 * 3_600
    with pytest.raises(SourceError, match=f"records of shard.* may be lost: .*; to go on without them {BOTH_WAYS}"):
        wait_until(lambda: hand.step(), 20)


def test_the_clock_of_this_machine_does_not_decide_whether_records_are_lost(faulty):
    read_and_end(faulty)
    for days in (3, -6):
        faulty.clock.now += days * 86_400
        faulty.stream.put(numbered(3, start=5))
        hand = faulty.hand()
        hand.read(3)
        hand.finalize()
        faulty.queue.close()


@pytest.mark.parametrize("way", ["earliest", "latest"])
def test_both_ways_out_go_on(faulty, way):
    read_and_end(faulty)
    faulty.change(lambda mark: Mark(mark.sequence, mark.known - OLD))
    faulty.refused()
    faulty.marks.rename(faulty.folder / "aside")
    hand = faulty._replace(queue=replace(faulty.queue, start_at=way)).hand()
    wait_until(lambda: hand.step() or faulty.queue.snapshot().lag_seconds == 0)
    faulty.stream.put(numbered(3, start=5))
    read = hand.read(3 if way == "latest" else 8)
    assert set(numbered(3, start=5)) <= set(read["payload"])


def test_a_shard_that_expired_before_it_was_read_to_its_end_is_named(faulty):
    read_and_end(faulty)
    found = read_marks(faulty.marks)
    (mark,) = found.shards.values()
    write_marks(faulty.marks, found.__class__(found.stream, found.created, None, {"shardId-000000000099": mark}))
    assert faulty.refused().startswith("records of shardId-000000000099 may be lost: what came before ")


def test_a_shard_that_was_read_to_its_end_and_expired_is_forgotten(faulty):
    read_and_end(faulty)
    found = read_marks(faulty.marks)
    (mark,) = found.shards.values()
    found.shards["shardId-000000000099"] = Mark(mark.sequence, mark.known, ended=True)
    write_marks(faulty.marks, found)
    faulty.stream.put(numbered(2))
    hand = faulty.hand()
    hand.read(2)
    hand.finalize()
    assert list(read_marks(faulty.marks).shards) == ["shardId-000000000000"]


def test_the_marks_of_a_stream_that_was_created_again_are_refused(faulty):
    read_and_end(faulty)
    created = read_marks(faulty.marks).created
    faulty.stream.delete()
    wait_until(lambda: faulty.stream.make() or _created(faulty) > created + 1.1 or faulty.stream.delete())
    assert "was created again since" in faulty.refused()


def _created(faulty: Faulty) -> float:
    told = faulty.stream.client.describe_stream_summary(StreamName=faulty.stream.name)
    return told["StreamDescriptionSummary"]["StreamCreationTimestamp"].timestamp()


def test_a_number_that_its_shard_does_not_have_is_said_with_both_ways_out(faulty):
    read_and_end(faulty)
    faulty.change(lambda mark: Mark("123", mark.known))
    assert "has no record with the number of its mark any more" in faulty.refused()


def test_marks_that_are_damaged_are_named_and_not_forgotten(faulty):
    read_and_end(faulty)
    faulty.marks.write_bytes(b"?")
    assert "cannot be read: " in faulty.refused()
    assert faulty.marks.read_bytes() == b"?"


def test_a_folder_that_cannot_be_written_ends_the_run_before_anything_is_read(faulty):
    faulty.marks.with_suffix(".json.tmp").mkdir()
    assert "cannot be written: Is a directory" in faulty.refused()


def test_requests_that_fail_are_logged_without_a_word_of_the_credentials(faulty, monkeypatch, caplog):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-nobody-at-all")
    caplog.set_level(logging.DEBUG, logger=pull.__name__)
    faulty.plan.set("ThrottlingException", "reset")
    faulty.stream.put(numbered(1))
    hand = faulty.hand()
    hand.read(1)
    assert "ThrottlingException (by plan); trying again" in caplog.text
    assert "of-nobody-at-all" not in caplog.text
    assert b"of-nobody-at-all" not in pickle.dumps(hand.source)


def test_what_aws_quotes_of_a_request_is_not_repeated():
    message = "Signature expired: 1 is now earlier than 2\n\nThe Canonical String was\n'x-amz-security-token:of-nobody'"
    error = ClientError({"Error": {"Code": "InvalidSignatureException", "Message": message}}, "GetRecords")
    assert client.describe_error(error) == "InvalidSignatureException (Signature expired: 1 is now earlier than 2)"


def test_a_machine_without_boto3_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"not installed; run: pip install 'audience-insights\[kinesis\]'$"):
        KinesisQueue("events").check()


def test_a_machine_without_credentials_or_a_region_is_told_what_to_set(aws, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SourceError, match="Unable to locate credentials; run `aws configure`, or give"):
        KinesisQueue("events").check()
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(SourceError, match=r"specify a region.*; set AWS_REGION, or give the stream by its ARN"):
        KinesisQueue("events").check()


def test_an_endpoint_that_does_not_answer_is_told(aws, monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be read: .*; check the network, the region and AWS_END"):
        KinesisQueue("events").check()


def test_an_arn_names_its_region(data_stream, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert KinesisQueue(data_stream.name).check().startswith("1 open shard;")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert KinesisQueue(data_stream.arn).check() == "1 open shard; records are kept for 24 hours"
    with pytest.raises(SourceError, match="does not exist"):
        KinesisQueue(data_stream.name).check()


def test_the_options_of_a_stream_reach_the_reader():
    values = {"input_kinesis": "e", "expected_delay": "30s", "batch_delay": "700ms", "start_at": "2026-03-01T10:00:00Z"}
    queue = queues.choose_queue(resolve(values, "run")._asdict())
    assert queue == KinesisQueue("e", 1_772_359_200.0, timedelta(seconds=30), timedelta(milliseconds=700))
    reading = queue.read(source="shop", landing=None, again=(), drain_file="drain").reading
    assert (reading.start_at, reading.expected_delay, reading.block_seconds) == (1_772_359_200.0, 30.0, 0.7)


@pytest.mark.parametrize("start", ["now", "2026-03-01", "2026-03-01T10:00:00", "2026-13-01T10:00:00Z", "1", ""])
def test_a_start_that_is_none_is_refused(start):
    with pytest.raises(OptionError, match=r"--start_at: got .*; allowed: earliest, latest, or a time with its zone"):
        resolve({"input_kinesis": "e", "start_at": start}, "run")


def test_options_that_a_queue_does_not_have_are_refused():
    with pytest.raises(OptionError, match=r"--timestamp_attribute is not for --input_kinesis, .*; leave it out"):
        queues.choose_queue(resolve({"input_kinesis": "e", "timestamp_attribute": "at"}, "run")._asdict()).check()
    values = {PubSubQueue.options[0]: "projects/my-project/subscriptions/events", "start_at": "latest"}
    with pytest.raises(OptionError, match=r"--start_at is not for --input_subscription, .*; leave it out"):
        queues.choose_queue(resolve(values, "run")._asdict())
