"""Held: how far a warehouse has read each partition, in a file of the run's folder, beside the group in Kafka.

    kafka-<cluster and group>.json   {topic: {partition: next offset}}; written before the same offsets are committed

The group alone is not enough: a program that reads with the same group moves its offsets, and Kafka forgets those of a
group without members. Where the two differ, the one that is behind decides, so nothing is passed over; what is read
once more counts as duplicates.
"""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import msgspec

from pipelines.sources.kafka.topics import Place
from pipelines.system.disk import write_atomically
from transforms.errors import SourceError

_Offsets = dict[str, dict[int, int]]


def held_path(folder: Path, cluster: str, group: str) -> Path:
    """The file of a group of a cluster."""
    return folder / f"kafka-{blake2b(f'{cluster} {group}'.encode(), digest_size=8).hexdigest()}.json"


def read_held(path: Path) -> dict[Place, int]:
    """The next offset of each partition; none without a file. Errors: SourceError for a file that is damaged."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Offsets)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise SourceError(
            f"{path} cannot be read: {error}; restore it, or delete it: then the offsets of the group count alone"
        ) from error
    return {Place(topic, number): offset for topic, offsets in found.items() for number, offset in offsets.items()}


def write_held(path: Path, offsets: Mapping[Place, int]) -> None:
    """Store the next offset of each partition durably. Raises OSError."""
    found: _Offsets = {}
    for place, offset in sorted(offsets.items()):
        found.setdefault(place.topic, {})[place.partition] = offset
    write_atomically(path, msgspec.json.encode(found))


def choose_starts(
    committed: Mapping[Place, int], held: Mapping[Place, int], first: Mapping[Place, int]
) -> dict[Place, int]:
    """Where each partition goes on that one of both knows; `first` is the first offset that Kafka still has.

    What is held counts no more once Kafka has deleted it and the group is ahead: a person has moved it there.
    """
    both = committed.keys() & held.keys()
    behind = {place: held[place] for place in both if first.get(place, 0) <= held[place] < committed[place]}
    return {**held, **committed, **behind}
