"""The section `alerts` of the configuration: channels to send to, and rules that say when. Nothing here imports Beam.

alerts:
  channels:
    ops: {kind: webhook, url: "https://example.org/hook", secret: {env: ALERTS_SECRET}}
  rules:
    - {name: shop-silent, kind: silence, source: shop, after: 30m, send: [ops]}

A secret is never a text of the file: it is the name of an environment variable, or of a file that only its owner reads.
"""

import ipaddress
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pipelines.settings.forms import read_duration

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
Duration = Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}[smhd]$")]
Share = Annotated[float, Meta(gt=0, le=1)]
UNIT = "a number with a suffix: s, m, h or d"


def said(description: str, example: Any, unit: str) -> Meta:
    """What documentation and schema say of a key."""
    return Meta(description=description, examples=[example], extra={"unit": unit})


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is: in an environment variable, or in a file of mode 0600; one of the two."""

    env: Annotated[Text | None, said("Name of the environment variable", "ALERTS_SECRET", "a name")] = None
    file: Annotated[Text | None, said("Path of the file", "/run/secrets/alerts", "a path")] = None

    def __post_init__(self):
        if (self.env is None) == (self.file is None):
            raise ValueError("got both of env and file, or neither; allowed: one of them")


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="webhook"):
    """`webhook`: a POST of JSON, signed by the rules of Standard Webhooks."""

    url: Annotated[Text, said("Where to send: https, or http on loopback", "https://example.org/hook", "a URL")]
    secret: Annotated[Secret, said("The key: `whsec_` and 24 to 64 bytes in base64", {"env": "KEY"}, "env or file")]

    def __post_init__(self):
        if reason := refused_url(self.url):
            raise ValueError(f".url: {reason}")


class Slack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="slack"):
    """`slack`: a POST in the form of Slack's incoming webhooks."""

    url: Annotated[Secret, said("The URL that Slack gave, which is a secret", {"env": "SLACK_URL"}, "env or file")]


class PubSubTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pubsub"):
    """`pubsub`: a message on a Pub/Sub topic, its id as the attribute `webhook-id`."""

    topic: Annotated[
        Annotated[str, Meta(pattern="^projects/[^/]+/topics/[^/]+$")],
        said("The topic", "projects/my-project/topics/alerts", "projects/PROJECT/topics/NAME"),
    ]


class KafkaTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kafka"):
    """`kafka`: a message on a Kafka topic, its id as the header `webhook-id`."""

    topic: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")], said("The topic", "alerts", "name of a topic")
    ]
    servers: Annotated[
        Text | None,
        said("The servers; null: those of the environment or of `properties`", "localhost:9092", "HOST:PORT"),
    ] = None
    properties: Annotated[
        Text | None, said("File with the other properties, as `--kafka_properties`", "/run/secrets/kafka", "a path")
    ] = None


class Email(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="email"):
    """`email`: a message over SMTP with STARTTLS, which is required but on loopback."""

    host: Annotated[Text, said("Host of the server", "smtp.example.org", "a host name")]
    sender: Annotated[Text, said("Address of the sender", "alerts@example.org", "an address")]
    to: Annotated[
        Annotated[tuple[Text, ...], Meta(min_length=1, max_length=50)],
        said("Addresses of the receivers", ["team@example.org"], "addresses, 1 to 50"),
    ]
    port: Annotated[int, Meta(ge=1, le=65535), said("Port of the server", 587, "a port, 1 to 65535")] = 587
    user: Annotated[Text | None, said("Name to log in with, where the server asks for one", "alerts", "a name")] = None
    password: Annotated[Secret | None, said("The password of `user`", {"env": "SMTP_PASSWORD"}, "env or file")] = None
    tls: Annotated[bool, said("STARTTLS; false only on loopback", True, "true or false")] = True

    def __post_init__(self):
        if any(sign in text for text in (self.sender, *self.to) for sign in "\r\n"):
            raise ValueError(".to: got a line break in an address; allowed: one address a text")
        if (self.user is None) != (self.password is None):
            raise ValueError(".user: got one of user and password; allowed: both or neither")
        if not self.tls and not is_loopback(self.host):
            raise ValueError(f".tls: got false for {self.host!r}; allowed: true, or false for a host on loopback")


