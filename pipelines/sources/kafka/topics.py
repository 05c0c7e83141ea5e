"""Topics: which partitions the text of `--input_kafka` names, and where each of them is read from at first.

events,orders     topics by name
^web-.*           a regular expression, from the beginning of a name: also topics that are made later
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pipelines.sources.kafka.client import ASK_SECONDS, NotReached, describe_error, is_passing
from transforms.errors import OptionError, SourceError, first_line

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

EARLIEST, LATEST = "earliest", "latest"
ALLOWED = "names of topics with commas between them, or a regular expression that begins with ^; without @"
_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Part(NamedTuple):
    """Offsets of a partition: from `start`, before `stop`."""

    place: Place
    start: int
    stop: int


def choose_parts(place: Place, start: int, stop: int, most: int) -> list[Part]:
    """Parts of at most so many offsets, which cover those from `start` to before `stop`; none if there are none."""
    return [Part(place, offset, min(offset + most, stop)) for offset in range(start, stop, most)]


def check_names(text: str) -> None:
    """Errors: OptionError for a text that names no topics."""
    if text.startswith("^"):
        try:
            re.compile(text)
            fits = "@" not in text and text.isprintable()
        except re.error:
            fits = False
    else:
        names = text.split(",")
        fits = all(_NAME.fullmatch(name) for name in names) and len(set(names)) == len(names)
    if not fits:
        raise OptionError(f"--input_kafka: got {text!r}; allowed: {ALLOWED}")


def find_places(admin: "AdminClient", text: str) -> list[Place]:
    """The partitions that there are now, in order. Errors: KafkaException; SourceError for a topic that is missing."""
    from confluent_kafka import KafkaException

    there = admin.list_topics(timeout=ASK_SECONDS).topics
    if text.startswith("^"):
        pattern = re.compile(text)
        names = sorted(name for name in there if pattern.match(name) and not name.startswith("__"))
    else:
        names = text.split(",")
        for name in names:
            if name not in there:
                raise _describe_missing(admin, name)
    for name in names:
        if there[name].error is not None:
            raise KafkaException(there[name].error)
    return [Place(name, number) for name in names for number in sorted(there[name].partitions)]


def find_cluster(admin: "AdminClient") -> str:
    """The id of the cluster. Errors: KafkaException."""
    return str(admin.list_topics(timeout=ASK_SECONDS).cluster_id)


def split_of(place: Place, splits: int) -> int:
    """The split that owns a partition, whatever others there are: the partitions of a topic go round."""
    return (crc32(place.topic.encode()) + place.partition) % splits


def _describe_missing(admin: "AdminClient", topic: str) -> SourceError:
    """The error for a topic that is not in the list of all: Kafka leaves out what a login may not see. Errors:
    KafkaException for another reason."""
    from confluent_kafka import KafkaError, KafkaException, TopicCollection

    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=ASK_SECONDS).values()
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return describe_no_right("topic", topic)
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
    return SourceError(
        f"topic {topic} does not exist; make it with "
        f"`kafka-topics.sh --bootstrap-server SERVERS --create --topic {topic}`"
    )


def describe_no_right(kind: str, name: str) -> SourceError:
    """The error for a topic or a group that may not be read, with the command that allows it."""
    return SourceError(
        f"the login may not read {kind} {name}; allow it with `kafka-acls.sh --bootstrap-server SERVERS --add "
        f"--allow-principal User:NAME --operation Read --{kind} {name}`"
    )


def find_offsets(admin: "AdminClient", places: Iterable[Place], at: str | float) -> dict[Place, int]:
    """The offsets that `at` means now: earliest, latest, or seconds since 1970; of a time after the last message, the
    end. Errors: KafkaException."""
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    named = {EARLIEST: OffsetSpec.earliest(), LATEST: OffsetSpec.latest()}

    def ask_for(places: list[Place], spec: Any) -> dict[Place, int]:
        asked = admin.list_offsets(
            {TopicPartition(*place): spec for place in places},
            isolation_level=IsolationLevel.READ_COMMITTED,  # no end behind a transaction that is open
            request_timeout=ASK_SECONDS,
        )
        return {Place(each.topic, each.partition): future.result().offset for each, future in asked.items()}

    wanted = list(places)
    if not wanted:
        return {}
    if isinstance(at, str):
        return ask_for(wanted, named[at])
    found = ask_for(wanted, OffsetSpec.for_timestamp(int(at * 1_000)))
    if after := [place for place, offset in found.items() if offset < 0]:
        found |= ask_for(after, named[LATEST])
    return found


def find_committed(consumer: Any, places: Iterable[Place]) -> dict[Place, int]:
    """The offsets that the consumer's group has committed. Errors: KafkaException."""
    from confluent_kafka import KafkaException, TopicPartition

    wanted = [TopicPartition(*place) for place in places]
    found = {}
    for each in consumer.committed(wanted, timeout=ASK_SECONDS) if wanted else ():
        if each.error is not None:
            raise KafkaException(each.error)
        if each.offset >= 0:
            found[Place(each.topic, each.partition)] = each.offset
    return found


def describe_gone(group: str, lost: Mapping[Place, tuple[int, int]]) -> SourceError:
    """The error for offsets that Kafka no longer has: {partition: (the next to read, the first that there is)}."""
    place, (next_offset, first) = next(iter(lost.items()))
    more = f" (and some of {len(lost) - 1} more partitions)" if len(lost) > 1 else ""
    if next_offset < first:
        what = f"offsets {next_offset:,} to {first - 1:,} of {place}{more} are deleted and were not read"
    else:
        what = f"offset {next_offset:,} of {place}{more} does not exist: the topic was made again, or cut"
    return SourceError(
        f"{what}; to go on with what is left: `kafka-consumer-groups.sh --bootstrap-server SERVERS --group {group} "
        f"--topic {place.topic} --reset-offsets --to-earliest --execute`; to read all that is left once more: "
        "--kafka_group with a new name"
    )


def ask(what: str, question: Callable[[], Any]) -> Any:
    """The answer of a cluster, which may be about to choose a leader. Errors: SourceError in a line, NotReached where
    the client itself has failed."""
    from confluent_kafka import KafkaException

    end = time.monotonic() + ASK_SECONDS
    while True:
        try:
            return question()
        except KafkaException as error:
            cause: Any = error.args[0] if error.args else None
            if is_passing(cause) and time.monotonic() < end:
                time.sleep(0.2)
                continue
            is_answer = hasattr(cause, "code") and cause.code() > 0
            said = describe_error(cause) if hasattr(cause, "code") else first_line(error)
            raise (SourceError if is_answer else NotReached)(
                f"{what}: {said}; check the servers, the credentials and the network"
            ) from None
