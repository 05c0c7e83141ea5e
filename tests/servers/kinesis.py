"""Kinesis on this machine: kinesis-local on a free port of the loopback, and streams on it.

`make tools` installs it. It needs no credentials: those in the environment are of nobody.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipelines.apps.demo.emulators import ended
from pipelines.runners.choose import free_port
from tests.servers.needed import missing, wait_until
from tests.servers.process import ROOT, ServerMissing

ENDPOINT = "AWS_ENDPOINT_URL_KINESIS"
REGION = "eu-west-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
PROGRAM = ROOT / ".tools" / "kinesis-local" / "node_modules" / "kinesis-local" / "main.js"
LOOPBACK = Path(__file__).parent / "kinesis_local" / "loopback.cjs"
QUICK = {f"{name}_DURATION": "10ms" for name in ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS")}


def client_of(url: str) -> Any:
    """A client that is not the product's."""
    config = Config(retries={"total_max_attempts": 3}, connect_timeout=5, read_timeout=20)
    keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
    return boto3.client("kinesis", endpoint_url=url, region_name=REGION, config=config, **keys)


class KinesisServer:
    """kinesis-local. It keeps nothing when it ends."""

    def __init__(self, log: Path):
        self.node = shutil.which("node")
        if self.node is None or not PROGRAM.exists():
            raise ServerMissing("no kinesis-local; install Node.js 20 or newer, then run `make tools`")
        self.log, self.port, self.process = log, free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self.node is not None
        told = {"KINESIS_MOCK_PLAIN_PORT": self.port, "KINESIS_MOCK_TLS_PORT": free_port(), "SHARD_LIMIT": 9_999}
        environ = os.environ | QUICK | {name: str(value) for name, value in told.items()} | {"LOG_LEVEL": "ERROR"}
        with self.log.open("ab") as out:
            words = [self.node, "-r", str(LOOPBACK), str(PROGRAM)]
            self.process = subprocess.Popen(words, cwd=PROGRAM.parent, env=environ, stdout=out, stderr=out)

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self._answers()

        wait_until(answers, 60, "kinesis-local answers", 0.05)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            ended(self.process)
            self.process = None

    def _answers(self) -> bool:
        try:
            client_of(self.url).list_streams()
        except (BotoCoreError, ClientError):
            return False
        return True


@pytest.fixture(scope="session")
def kinesis_server(tmp_path_factory) -> Iterator[KinesisServer]:
    """The emulator of the session."""
    try:
        server = KinesisServer(tmp_path_factory.mktemp("kinesis") / "kinesis.log")
    except ServerMissing as absent:
        missing(str(absent))
        raise
    server.start()
    yield server
    server.kill()


class DataStream:
    """A new stream on an emulator."""

    def __init__(self, url: str, shards: int = 1):
        self.client, self.name = client_of(url), f"stream-{uuid.uuid4().hex}"
        self.make(shards)

    def make(self, shards: int = 1) -> None:
        self.client.create_stream(StreamName=self.name, ShardCount=shards)
        self._wait()

    def delete(self) -> None:
        """Delete it, with its records."""
        self.client.delete_stream(StreamName=self.name)
        wait_until(lambda: self.name not in self.client.list_streams()["StreamNames"], 20)

    @property
    def arn(self) -> str:
        return self.client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamARN"]

    def put(self, payloads: Sequence[bytes], keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Put records; returns shard and sequence number of each."""
        keys = keys or [f"{number}" for number in range(len(payloads))]
        entries = [{"Data": one, "PartitionKey": key} for one, key in zip(payloads, keys, strict=True)]
        put: list[dict[str, Any]] = []
        while len(put) < len(entries):
            some, size = [], 0
            while len(put) + len(some) < len(entries) and len(some) < 500 and size < 500_000:
                some.append(entries[len(put) + len(some)])
                size += len(some[-1]["Data"])
            answer = self.client.put_records(StreamName=self.name, Records=some)
            assert not answer["FailedRecordCount"], answer
            put += answer["Records"]
        return put

    def shards(self) -> list[dict[str, Any]]:
        return self.client.list_shards(StreamName=self.name)["Shards"]

    def open_shards(self) -> list[dict[str, Any]]:
        return [each for each in self.shards() if "EndingSequenceNumber" not in each["SequenceNumberRange"]]

    def split(self, shard: str) -> list[str]:
        """Split a shard in its middle; the names of the two."""
        keys = next(each["HashKeyRange"] for each in self.shards() if each["ShardId"] == shard)
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
        self.client.split_shard(StreamName=self.name, ShardToSplit=shard, NewStartingHashKey=str(middle))
        self._wait()
        return [each["ShardId"] for each in self.shards() if each.get("ParentShardId") == shard]

    def merge(self, one: str, other: str) -> str:
        """Merge two neighbors; the name of the new one."""
        self.client.merge_shards(StreamName=self.name, ShardToMerge=one, AdjacentShardToMerge=other)
        self._wait()
        return next(each["ShardId"] for each in self.shards() if each.get("AdjacentParentShardId") in (one, other))

    def records(self) -> list[dict[str, Any]]:
        """All records, with their shards."""
        return [{**record, "ShardId": each["ShardId"]} for each in self.shards() for record in self._of(each)]

    def _of(self, shard: dict[str, Any]) -> Iterator[dict[str, Any]]:
        how = {"StreamName": self.name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.client.get_shard_iterator(**how)["ShardIterator"]
        while iterator:
            answer = self.client.get_records(ShardIterator=iterator, Limit=1_000)
            yield from answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["Records"] else None

    def _wait(self) -> None:
        def is_active() -> bool:
            told = self.client.describe_stream_summary(StreamName=self.name)
            return told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

        wait_until(is_active, 20, f"{self.name} is active")


@pytest.fixture
def aws(kinesis_server, monkeypatch) -> KinesisServer:
    """The emulator, and the environment that leads the product to it."""
    for name, value in (ENVIRONMENT | {ENDPOINT: kinesis_server.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return kinesis_server


@pytest.fixture
def data_stream(aws) -> DataStream:
    """A new stream of one shard."""
    return DataStream(aws.url)


@contextmanager
def own_server(log: Path) -> Iterator[KinesisServer]:
    """An emulator of one test, which may kill it."""
    server = KinesisServer(log)
    server.start()
    try:
        yield server
    finally:
        server.kill()
