"""Queues: the kinds that a stream can read; adding one takes a line here (see queue.py)."""

from collections.abc import Mapping
from typing import Any

from pipelines.sources.kafka.queue import KafkaQueue
from pipelines.sources.kinesis.queue import KinesisQueue
from pipelines.sources.log.queue import LogQueue
from pipelines.sources.pubsub.queue import PubSubQueue
from pipelines.sources.queue import Queue
from transforms.errors import OptionError

QUEUES: tuple[type[Queue], ...] = (PubSubQueue, LogQueue, KafkaQueue, KinesisQueue)
OPTIONS = tuple(option for queue in QUEUES for option in queue.options)
LAUNCH_OPTIONS = tuple(queue.launch_option for queue in QUEUES if queue.launch_option)


def find_queue(values: Mapping[str, Any]) -> Queue | None:
    """The queue that the values of options name, if they name one. Errors: OptionError for what it does not have."""
    for queue in QUEUES:
        if any(values.get(option) for option in queue.options):
            found = queue.of(values)
            if values.get("start_at") is not None and not hasattr(found, "start_at"):
                raise OptionError(
                    f"--start_at is not for --{queue.options[0]}, which keeps no position of a run; leave it out"
                )
            return found
    return None


def choose_queue(values: Mapping[str, Any]) -> Queue:
    """The same. Errors: OptionError if they name none."""
    queue = find_queue(values)
    if queue is None:
        named = " or ".join(f"--{name}" for name in OPTIONS)
        raise OptionError(f"no source given: name the queue to read with {named}")
    return queue
