"""What official clients sent to a server on this machine, with invented values: a file each of
tests/pipelines/apps/collector/captured/, the bodies inflated.

segment, rudderstack, posthog, posthog-v1, snowplow, snowplow-get, cloudevents   the Python clients
segment-node                                                                     @segment/analytics-node
analytics-next, posthog-js, plausible, plausible-tracker                         the scripts of npm, in jsdom
stripe, standard-webhooks                                                        signed by the Python packages
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pipelines.apps.collector.dialect import Dialect, Event, Request
from pipelines.apps.collector.dialects import DIALECTS

FOLDER = Path(__file__).parents[1] / "pipelines/apps/collector/captured"


def captured(name: str) -> dict[str, Any]:
    """The client, its version, and what it sent."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def requests(name: str) -> list[Request]:
    """What a client sent, as the collector gets it."""
    return [
        Request(each["method"], each["path"], dict(parse_qsl(each["query"])), each["headers"], each["body"].encode())
        for each in captured(name)["requests"]
    ]


def dialect_of(request: Request) -> Dialect:
    """The one dialect that has the route of a request."""
    (found,) = [each for each in DIALECTS if (request.method, request.path) in each.routes]
    return found


def events_of(name: str) -> list[Event]:
    """The events of all requests of a client."""
    return [event for request in requests(name) for event in dialect_of(request).read(request)]