Channel = Webhook | Slack | PubSubTopic | KafkaTopic | Email


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What all rules have."""

    name: Annotated[Name, said("Name of the rule, once", "shop-silent", "lower-case letters, digits, _ and -")]
    send: Annotated[
        tuple[Name, ...], said("Channels to send to; without one, alerts are in the table alone", ["ops"], "channels")
    ] = ()
    cooldown: Annotated[Duration, said("How long after its end no alert of the rule opens again", "2h", UNIT)] = "1h"
    mute_until: Annotated[
        str | None, said("Until when nothing is sent", "2026-03-01T10:00:00Z", "a time with its zone")
    ] = None

    def __post_init__(self):
        if self.mute_until is not None and read_time(self.mute_until) is None:
            example = "a time with its zone, such as 2026-03-01T10:00:00Z"
            raise ValueError(f".mute_until: got {self.mute_until!r}; allowed: {example}")

    @property
    def muted_until(self) -> datetime | None:
        """`mute_until` as a time."""
        return None if self.mute_until is None else read_time(self.mute_until)

    @property
    def pause(self) -> timedelta:
        """`cooldown` as a duration."""
        return read_duration(self.cooldown)


class Silence(Rule, frozen=True, kw_only=True, tag="silence"):
    """`silence`: one source sends nothing while others do."""

    source: Annotated[Text | None, said("The source; null: each", "shop", "name of a source")] = None
    after: Annotated[Duration, said("Time without a record, before `as_of`", "30m", UNIT)] = "1h"


class NoNewData(Rule, frozen=True, kw_only=True, tag="no_new_data"):
    """`no_new_data`: no source has sent anything, by the clock."""

    after: Annotated[Duration, said("Time without a record of any source, until now", "30m", UNIT)] = "1h"


class QualityRule(Rule, frozen=True, kw_only=True, tag="quality"):
    """`quality`: too many records of a source are refused, or its audit counts do not reconcile."""

    source: Annotated[Text | None, said("The source; null: each", "shop", "name of a source")] = None
    window: Annotated[Duration, said("Time before `as_of` that is counted", "30m", UNIT)] = "1h"
    quarantine_share: Annotated[Share, said("Share of refused records above which it opens", 0.1, "above 0, to 1")] = (
        0.05
    )
    least_records: Annotated[
        Annotated[int, Meta(ge=1)], said("Fewest records of the window for a share", 1000, "records")
    ] = 100
    balance: Annotated[bool, said("Whether a balance that is not 0 opens it, too", False, "true or false")] = True


class FunnelDrop(Rule, frozen=True, kw_only=True, tag="funnel_drop"):
    """`funnel_drop`: a step of the funnel converts worse on the last whole day than on the days before."""

    step: Annotated[
        Annotated[int, Meta(ge=2, le=10)] | None, said("The step; null: each from 2 on", 2, "a step, 2 to 10")
    ] = None
    drop: Annotated[Share, said("Share of the usual conversion that is lost", 0.5, "above 0, to 1")] = 0.3
    days: Annotated[Annotated[int, Meta(ge=1, le=90)], said("Days before that are usual", 14, "days, 1 to 90")] = 7
    least_persons: Annotated[
        Annotated[int, Meta(ge=1)], said("Fewest persons at the step before, on both sides", 500, "persons")
    ] = 100


class AnomalyRule(Rule, frozen=True, kw_only=True, tag="anomaly"):
    """`anomaly`: a row of `anomalies_1h`, the hours that are not what was to be expected."""

    metric: Annotated[Text | None, said("The metric; null: each", "purchases", "a metric of anomalies_1h")] = None
    channel: Annotated[Text | None, said("The channel; null: each, and the whole", "web", "a channel")] = None
    surprise: Annotated[
        Annotated[float, Meta(ge=0)], said("Least `surprise` of the row", 8.0, "that of anomalies_1h")
    ] = 0.0
    window: Annotated[Duration, said("Hours before `as_of` that count", "6h", UNIT)] = "3h"


class NegativeFeedback(Rule, frozen=True, kw_only=True, tag="negative_feedback"):
    """`negative_feedback`: of the texts of `feedback_1h` whose sentiment is known, too many are negative."""

    content: Annotated[Text | None, said("The content; null: each, and the whole", "article-7", "a content_id")] = None
    share: Annotated[Share, said("Share of negative texts above which it opens", 0.4, "above 0, to 1")] = 0.5
    least_texts: Annotated[
        Annotated[int, Meta(ge=1)], said("Fewest scored texts of the window for a share", 50, "texts")
    ] = 20
    window: Annotated[Duration, said("Hours before `as_of` that count", "6h", UNIT)] = "3h"


AnyRule = Silence | NoNewData | QualityRule | FunnelDrop | AnomalyRule | NegativeFeedback
RULES: tuple[type[Rule], ...] = (Silence, NoNewData, QualityRule, FunnelDrop, AnomalyRule, NegativeFeedback)
CHANNELS: tuple[type[msgspec.Struct], ...] = (Webhook, Slack, PubSubTopic, KafkaTopic, Email)


class Alerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to raise an alert, and where to send it."""

    channels: Annotated[
        dict[Name, Channel],
        said("Channels by name", {"team": {"kind": "slack", "url": {"env": "SLACK_URL"}}}, "kinds: see below"),
    ] = {}
    rules: Annotated[
        tuple[AnyRule, ...],
        said("Rules, each with a name", [{"name": "quiet", "kind": "no_new_data"}], "kinds: see below"),
    ] = ()

    def __post_init__(self):
        names = [rule.name for rule in self.rules]
        for at, rule in enumerate(self.rules):
            if names.index(rule.name) < at:
                raise ValueError(f".rules[{at}].name: got {rule.name!r} twice, allowed each name once")
            if unknown := [each for each in rule.send if each not in self.channels]:
                known = ", ".join(sorted(self.channels)) or "none, as `channels` has none"
                raise ValueError(f".rules[{at}].send: got {unknown[0]!r}; allowed: a name of channels ({known})")


def read_time(text: str) -> datetime | None:
    """A time with its zone; None for any other text."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refused_url(url: str) -> str:
    """Why nothing is sent to a URL; nothing for one that is allowed. No text of the URL is in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or any(ord(sign) <= 32 for sign in url):
        return "got no URL with a host; allowed: https://HOST/PATH"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return "" if parts.username is None else "got a user name in the URL; allowed: none, the signature is the proof"
    return f"got the scheme {parts.scheme!r} for {host}; allowed: https, or http on loopback"
