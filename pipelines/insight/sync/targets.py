"""How a batch of changes is sent. Each kind of target is a function of its settings and a batch.

    sender(target) -> send; send(batch) returns the persons whose changes the target refused; raises NotNow

webhook     a POST that is signed as alerts are; an answer `{"refused": ["person", ...]}` names what was not taken
pubsub      a message for each change: its JSON, and as attributes `id`, `segment`, `action`
kafka       the same: the person is the key, the attributes are headers
file        FOLDER/SEGMENT-ID-NUMBER.jsonl, a change on each line
google_ads  FOLDER/SEGMENT-ID-NUMBER-add.csv and -remove.csv

A change is {"id", "segment", "action", "person", "attributes"}. Its id is made of the folder of the state, the sync and
its place in it: what is sent again has the id that it had.
"""

import csv
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.insight.alerts import channels
from pipelines.insight.alerts.outbox import BodyRefused, NotNow, Refused
from pipelines.insight.sync.members import ADD, CHANGE, HASHED, PLAIN, REMOVE
from pipelines.settings.alerts import KafkaTopic, PubSubTopic, Webhook
from pipelines.settings.sync import FolderTarget, GoogleAds, Target
from pipelines.sources.kafka.publish import KafkaTopic as Kafka
from pipelines.sources.pubsub.publish import PubSubTopic as PubSub
from pipelines.system.disk import WRITE_ERRORS
from pipelines.system.private import write_whole
from pipelines.warehouse.outputs import Message
from transforms.errors import AudienceError

MOST_POSTS = 100  # of a batch that is sent in parts
LIMIT_SECONDS = 60.0  # after which a target that takes nothing is left to the next sync


class Batch(NamedTuple):
    """What is sent at once. `id` is its own; `changes` as those of a plan, `at` the place of each in it."""

    segment: str
    id: str
    plan: str
    time: float
    changes: pl.DataFrame


Send = Callable[[Batch], list[str]]


def sender(target: Target) -> Send:
    """The function that sends a batch to a target."""
    limit = LIMIT_SECONDS
    if isinstance(target, Webhook):
        return partial(_webhook, target, limit)
    if isinstance(target, PubSubTopic):
        return partial(_publish, PubSub(target.topic, limit_seconds=limit))
    if isinstance(target, KafkaTopic):
        from pipelines.sources.kafka.client import Connection

        return partial(_publish, Kafka(target.topic, Connection(target.servers, target.properties), limit))
    if isinstance(target, FolderTarget):
        return partial(_write, target)
    return partial(_write_ads, target)


def is_whole(target: Target) -> bool:
    """Whether a target gets a plan as one batch."""
    return isinstance(target, FolderTarget | GoogleAds)


def forms(batch: Batch) -> list[dict]:
    """The changes of a batch as they are sent."""
    told = batch.changes.select("at", "action", "person", "row").rows()
    return [
        {
            "id": f"{batch.plan}-{at}",
            "segment": batch.segment,
            "action": action,
            "person": person,
            "attributes": msgspec.Raw((row or "{}").encode()),
        }
        for at, action, person, row in told
    ]


def _webhook(target: Webhook, limit: float, batch: Batch) -> list[str]:
    """A batch that is refused for what it holds is sent again in halves, down to single changes, until MOST_POSTS."""
    refused: list[str] = []
    waiting, posts = [batch], 0
    while waiting:
        part, posts = waiting.pop(), posts + 1
        try:
            refused += _post(target, limit, part)
        except BodyRefused:
            if part.changes.height > 1 and posts < MOST_POSTS:
                waiting += reversed(_halves(part))
            else:
                refused += part.changes["person"].to_list()
        except Refused:
            refused += part.changes["person"].to_list()
    return refused


def _halves(batch: Batch) -> list[Batch]:
    """Both halves; the id of each is made of what it holds, so that it is the same when it is sent again."""
    middle = batch.changes.height // 2
    parts = (batch.changes.head(middle), batch.changes.tail(-middle))
    return [batch._replace(id=f"{batch.plan}-{part['at'][0]}-{part['at'][-1]}", changes=part) for part in parts]


def _post(target: Webhook, limit: float, batch: Batch) -> list[str]:
    data = {"segment": batch.segment, "changes": forms(batch)}
    body = msgspec.json.encode({"type": "segment.changes", "timestamp": _at(batch.time), "data": data})
    return _refused(channels.retried(partial(channels.post_signed, target, batch.id, body), limit))


class _Answer(msgspec.Struct):
    refused: list[str] = []


def _refused(answer: bytes) -> list[str]:
    try:
        return msgspec.json.decode(answer, type=_Answer).refused
    except (msgspec.DecodeError, UnicodeDecodeError):  # another text: all was taken
        return []


def _publish(topic: PubSub | Kafka, batch: Batch) -> list[str]:
    messages = [
        Message(
            msgspec.json.encode(form),
            {"key": form["person"], "id": form["id"], "segment": batch.segment, "action": form["action"]},
        )
        for form in forms(batch)
    ]
    try:
        topic.publish(messages)
    except AudienceError as problem:
        raise NotNow(str(problem)) from None
    return []


def _write(target: FolderTarget, batch: Batch) -> list[str]:
    lines = b"".join(msgspec.json.encode(form) + b"\n" for form in forms(batch))
    _put(Path(target.folder) / f"{batch.segment}-{batch.plan}.jsonl", lines)
    return []


def _write_ads(target: GoogleAds, batch: Batch) -> list[str]:
    added = batch.changes.filter(pl.col("action").is_in([ADD, CHANGE]))["row"]
    removed = batch.changes.filter(pl.col("action").is_in([CHANGE, REMOVE]))["before"]
    for what, rows in ((REMOVE, removed), (ADD, added)):
        if len(rows):
            _put(Path(target.folder) / f"{batch.segment}-{batch.plan}-{what}.csv", _table(rows.to_list()))
    return []


def _table(rows: Sequence[str]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*HASHED.values(), *PLAIN.values()], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(msgspec.json.decode(row) for row in rows)
    return out.getvalue().encode()


def _put(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except WRITE_ERRORS as error:
        raise NotNow(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
