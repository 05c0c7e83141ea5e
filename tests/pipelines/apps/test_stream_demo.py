"""The demo of a stream, for real: ten seconds of events, what it says, how it is interrupted, and what it lacks."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from pipelines.apps.demo import emulators
from pipelines.apps.demo.stream import _compare
from pipelines.apps.simulator.ledger import Ledger
from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.recount import differences
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import make_emulator
from tests.servers.sockets import assert_private

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def command(tmp_path_factory, prism) -> list[str]:
    """`audience demo --stream`; the test is skipped, or in CI fails, where the emulator or Prism is missing."""
    make_emulator(tmp_path_factory.mktemp("looked") / "emulator.log")
    words = ["--rate", "300", "--minutes", "0.17", "--prism_location", prism]
    return [sys.executable, "-m", "pipelines.cli", "demo", "--stream", *words]


@pytest.fixture(scope="module")
def streamed(tmp_path_factory, command) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("demo") / "stream"
    folder.mkdir()
    return folder, subprocess.run(
        [*command, "--folder", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=3 * LIMIT, check=False
    )


def test_ten_seconds_of_events_are_in_the_warehouse_as_the_ledger_has_them(streamed):
    folder, ran = streamed
    assert ran.returncode == 0, ran.stderr + ran.stdout
    ledger = msgspec.json.decode((folder / "ledger.json").read_bytes(), type=Ledger)
    assert ledger.lines > 3_000
    ask = LocalWarehouse.open(folder / "warehouse").connect().execute
    assert ask("SELECT COUNT(*) FROM events").fetchone() == (ledger.accepted,)
    assert ask("SELECT SUM(received), MAX(abs(balance)) FROM quality_1m_current").fetchone() == (ledger.lines, 0)
    assert ask("SELECT SUM(events) FROM activity_1m_current").fetchone() == (ledger.accepted,)
    assert ask("SELECT COUNT(*) FROM events WHERE received_time > now() - INTERVAL 1 HOUR").fetchone()[0] > 3_000
    assert ask("SELECT COUNT(*) FROM activity_1m WHERE firing = 'early'").fetchone()[0] > 0


def test_it_says_in_order_what_it_does(streamed):
    _, ran = streamed
    told = [
        "Pub/Sub emulator at 127.0.0.1:",
        "runner PrismRunner",
        "publishing ",
        "all messages are published",
        "draining: every",
    ]
    places = [ran.stderr.find(text) for text in [*told, '"row_seconds_p99"', "drained after", "drained: projects/"]]
    assert -1 not in places and places[:5] == sorted(places[:5]), ran.stderr
    assert "the audit counts include them\ndraining" in ran.stderr
    titles = ("Audit counts of the last minutes", "Activity of the last", "Engagement by channel", "The ledger of what")
    assert all(f"\n{title}" in ran.stdout for title in titles)
    met = re.search(r"met +(\d+) of (\d+) numbers", ran.stdout)
    assert met and met[1] == met[2] and int(met[1]) > 50
    assert "NOT MET" not in ran.stdout


def test_a_figure_that_is_not_met_is_named_and_is_status_1(streamed, capsys):
    folder, _ = streamed
    ledger = msgspec.json.decode((folder / "ledger.json").read_bytes(), type=Ledger)
    warehouse = LocalWarehouse.open(folder / "warehouse")
    assert _compare(ledger, warehouse) == 0
    assert "NOT MET" not in capsys.readouterr().out
    wrong = msgspec.structs.replace(ledger, accepted=ledger.accepted + 1)
    assert _compare(wrong, warehouse) == 1
    expected = f"NOT MET      events: rows: expected {ledger.accepted + 1}, found {ledger.accepted}"
    assert expected in capsys.readouterr().out


def test_into_a_data_set_of_bigquery_the_same_and_only_into_a_new_one(command, bigquery, tmp_path, capsys):
    dataset = f"demo-project.demo_{uuid.uuid4().hex[:8]}"
    words = [*command, "--dataset", dataset, "--folder", str(tmp_path / "demo")]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3 * LIMIT, check=False)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    met = re.search(r"met +(\d+) of (\d+) numbers", ran.stdout)
    assert met and met[1] == met[2] and int(met[1]) > 50
    assert f"{dataset} in the emulator" in ran.stdout
    with open_warehouse(dataset, None) as warehouse:
        assert differences(warehouse) == []
    assert main(words[3:]) == 2
    assert f"--dataset: got '{dataset}', which exists; allowed: a new one" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_what_it_started(command, tmp_path, number):
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(
            [*command, "--folder", str(tmp_path / "d")], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    said, started = tmp_path / "log", list[int]()
    try:
        wait_until(lambda: "publishing" in said.read_text() or demo.poll() is not None, 120, "publishing")
        started = descendants(demo.pid)
        assert len(started) == 3, said.read_text()  # java, `audience run`, Prism
        listening = {(each.program, each.kind) for each in assert_private(demo.pid)}
        assert listening >= {("java", "tcp"), ("audience", "unix"), ("Prism", "unix")}
        demo.send_signal(number)
        assert demo.wait(LIMIT) == 130
        assert said.read_text().rstrip().endswith("error: interrupted")
        assert "stopped after" in said.read_text()  # the stream by its own way
        assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    finally:
        demo.kill()
        demo.wait()
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    children = [each for each, parent in parents.items() if parent == pid]
    return children + [each for child in children for each in descendants(child)]


def test_a_part_that_is_missing_is_one_line_with_what_to_install(tmp_path, monkeypatch, capsys):
    folder = str(tmp_path / "d")
    there = tmp_path / "prism"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    words = ["demo", "--stream", "--folder", folder, "--prism_location", str(there)]
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {emulators.JAVA}\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").symlink_to("/bin/true")
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {emulators.JAR}\n"
    assert main([*words[:-1], "no/prism"]) == 2
    assert "which is no program; run `make prism`" in capsys.readouterr().err
    assert not Path(folder).exists()


def test_an_emulator_that_does_not_start_is_told_with_its_log(tmp_path, monkeypatch, capsys):
    (tmp_path / "java").write_text("#!/bin/sh\necho no memory\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(emulators, "find_jar", lambda: tmp_path / "emulator.jar")
    began = time.monotonic()
    words = ["demo", "--stream", "--folder", str(tmp_path / "d"), "--prism_location", str(tmp_path / "java")]
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: the Pub/Sub emulator does not start; see {tmp_path}/d/emulator.log\n"
    assert (tmp_path / "d/emulator.log").read_text() == "no memory\n"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "5"], "--rate is for a stream; add --stream, or leave it out"),
        (["--stream", "--rate", "0"], "--rate: got '0'; allowed: a number from 1 to 100,000"),
        (["--stream", "--minutes", "nan"], "--minutes: got 'nan'; allowed: a number from 0.05 to 1,000"),
    ],
)
def test_an_option_that_will_not_do_is_refused_in_one_line(words, said, capsys):
    assert main(["demo", *words]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path, capsys, command):
    (tmp_path / "mine").write_text("x")
    assert main([*command[3:], "--folder", str(tmp_path)]) == 2
    assert "exists and was not made by a demo: name another with --folder" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "x"
