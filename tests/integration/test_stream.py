"""A stream from the Pub/Sub emulator, on Prism, into a local warehouse: the rows of a backfill, whatever happens."""

import gzip
import json
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.apps.doctor.check import FOUND
from pipelines.apps.doctor.warehouse import socket_checks
from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from tests.integration.same import METRICS, UNBALANCED, assert_same
from tests.servers.sockets import assert_private
from tests.servers.stream import ROOT, ask, drain, publish, received_times, streaming

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> tuple[Path, list[bytes], object]:
    """(file, its lines, ledger): two days until today, with every fault that a queue and a file decide alike."""
    file = tmp_path_factory.mktemp("simulated") / "events.jsonl"
    start = datetime.now(UTC).date() - timedelta(days=2)
    given = faults("many", no_time=0.0, conflicts=0.0, missing_id=0.0, huge_lines=0.0)
    ledger = simulate(4_000, 11, file, days=1, start=start, faults=given)
    return file, file.read_bytes().splitlines(), ledger


def test_a_shuffled_repeated_stream_gives_the_rows_of_a_backfill_and_a_backfill_over_it_changes_none(
    simulated, queue, prism, tmp_path
):
    file, lines, _ = simulated
    order = list(zip(lines, received_times(lines), strict=True))
    random.Random(3).shuffle(order)
    with streaming(queue, prism, tmp_path, "--timestamp_attribute", "received_time") as stream:
        publish(queue, *map(list, zip(*order, strict=True)))
        stream.until_counted("SELECT sum(received) FROM quality_1m_current", len(lines))
        listening = assert_private(stream.process.pid)
        assert {each.kind for each in listening} == {"unix"}
        assert {each.program for each in listening} == {"audience", "Prism"}
        [looked] = socket_checks(stream.process.pid)
        assert (looked.state, looked.facts) == (FOUND, {"listening": []})
        drain(stream.warehouse)
        assert stream.process.wait(60) == 0, stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "warehouse": str(batch), "workers": "1"}))
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        "SELECT source, stage, code, errors, payload FROM quarantine",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
        # A file tells no minute of what cannot be read.
        "SELECT bucket_start, sum(events + duplicates) AS n FROM quality_1m_current GROUP BY 1 HAVING n > 0",
        "SELECT sum(received), sum(quarantined), sum(duplicates) FROM quality_1m_current",
    ):
        assert_same(stream.warehouse, batch, sql)
    assert ask(stream.warehouse, UNBALANCED) == 0


def yesterday(path: Path) -> Iterator[bytes]:
    """The lines of a day of GitHub events, as if it had been yesterday."""
    day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat().encode()
    with gzip.open(path) as file:
        for line in file:
            yield line.replace(b"2015-02-22T", day + b"T")


def test_github_events_replayed_at_high_speed_by_their_own_times_give_the_rows_of_a_backfill(queue, prism, tmp_path):
    file = tmp_path / "github.jsonl"
    file.write_bytes(b"".join(yesterday(SHARED / "github-events/2015-02-22-21.min.json.gz")))
    lines = file.read_bytes().splitlines()
    mapping = str(ROOT / "templates/mappings/github-events.yaml")
    with streaming(queue, prism, tmp_path, "--mapping", mapping, "--timestamp_attribute", "received_time") as stream:
        publish(queue, lines, [json.loads(line)["dt"] for line in lines])
        stream.until_counted("SELECT sum(received) FROM quality_1m_current", len(lines))
        drain(stream.warehouse)
        assert stream.process.wait(60) == 0, stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "mapping": [mapping], "warehouse": str(batch), "workers": "1"}))
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS if metric != "campaign_1h"),  # GitHub has none
        "SELECT sum(received), sum(quarantined), sum(duplicates) FROM quality_1m_current",
    ):
        assert_same(stream.warehouse, batch, sql)
    assert ask(stream.warehouse, UNBALANCED) == 0


def test_killed_at_any_moment_and_started_again_nothing_is_lost_or_double(simulated, queue, prism, tmp_path):
    file, lines, _ = simulated
    rand, parts = random.Random(7), [lines[at::4] for at in range(4)]
    received = [received_times(part) for part in parts]
    for part, times in zip(parts[:3], received[:3], strict=True):
        with streaming(queue, prism, tmp_path, "--timestamp_attribute", "received_time") as stream:
            seen = ask(stream.warehouse, "SELECT count(*) FROM events") or 0
            publish(queue, part, times)
            stream.until_counted("SELECT count(*) FROM events", seen + rand.randint(1, len(part) // 3))
            assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    with streaming(queue, prism, tmp_path, "--timestamp_attribute", "received_time") as stream:
        publish(queue, parts[3], received[3])
        stream.until_counted("SELECT sum(received) FROM quality_1m_current", len(lines))
        stream.until(lambda: ask(stream.warehouse, UNBALANCED) == 0)
        drain(stream.warehouse)
        assert stream.process.wait(60) == 0, stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "warehouse": str(batch), "workers": "1"}))
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        "SELECT source, stage, code, errors, payload FROM quarantine",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
    ):
        assert_same(stream.warehouse, batch, sql)
    assert ask(stream.warehouse, UNBALANCED) == 0
    assert not list((stream.warehouse / "landing").glob("*.parquet"))
