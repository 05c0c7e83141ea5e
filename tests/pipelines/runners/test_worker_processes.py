"""A backfill by worker processes: its rows are those of one process, its files and sockets are of their owner alone."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.cli import main
from pipelines.runners import in_process
from pipelines.runners.private_sockets import PREFIX
from pipelines.system.private import umask
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.servers.sockets import Listening, watched
from tests.support.files import modes

EVENT = {"event_type": "page_view", "event_time": "2026-03-01T10:00:00Z", "received_time": "2026-03-01T10:00:01Z"}


class Ran(NamedTuple):
    """A run of two workers, made under a umask that lets everybody write, and what it listened on."""

    input: Path
    warehouse: Path
    listened: set[Listening]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("two")
    events = [
        EVENT | {"event_id": f"e{n}", "event_time": f"2026-03-01T{n % 24:02}:00:00Z", "user_id": f"u{n % 7}"}
        for n in range(1_000)
    ]
    lines = [json.dumps(each) for each in (*events, *events[:20])]
    (input := folder / "e.jsonl").write_text("\n".join([*lines, "broken"]) + "\n")
    with umask(0), watched() as found:
        assert main(["backfill", "--input", str(input), "--warehouse", str(folder / "w"), "--workers", "2"]) == 0
        assert os.umask(0) == 0  # as it was
    return Ran(input, folder / "w", found)


def rows(warehouse: Path) -> list[list[tuple]]:
    """What the warehouse says, without the stamps of who published it when."""
    stamps = "EXCLUDE (generation, revision, emitted_time)"
    asked = (
        "SELECT * FROM events ORDER BY ALL",
        "SELECT * EXCLUDE (failed_time) FROM quarantine ORDER BY ALL",
        f"SELECT * {stamps} FROM quality_1m_current ORDER BY ALL",
        f"SELECT * {stamps} FROM user_days_current ORDER BY ALL",
    )
    opened = LocalWarehouse.open(warehouse).connect()
    return [opened.execute(sql).fetchall() for sql in asked]


def test_several_worker_processes_write_the_same_rows(ran, tmp_path):
    words = ["--input", str(ran.input), "--warehouse", str(tmp_path / "w"), "--workers", "1"]
    assert main(["backfill", *words]) == 0
    one, two = rows(tmp_path / "w"), rows(ran.warehouse)
    assert (len(one[0]), len(one[1])) == (1_000, 1)
    assert two == one


def test_the_threads_of_one_process_write_the_same_rows(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(in_process, "SMALL", 0)
    monkeypatch.setattr(in_process, "core_count", lambda: 3)
    inputs, lines = [], ran.input.read_text().splitlines(keepends=True)
    for first in range(0, len(lines), 300):
        (path := tmp_path / f"{first}.jsonl").write_text("".join(lines[first : first + 300]))
        inputs += ["--input", str(path)]
    assert main(["backfill", *inputs, "--warehouse", str(tmp_path / "w")]) == 0
    assert main(["backfill", *inputs, "--warehouse", str(tmp_path / "one"), "--workers", "1"]) == 0
    assert rows(tmp_path / "w") == rows(tmp_path / "one")


def test_what_worker_processes_write_is_for_its_owner(ran):
    assert modes(ran.warehouse) == {"d700", "f600"}


def test_a_backfill_with_worker_processes_listens_on_private_sockets_alone(ran):
    ours = {each.address for each in ran.listened if PREFIX in each.address}
    assert len(ours) >= 4  # control, data, state, logs
    assert {each.kind for each in ran.listened if each.address in ours} == {"unix"}
    assert not any(Path(path).parent.exists() for path in ours)
