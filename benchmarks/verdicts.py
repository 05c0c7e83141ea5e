"""Measure what the verdict by the contract costs the collector: requests of native events, with it and without.

    python -m benchmarks.verdicts [--seconds N]

One process takes requests as a server would hand them over, into a log on disk, one after the other. The two forms
take turns, so that a change of the machine meets both.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from pipelines.apps.collector import intake
from pipelines.apps.collector.bodies import Held
from pipelines.apps.collector.dialect import Request
from pipelines.apps.collector.dialects.native import Native
from pipelines.apps.collector.intake import Intake, Rules
from pipelines.apps.collector.metrics import Metrics
from pipelines.sources.log.writer import LogWriter
from transforms.contract import broken_rule

EVENTS, REQUESTS, MOST_BYTES = 100, 200, 8 << 30
FORMS = {"without": lambda payload, source: None, "with": broken_rule}


def body_of(number: int) -> bytes:
    """A request of page views with the fields that a page sends."""
    event = {"event_type": "page_view", "user_id": "u-1234567", "content_id": "c-123", "channel": "web", "value": 9.99}
    events = [event | {"event_id": f"{number}-{at}", "event_time": "2026-03-01T10:00:00Z"} for at in range(EVENTS)]
    return json.dumps(events).encode()


async def rate(takes: Intake, bodies: list[bytes]) -> float:
    """Events/s of the requests."""
    request, begun = Request("POST", "/v1/events", {}, {}, b""), time.perf_counter()
    for body in bodies:
        with Held().share() as share:
            await takes.take(Native(), request, body, share, "203.0.113.7", {})
    return EVENTS * len(bodies) / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    until, bodies = time.monotonic() + parser.parse_args().seconds, list(map(body_of, range(REQUESTS)))
    rates: dict[str, list[float]] = {name: [] for name in FORMS}
    with tempfile.TemporaryDirectory() as made, closing(LogWriter(Path(made, "log"), most_bytes=MOST_BYTES)) as log:
        takes = Intake(log, Rules(), Metrics(), print)
        while time.monotonic() < until:
            for name, rule in FORMS.items():
                intake.broken_rule = rule
                rates[name].append(asyncio.run(rate(takes, bodies)))
    for name, found in rates.items():
        print(f"{name:>8} the verdict: {statistics.median(found):>10,.0f} events/s, {len(found)} turns")


if __name__ == "__main__":
    main()
