"""The dialects that the collector knows, a module each; adding one takes a line in the table here.

A dialect may import the module `dialect`, and what is shared here: bodies, headers, signatures. It knows no server and
no log.
"""

from collections.abc import Mapping

from pipelines.apps.collector.dialect import Dialect
from pipelines.apps.collector.dialects.cloudevents import CloudEvents
from pipelines.apps.collector.dialects.ga4 import GA4
from pipelines.apps.collector.dialects.native import Native
from pipelines.apps.collector.dialects.plausible import Plausible
from pipelines.apps.collector.dialects.posthog import PostHog, PostHogV1
from pipelines.apps.collector.dialects.segment import Segment
from pipelines.apps.collector.dialects.snowplow import Snowplow
from pipelines.apps.collector.dialects.webhooks import Webhooks

DIALECTS: tuple[Dialect, ...] = (
    Native(),
    Segment(),
    PostHog(),
    PostHogV1(),
    Snowplow(),
    GA4(),
    CloudEvents(),
    Plausible(),
)


def dialects_with(secrets: Mapping[str, str]) -> tuple[Dialect, ...]:
    """All dialects, with the webhooks of these names and secrets (webhooks.py)."""
    return (*DIALECTS, Webhooks(secrets))
