"""How topics are read."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.sources.kafka.client import Connection
from pipelines.sources.kafka.topics import EARLIEST
from pipelines.sources.landing import Again, LandAt

LIMIT_SECONDS = 3_600.0


@dataclass(frozen=True)
class Reading:
    """What a reader is given. It travels with each bundle, so it is small; it holds no password.

    drain_file           a path: once the file exists, the readers end. Its folder keeps how far they are
    source               the name for records that state none
    start_at             where a partition without a committed offset is read from: earliest, latest, or seconds since
                         1970
    readers              splits that share the partitions
    timestamp_attribute  the header that states the received time, of producers that are trusted
    expected_delay       seconds by which a message may be late and still be in time
    landing              where each block is written before it is handed on; None: the runner's state is durable
    again                landed files that are read first; split k takes each k-th
    block_rows, block_bytes, block_seconds   a block has to reach one of them before it is handed on
    most_messages, most_bytes                in flight of one reader
    id                   names the readers of one run
    """

    connection: Connection
    topics: str
    group: str
    drain_file: str
    start_at: str | float = EARLIEST
    source: str = "events"
    readers: int = 2
    timestamp_attribute: str | None = None
    expected_delay: float = 10.0
    landing: LandAt | None = None
    again: tuple[Again, ...] = ()
    block_rows: int = 10_000
    block_bytes: int = 16 << 20
    block_seconds: float = 0.5
    most_messages: int = 40_000
    most_bytes: int = 64 << 20
    limit: float = LIMIT_SECONDS
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
