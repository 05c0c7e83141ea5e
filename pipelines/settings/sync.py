"""The section `sync` of the configuration: segments of persons, and where their members go. Nothing here imports Beam.

sync:
  targets:
    crm: {kind: webhook, url: "https://example.org/hook", secret: {env: SYNC_SECRET}}
  segments:
    dormant: {query: "SELECT person, last_seen FROM user_profiles_latest WHERE segment = 'dormant'", to: [crm]}
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipelines.settings.alerts import KafkaTopic, Name, PubSubTopic, Text, Webhook, said

Query = Annotated[str, Meta(min_length=1, max_length=20_000)]


class FolderTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="file"):
    """`file`: a file of JSON lines for each sync, a change on each line."""

    folder: Annotated[Text, said("Folder of the files, made if it does not exist", "/exports", "a path")]


class GoogleAds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="google_ads"):
    """`google_ads`: two CSV files for each sync, in the form of Customer Match: who is added, and who is removed."""

    folder: Annotated[Text, said("Folder of the files, made if it does not exist", "/exports", "a path")]


Target = Webhook | PubSubTopic | KafkaTopic | FolderTarget | GoogleAds
OWN_TARGETS: tuple[type[msgspec.Struct], ...] = (FolderTarget, GoogleAds)


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is in a segment, and where its members go."""

    query: Annotated[
        Query,
        said(
            "Query of the members: `person`, once each; its other columns are sent as attributes",
            "SELECT person FROM user_profiles_latest WHERE segment = 'lost'",
            "SQL as of `audience query`",
        ),
    ]
    to: Annotated[
        Annotated[tuple[Name, ...], Meta(min_length=1)], said("Targets that its members go to", ["crm"], "targets")
    ]
    consent: Annotated[
        Query | None,
        said(
            "Query of the persons who agreed (`person`): who is not in it is not sent, and is removed; null: not asked",
            "SELECT person FROM user_attributes_latest WHERE attribute = 'ads' AND text = 'granted'",
            "SQL",
        ),
    ] = None


class Sync(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Segments of persons that `audience sync` keeps up to date elsewhere."""

    targets: Annotated[
        dict[Name, Target],
        said("Targets by name", {"lake": {"kind": "file", "folder": "/exports"}}, "kinds: see below"),
    ] = {}
    segments: Annotated[
        dict[Name, Segment],
        said("Segments by name", {"lost": {"query": "SELECT ...", "to": ["lake"]}}, "see below"),
    ] = {}

    def __post_init__(self):
        for name, segment in self.segments.items():
            if unknown := [each for each in segment.to if each not in self.targets]:
                known = ", ".join(sorted(self.targets)) or "none, as `targets` has none"
                raise ValueError(f".segments.{name}.to: got {unknown[0]!r}; allowed: a name of targets ({known})")
            if len(set(segment.to)) < len(segment.to):
                raise ValueError(f".segments.{name}.to: got a target twice; allowed: each once")
