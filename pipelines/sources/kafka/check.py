"""Check that topics can be read, before anything starts. An error is one line, with what to do."""

from typing import Any

from pipelines.sources.kafka.client import Connection, NotReached, describe_failures, make_admin, make_consumer
from pipelines.sources.kafka.rights import check_rights
from pipelines.sources.kafka.topics import (
    EARLIEST,
    LATEST,
    Place,
    ask,
    check_names,
    describe_gone,
    find_committed,
    find_offsets,
    find_places,
)
from transforms.errors import SourceError


def check(connection: Connection, topics: str, group: str | None) -> str:
    """A line about the topics. Errors: OptionError for their names or the properties, SourceError for all else."""
    check_names(topics)
    said: list[Any] = []
    admin = make_admin(connection, said.append)
    where = f"Kafka at {connection.where}"
    try:
        places = ask(where, lambda: find_places(admin, topics))
    except NotReached as error:
        admin.poll(0)  # its own errors say more
        if said:
            raise SourceError(f"{where}: {describe_failures(said)}; check servers, credentials and network") from error
        raise
    check_rights(admin, where, sorted({place.topic for place in places}), group)
    if not places:
        return f"no topic matches {topics} yet"
    first = ask(where, lambda: find_offsets(admin, places, EARLIEST))
    end = ask(where, lambda: find_offsets(admin, places, LATEST))
    kept = sum(end[place] - first[place] for place in places)
    named = f"{len(places):,} partitions of {len({place.topic for place in places}):,} topics with {kept:,} offsets"
    if group is None:
        return named
    committed = _committed(connection, where, group, places)
    gone = {
        place: (offset, first[place]) for place, offset in committed.items() if not first[place] <= offset <= end[place]
    }
    if gone:
        raise describe_gone(group, gone)
    waiting = sum(end[place] - committed.get(place, first[place]) for place in places)
    return f"{named}; at most {waiting:,} of them wait for the group {group}"


def _committed(connection: Connection, where: str, group: str, places: list[Place]) -> dict[Place, int]:
    consumer = make_consumer(connection, group, lambda error: None)
    try:
        return ask(where, lambda: find_committed(consumer, places))
    finally:
        consumer.close()
