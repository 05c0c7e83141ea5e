"""A short form of `python -m benchmarks.collector_soak`: official clients and a collector that is killed under them."""

import os
import random

from tests.servers.pubsub import Queue
from tests.soak.clients import CLIENTS
from tests.soak.faults import gate
from tests.soak.world import EMULATOR, Plan, World, assert_nothing_lost

SEED = int(os.environ.get("SOAK_SEED", random.randrange(1 << 30)))


def test_what_official_clients_were_told_is_kept_is_there_once_whatever_is_killed(prism, tmp_path):
    print(f"SOAK_SEED={SEED}")
    plan = Plan(seconds=12.0, seed=SEED, clients=tuple(CLIENTS), lives=(0.5, 3.0), stream_every=3)
    found = World(tmp_path, prism, plan).run()
    print("\n".join(found.lines()))
    assert_nothing_lost(found)


def test_a_topic_that_is_down_loses_nothing(pubsub_emulator, prism, tmp_path, monkeypatch):
    print(f"SOAK_SEED={SEED}")
    queue = Queue(pubsub_emulator.host)
    monkeypatch.setenv(EMULATOR, pubsub_emulator.host)
    with gate(pubsub_emulator.port) as door:
        clients = ("native", "segment", "plausible")
        plan = Plan(seconds=5.0, seed=SEED, clients=clients, lives=(0.2, 3.0), stream_every=0, topic_down=4.0)
        found = World(tmp_path, prism, plan, queue, door).run()
    print("\n".join(found.lines()))
    assert_nothing_lost(found)
