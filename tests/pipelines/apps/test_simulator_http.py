"""Simulated events sent to a collector over HTTP."""

import json
import threading

import pytest

from pipelines.apps.collector.keys import add_key
from pipelines.apps.simulator.faults import faults
from pipelines.apps.simulator.http import collector_at, requests, send_live
from pipelines.cli import main
from tests.servers.collector import collecting, entries_of, free_port
from tests.servers.needed import wait_until
from transforms.errors import OptionError

WITHOUT = faults("none")


def test_all_events_are_in_the_log_and_happen_now(tmp_path):
    with collecting(tmp_path) as made:
        url = collector_at("output_url", f"http://127.0.0.1:{made.port}")
        assert send_live(url, None, 700, 3, WITHOUT, 2_000.0) == 700
        entries = entries_of(made.log)
    events = [json.loads(entry.payload) for entry in entries]
    assert len({event["event_id"] for event in events}) == len(events) == 700
    at = {entry.received // 60_000_000 for entry in entries}
    days = {event["event_time"][:10] for event in events}
    assert len(at) <= 2 and len(days) <= 3 and not [entry for entry in entries if "error" in entry.attributes]


def test_events_of_several_parts_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.apps.simulator.http.AT_ONCE", 40)
    with collecting(tmp_path) as made:
        url = collector_at("output_url", f"http://127.0.0.1:{made.port}/")
        assert send_live(url, None, 100, 3, WITHOUT, 5_000.0) == 100
        ids = {json.loads(entry.payload)["event_id"] for entry in entries_of(made.log)}
    assert len(ids) == 100


def test_a_collector_that_is_killed_meanwhile_gets_what_it_lacks_again(tmp_path):
    port = free_port()
    url = collector_at("output_url", f"http://127.0.0.1:{port}")
    sent: list[int] = []
    sender = threading.Thread(target=lambda: sent.append(send_live(url, None, 1_000, 3, WITHOUT, 400.0)))
    with collecting(tmp_path, port=port) as made:
        sender.start()
        wait_until(lambda: entries_of(made.log), what="the first are there")
        made.process.kill()
    with collecting(tmp_path, port=port) as made:
        wait_until(lambda: not sender.is_alive(), 60, "all is sent")
        ids = {json.loads(entry.payload)["event_id"] for entry in entries_of(made.log)}
    assert (sent, len(ids)) == ([1_000], 1_000)


def test_the_key_of_a_file_is_sent_and_a_wrong_one_is_one_line(tmp_path, capsys):
    keys, file = tmp_path / "keys.json", tmp_path / "key"
    key = add_key(keys, "simulated", "shop")
    with collecting(tmp_path, "--keys", str(keys)) as made:
        command = ["simulate", "--events", "20", "--output_url", f"http://127.0.0.1:{made.port}", "--rate", "1000"]
        file.write_text(f"{key}\n")
        assert main([*command, "--faults", "none", "--key_file", str(file)]) == 0
        assert f"20 lines taken by http://127.0.0.1:{made.port}" in capsys.readouterr().err
        assert {entry.attributes["key"] for entry in entries_of(made.log)} == {"simulated"}
        file.write_text("wrong")
        assert main([*command, "--key_file", str(file)]) != 0
    told = capsys.readouterr().err
    assert "takes no events: it answers 401; start it, or check the write key" in told and "wrong" not in told


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8090", "ftp://x", "http://", "http://u:p@x", "http://x/v1", "http://x?k=1", "http://x y"]
)
def test_what_is_no_address_of_a_collector_is_refused(url):
    with pytest.raises(OptionError, match=r"^--output_url: got .*; allowed: the address of a collector"):
        collector_at("output_url", url)


REFUSED = {
    ("--output_url", "http://x", "--output", "-"): "give one of a file",
    ("--output_url", "http://x", "--ledger", "l.json"): "--ledger: not with --output_url",
    ("--output", "-", "--key_file", "k"): "--key_file: only with --output_url",
    ("--output_url", "http://x", "--key_file", "/none"): "--key_file: /none: No such file",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_options_that_do_not_fit_are_one_line(words, capsys):
    assert main(["simulate", "--events", "5", *words]) == 2
    told = capsys.readouterr().err
    assert REFUSED[words] in told and told.count("\n") == 1


def test_requests_hold_all_lines_in_order_within_the_bounds():
    lines = [b"x" * size for size in (1, 2_000_000, 4_000_000, 6_000_000, 3)] + [b"y"] * 1_200
    bodies = list(requests(lines))
    assert b"\n".join(bodies).split(b"\n") == lines
    assert all(len(body) <= 5_000_500 or body.count(b"\n") == 0 for body in bodies)
    assert max(body.count(b"\n") for body in bodies) == 499
