"""Kinesis by boto3: the calls that a reader needs, and how their failures are classified.

Region, endpoint and credentials come from boto3's own chain (environment, profile, role of the machine), never from an
option. The region of an ARN wins. `AWS_ENDPOINT_URL_KINESIS` chooses another endpoint, such as an emulator's.

Times are in seconds since 1970. The server's clock is that of its answers, where they state it.
"""

import os
import re
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any, NamedTuple

from transforms.errors import SourceError, first_line

ARN = re.compile(r"arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/([a-zA-Z0-9_.-]{1,128})")
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
MOST_RECORDS = 10_000  # of an answer, by the protocol; it has 10 MB at most
CONNECT_SECONDS, ANSWER_SECONDS = 5, 20
MOST_THREADS = 8  # that ask for records at a time
EXPIRED_ITERATOR = "ExpiredIteratorException"  # five minutes after it was given out
GONE = "ResourceNotFoundException"
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "KMSThrottlingException",
}
REFUSALS = {  # codes that a retry does not resolve
    GONE,
    "AccessDeniedException",
    "AccessDenied",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "OptInRequired",
    "NotAuthorized",
    "ValidationException",
    "InvalidArgumentException",
    "UnknownOperationException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
}


class About(NamedTuple):
    """What Kinesis states about a stream; `retention` in seconds, times in seconds since 1970."""

    arn: str
    created: float
    status: str
    shards: int
    retention: float
    now: float | None


class Kinesis:
    """A connection to one stream, by its name or its ARN. Any thread may call any method.

    Its calls raise ClientError and BotoCoreError of botocore, once and without a retry. Creating one raises SourceError
    where boto3 is missing or finds no region.
    """

    def __init__(self, stream: str):
        if find_spec("boto3") is None:
            raise SourceError("the package for Kinesis is not installed; run: pip install 'audience-insights[kinesis]'")
        found = ARN.fullmatch(stream)
        self.stream, self._named = stream, {"StreamARN": stream} if found else {"StreamName": stream}
        self._client = _connect(found[1] if found else None)
        self.region = str(self._client.meta.region_name)

    def describe(self) -> About:
        """What there is to know of the stream."""
        answer = self._client.describe_stream_summary(**self._named)
        told = answer["StreamDescriptionSummary"]
        retention = told["RetentionPeriodHours"] * 3_600.0
        created = told["StreamCreationTimestamp"].timestamp()
        return About(
            told["StreamARN"], created, told["StreamStatus"], told["OpenShardCount"], retention, server_time(answer)
        )

    def shards(self) -> list[dict[str, Any]]:
        """Every shard that still has records or may get some, closed ones too."""
        pages = self._client.get_paginator("list_shards").paginate(**self._named)
        return [shard for page in pages for shard in page["Shards"]]

    def iterator(self, shard: str, *, after: str | None = None, since: float | None = None) -> str:
        """Where to read a shard on: after a sequence number, from a time, or from its oldest record."""
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        elif since is not None:
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": since}
        return str(self._client.get_shard_iterator(**self._named, ShardId=shard, **where)["ShardIterator"])

    def records(self, iterator: str, most: int) -> dict[str, Any]:
        """The answer of GetRecords: Records, NextShardIterator, MillisBehindLatest."""
        arn = {"StreamARN": self.stream} if "StreamARN" in self._named else {}
        return dict(self._client.get_records(ShardIterator=iterator, Limit=min(most, MOST_RECORDS), **arn))

    def try_reading(self, shard: str) -> None:
        """Ask a shard for one record, since a stream that may be described may not be readable. What fails for now is
        no refusal."""
        try:
            self.records(self.iterator(shard), 1)
        except Exception as error:
            if is_refusal(error):
                raise

    def close(self) -> None:
        """Close the connections; calls in flight may fail."""
        self._client.close()


def _connect(region: str | None) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        max_pool_connections=MOST_THREADS + 2,
        retries={"mode": "standard", "total_max_attempts": 1},  # the reader retries, without limit
    )
    try:
        session = boto3.session.Session()
        # AWS_REGION is what all other tools of AWS read, and boto3 does not.
        where = region or session.region_name or os.environ.get("AWS_REGION")
        return session.client("kinesis", region_name=where, config=config)
    except (BotoCoreError, ValueError) as error:
        raise SourceError(f"Kinesis: {first_line(error).rstrip('.')}; {advice_for(error)}") from error


def code_of(error: BaseException) -> str:
    """The code of an error that the server answered; empty for any other."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_refusal(error: BaseException) -> bool:
    """Whether a retry cannot help: the name, the permission, the credentials or the request is wrong."""
    from botocore import exceptions

    if code := code_of(error):
        return code in REFUSALS
    wrong = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.NoRegionError,
        exceptions.ProfileNotFound,
        exceptions.ParamValidationError,
    )
    return isinstance(error, wrong)


def describe_error(error: BaseException) -> str:
    """The failure on one line: the first of its message, since AWS quotes the token of a session in others."""
    code, response = code_of(error), getattr(error, "response", None) or {}
    message = str(response.get("Error", {}).get("Message") or "") if code else first_line(error)
    message = " ".join(message.strip().partition("\n")[0].split()).rstrip(".")
    return f"{code} ({message})" if code and message else code or message


def advice_for(error: BaseException) -> str:
    """What to do about an error of boto3 that no server answered."""
    from botocore import exceptions

    if isinstance(error, exceptions.NoRegionError):
        return "set AWS_REGION, or give the stream by its ARN"
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return "run `aws configure`, or give the machine a role that may read the stream"
    return "check the configuration of the AWS command line (`aws configure list`) and the environment"


def server_time(answer: dict[str, Any]) -> float | None:
    """When the server answered, by its clock, in whole seconds; None where it does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def ask(stream: str, *questions: Callable[[Kinesis], Any], option: str) -> Sequence[Any]:
    """The answers to questions about a stream. Errors: SourceError with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError

    kinesis = Kinesis(stream)
    try:
        return [question(kinesis) for question in questions]
    except (ClientError, BotoCoreError) as error:
        raise describe_refusal(kinesis, error, option) from error
    finally:
        kinesis.close()


def describe_refusal(kinesis: Kinesis, error: BaseException, option: str) -> SourceError:
    """The error for a stream that cannot be read, with the command that fixes it."""
    code, found = code_of(error), ARN.fullmatch(kinesis.stream)
    name = found[2] if found else kinesis.stream
    if code == GONE:
        make = f"aws kinesis create-stream --stream-name {name} --shard-count 1 --region {kinesis.region}"
        return SourceError(
            f"Kinesis stream {kinesis.stream} does not exist; create it with `{make}`, or name another one with"
            f" --{option}"
        )
    said = f"Kinesis stream {kinesis.stream} cannot be read: {describe_error(error)}"
    if code in ("AccessDeniedException", "AccessDenied"):
        return SourceError(
            f"{said}; allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and GetRecords on it"
        )
    if code.startswith("KMS") and code in REFUSALS:
        return SourceError(f"{said}; allow kms:Decrypt on the key of the stream, and see that it is enabled")
    if code in ("InvalidSignatureException", "SignatureDoesNotMatch"):
        return SourceError(f"{said}; check the clock of this machine, and the credentials")
    if code in REFUSALS:
        return SourceError(f"{said}; check the credentials (`aws sts get-caller-identity`) and the name of the stream")
    if code:
        return SourceError(f"{said}; try again later")
    if is_refusal(error):
        return SourceError(f"{said}; {advice_for(error)}")
    return SourceError(f"{said}; check the network, the region and AWS_ENDPOINT_URL_KINESIS")
