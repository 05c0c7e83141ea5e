"""From an official client over HTTP to rows: a collector is killed while it is sent to, and each event counts once."""

import segment.analytics.client

from tests.integration.same import UNBALANCED
from tests.integration.streams import EVENTS, LONG, RECEIVED, drained, until_balanced
from tests.servers.collector import collecting, entries_of, free_port
from tests.servers.needed import wait_until
from tests.servers.stream import ROOT, ask, streaming

EACH, LIVES = 60, 3
ADDRESS = "203.0.113.77"
MAPPING = str(ROOT / "templates/mappings/segment.yaml")


def test_a_client_of_segment_and_a_collector_that_is_killed_end_as_one_row_an_event(prism, tmp_path):
    port, errors, ids = free_port(), list[object](), set[str]()
    client = segment.analytics.client.Client(
        "invented-key",
        host=f"http://127.0.0.1:{port}",
        upload_size=7,
        upload_interval=0.05,
        on_error=lambda error, _: errors.append(error),
    )
    for life in range(LIVES):
        with collecting(tmp_path, port=port) as made:
            for number in range(EACH):
                _, message = client.track(f"user-{number % 9}", "Product Added", {"price": number, "ip": ADDRESS})
                ids.add(message["messageId"])
            before = len(entries_of(made.log))
            wait_until(lambda made=made, before=before: len(entries_of(made.log)) > before + 20, what="entries")
            if life == LIVES - 1:
                client.flush()
                assert made.end() == 0
    client.join()
    entries = entries_of(tmp_path / "log")
    assert errors == [] and len(ids) == EACH * LIVES
    assert not [entry for entry in entries if ADDRESS.encode() in entry.payload]
    with streaming(tmp_path / "log", prism, tmp_path, "--mapping", MAPPING) as stream:
        stream.until_counted(EVENTS, len(ids), LONG)
        stream.until_counted(RECEIVED, len(entries), LONG)
        until_balanced(stream)
        drained(stream)
    rows = "SELECT list(event_id) FROM events WHERE event_type = 'add_to_cart' AND source = 'segment'"
    assert sorted(ask(stream.warehouse, rows)) == sorted(ids)
    assert ask(stream.warehouse, "SELECT count(*) FROM quarantine") == 0 == ask(stream.warehouse, UNBALANCED)
