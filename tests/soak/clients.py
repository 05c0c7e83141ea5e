"""Official clients that send to a collector, unmodified: each by its own queue, threads and retries.

    python -m tests.soak.clients ADDRESS NAME ...

Each sends some events a second until standard input ends, then waits until its library has sent what it holds. What
a library gives up after its own number of tries is no loss of the collector: it was never acknowledged. Where a form
has no client that queues (CloudEvents, native events), a request is sent until it is answered, as docs/collector.md
says; that of Plausible is sent once, as its script does.
"""

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import rudderstack.analytics.client
import segment.analytics.client
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from posthog import Posthog
from snowplow_tracker import Emitter, StructuredEvent, Subject, Tracker

from tests.servers.needed import LIMIT

EMAIL, TOKEN, CLIENT_ADDRESS = "canary.person@example.org", "canary-write-key", "203.0.113.77"
CANARIES = (EMAIL, TOKEN, CLIENT_ADDRESS)
EVERY = 0.05  # seconds between two calls of a client

Going = Callable[[], bool]  # waits for the next call; False once it has to stop


def send_segment(address: str, going: Going) -> None:
    _send_segment(segment.analytics.client, address, going)


def send_rudderstack(address: str, going: Going) -> None:
    _send_segment(rudderstack.analytics.client, address, going)


def _send_segment(module, address: str, going: Going) -> None:
    client = module.Client(TOKEN, host=address, gzip=True, upload_interval=0.5, upload_size=20)
    while going():
        client.track(
            user_id="u-1",
            event="Product Added",
            properties={"price": 7.5, "email": EMAIL},
            context={"ip": CLIENT_ADDRESS},
        )
    client.flush()
    client.join()


def send_posthog(address: str, going: Going, mode: str = "v0") -> None:
    client = Posthog(TOKEN, host=address, gzip=True, flush_interval=0.5, flush_at=20, capture_mode=mode)
    while going():
        client.capture("product added", distinct_id="u-1", properties={"email": EMAIL, "$ip": CLIENT_ADDRESS})
    client.flush()
    client.shutdown()


def send_posthog_v1(address: str, going: Going) -> None:
    send_posthog(address, going, "v1")


def send_snowplow(address: str, going: Going) -> None:
    host, port = address.removeprefix("http://").split(":")
    emitter = Emitter(host, protocol="http", port=int(port), method="post", batch_size=10, max_retry_delay_seconds=1)
    tracker = Tracker(namespace="web", emitters=emitter, app_id=TOKEN, subject=Subject().set_ip_address(CLIENT_ADDRESS))
    while going():
        tracker.track(StructuredEvent(category="shop", action="add", label=EMAIL))
    end = time.monotonic() + LIMIT
    while emitter.event_store.size() and time.monotonic() < end:
        emitter.flush()
        pause()


def send_cloudevents(address: str, going: Going) -> None:
    forms = (to_structured_event, to_binary_event)
    number = 0
    while going():
        event = CloudEvent(
            attributes={
                "id": str(uuid.uuid4()),
                "type": "com.shop.order.completed",
                "source": "/shop",
                "specversion": "1.0",
                "time": datetime.now(UTC),
                "datacontenttype": "application/json",
            },
            data={"total": 79.9, "email": EMAIL},
        )
        message = forms[number % 2](event)
        number += 1
        _post(f"{address}/v1/cloudevents", message.body, dict(message.headers))


def send_native(address: str, going: Going) -> None:
    while going():
        events = [
            {
                "event_id": str(uuid.uuid4()),
                "event_type": "page_view",
                "event_time": datetime.now(UTC).isoformat(),
                "user_id": "u-1",
                "channel": "web",
                "content_id": "home",
                "properties": {"email": EMAIL, "ip": CLIENT_ADDRESS},
            }
            for _ in range(5)
        ]
        _post(f"{address}/v1/events", json.dumps(events).encode(), {"Authorization": f"Bearer {TOKEN}"})


def send_plausible(address: str, going: Going) -> None:
    number = 0
    while going():
        number += 1
        event = {"n": "pageview", "v": 36, "u": f"https://shop.example/{os.getpid()}-{number}", "d": TOKEN, "r": None}
        _once(f"{address}/api/event", json.dumps(event).encode(), {"Content-Type": "text/plain"})


def pause() -> None:
    """Wait as long as between two calls."""
    threading.Event().wait(EVERY)


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Send until it is answered with success; a request of a client that has to stop may stay without an answer."""
    end = time.monotonic() + LIMIT
    while not _once(url, body, headers) and time.monotonic() < end:
        pause()


def _once(url: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        with urlopen(Request(url, body, headers), timeout=LIMIT) as answer:
            return 200 <= answer.status < 300
    except (HTTPError, OSError):
        return False


CLIENTS: dict[str, Callable[[str, Going], None]] = {
    "segment": send_segment,
    "rudderstack": send_rudderstack,
    "posthog": send_posthog,
    "posthog-v1": send_posthog_v1,
    "snowplow": send_snowplow,
    "cloudevents": send_cloudevents,
    "native": send_native,
    "plausible": send_plausible,
}


def main() -> None:
    """Send by all named clients at once, a thread each, and end."""
    address, names = sys.argv[1], sys.argv[2:]
    stopped = threading.Event()

    def going() -> bool:
        return not stopped.wait(EVERY)

    threads = [threading.Thread(target=CLIENTS[name], args=(address, going), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopped.set()
    end = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    sys.stdout.flush()
    os._exit(0)  # some libraries wait for their threads at the end without a limit


if __name__ == "__main__":
    main()
