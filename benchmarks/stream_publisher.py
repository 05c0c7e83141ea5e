"""Publish events at a steady rate: each happens at the moment it is published.

python benchmarks/stream_publisher.py TOPIC RATE SECONDS
prints {"published", "seconds"} at its end, and on the way a line {"at", "published"} each half second
"""

import json
import random
import sys
import time
from datetime import UTC, datetime

from pipelines.sources.pubsub.client import PubSub, PubsubMessage

REQUEST = 500
EVERY = 0.5
KINDS = ("page_view", "page_view", "page_view", "click", "impression", "like", "share", "add_to_cart", "purchase")
CHANNELS = ("web", "mobile", "social", "iot")


def bodies(count: int = 20_000) -> list[bytes]:
    """Events of about 270 bytes, all but their id and time."""
    rand, made = random.Random(1), []
    for _ in range(count):
        kind = rand.choice(KINDS)
        body = {
            "event_type": kind,
            "user_id": f"user-{rand.randrange(20_000)}",
            "session_id": f"session-{rand.randrange(60_000)}",
            "content_id": f"content-{rand.randrange(2_000)}",
            "category": f"category-{rand.randrange(12)}",
            "channel": rand.choice(CHANNELS),
            "campaign": rand.choice((None, None, "spring", "win_back", "newsletter")),
            "country": "GB",
            "device": "phone",
        }
        if kind == "purchase":
            body |= {"value": round(rand.random() * 100, 2), "currency": "GBP"}
        made.append(json.dumps(body).encode()[1:])
    return made


def publish(topic: str, rate: float, seconds: float) -> int:
    """Publish, and say how it goes."""
    pubsub, parts, sent = PubSub(), bodies(), 0
    started = told = time.monotonic()
    run = f"{time.time_ns():x}"
    while (passed := time.monotonic() - started) < seconds:
        due = int(passed * rate)
        while sent < due:
            count = min(REQUEST, due - sent)
            moment = datetime.now(UTC).isoformat().encode()
            pubsub.publish(
                topic,
                [
                    PubsubMessage(
                        data=b'{"event_id":"%s-%d","event_time":"%s",%s'
                        % (run.encode(), number, moment, parts[number % len(parts)])
                    )
                    for number in range(sent, sent + count)
                ],
            )
            sent += count
        if time.monotonic() - told >= EVERY:
            told = time.monotonic()
            print(json.dumps({"at": time.time(), "published": sent}), flush=True)
        time.sleep(0.01)
    print(json.dumps({"at": time.time(), "published": sent, "seconds": time.monotonic() - started}), flush=True)
    return sent


if __name__ == "__main__":
    publish(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
