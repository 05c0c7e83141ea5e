"""Queues: the kinds that a stream can read; adding one takes a line here (see queue.py)."""

from collections.abc import Mapping
from typing import Any

from pipelines.sources.log.queue import LogQueue
from pipelines.sources.pubsub.queue import PubSubQueue
from pipelines.sources.queue import Queue
from transforms.errors import OptionError

QUEUES: tuple[type[Queue], ...] = (PubSubQueue, LogQueue)
OPTIONS = tuple(option for queue in QUEUES for option in queue.options)
LAUNCH_OPTIONS = tuple(queue.launch_option for queue in QUEUES if queue.launch_option)


def find_queue(values: Mapping[str, Any]) -> Queue | None:
    """The queue that the values of options name, if they name one."""
    for queue in QUEUES:
        if any(values.get(option) for option in queue.options):
            return queue.of(values)
    return None


def choose_queue(values: Mapping[str, Any]) -> Queue:
    """The same. Errors: OptionError if they name none."""
    queue = find_queue(values)
    if queue is None:
        named = " or ".join(f"--{name}" for name in OPTIONS)
        raise OptionError(f"no source given: name the queue to read with {named}")
    return queue
