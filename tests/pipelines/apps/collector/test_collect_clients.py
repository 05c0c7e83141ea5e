"""The official clients against `audience collect`: what they sent is in the log, and the ready mapping reads it."""

import pytest

from tests.pipelines.apps.collector.test_official_clients import CLIENTS, send_snowplow_pixels
from tests.servers.collector import collecting, entries_of
from tests.support.mapped import mapped


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with collecting(tmp_path_factory.mktemp("clients")) as made:
        yield made


SENT = CLIENTS | {"snowplow-pixels": send_snowplow_pixels}
SOURCES = {"rudderstack": "segment", "posthog-v1": "posthog", "snowplow-pixels": "snowplow"}  # of the others: the name


@pytest.mark.parametrize("name", SENT)
def test_what_a_client_sends_is_in_the_log_and_becomes_events(collector, name):
    errors: list = []
    before = len(entries_of(collector.log))
    SENT[name](f"http://127.0.0.1:{collector.port}", errors)
    assert errors == []
    entries = entries_of(collector.log)[before:]
    source = SOURCES.get(name, name)
    assert [entry.source for entry in entries] == [source] * 3
    assert {tuple(entry.attributes) for entry in entries} == {("dialect", "ip", "user_agent")}
    events, quarantined = mapped(source, [entry.payload for entry in entries], **entries[0].attributes)
    assert len(events) == 3 and quarantined == []
