"""The model of the queue: what its reader costs beside that of Pub/Sub, how much of it a stream needs, and its price.

reading        CPU beside what RUNNER_US has, which was measured with Pub/Sub
queue_advice   readers, or shards of the stream
queue_dollars  what the queue's service bills a day, by purpose
"""

import math
from collections.abc import Mapping

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.result import Advice
from pipelines.apps.plan.steps import DAY, How, Traffic, blocks_a_second

TITLES = {"pubsub": "Pub/Sub", "kafka": "Kafka", "kinesis": "Kinesis"}


def reading(rate: float, how: How) -> float:
    """Return the CPU load of the reader above that of Pub/Sub's; below 0 where it takes less."""
    if how.on_dataflow or not rate:
        return 0.0
    blocks = blocks_a_second(rate, how)
    mine, usual = (figures.READ_US[queue].of(rate / blocks) for queue in (how.queue, "pubsub"))
    return blocks * (mine - usual) / 1e6


def queue_advice(traffic: Traffic, how: How) -> tuple[Advice, ...]:
    """Return the readers that the peak needs; of Kinesis, which has one reader for all, the shards of the stream."""
    if how.on_dataflow:
        return ()
    if how.queue == "kinesis":
        most = f"a shard takes {figures.SHARD_RECORDS:,.0f} records or {figures.SHARD_BYTES / 1e6:g} MB per second"
        return (Advice("shards of the stream", str(shards_needed(traffic)), most),)
    needs = max(how.readers, math.ceil(traffic.per_second * traffic.peak / figures.READER_EVENTS))
    why = f"one reader was measured at {figures.READER_EVENTS:,.0f} messages per second"
    if how.queue == "kafka":
        why += "; the topics need as many partitions"
    return (Advice("--readers", str(needs), why),)


def shards_needed(traffic: Traffic) -> int:
    """Return the shards that a stream of Kinesis needs at the peak."""
    rate = traffic.per_second * traffic.peak
    return math.ceil(max(rate / figures.SHARD_RECORDS, rate * traffic.event_bytes / figures.SHARD_BYTES))


def queue_dollars(traffic: Traffic, how: How, prices: Mapping[str, float]) -> dict[str, float]:
    """Return the dollars a day. Kafka has none: its brokers are yours, or are billed by the hour."""
    messages = traffic.per_second * DAY
    if how.queue == "kinesis":
        units = messages * math.ceil(traffic.event_bytes / figures.PUT_UNIT_BYTES)
        shards = 24 * shards_needed(traffic) * prices["kinesis_shard_hour"]
        return {"kinesis": shards + units / 1e6 * prices["kinesis_put_million"]}
    if how.queue == "kafka":
        return {}
    return {"pubsub": 2 * messages * traffic.event_bytes / 2**40 * prices["pubsub_tib"]}
