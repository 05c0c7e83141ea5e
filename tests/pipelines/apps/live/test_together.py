"""Parts that run together: they end with the command, however that ends, and all of them if one does."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipelines.cli import main
from tests.servers.collector import ROOT, free_port
from tests.servers.needed import LIMIT, wait_until

STARTING = """
import sys
from pathlib import Path
from pipelines.apps.live.together import Part, answers, run_together
from pipelines.system.terminal import say
from transforms.errors import RunnerError

def part(name, folder, port):
    return Part(name, ["collect", "--log", folder, "--port", port], lambda: answers(int(port), "/readyz"))

folder, one, other = sys.argv[1:]
try:
    parts = [part("one", folder + "/one", one), part("other", folder + "/other", other)]
    run_together(parts, say, lambda: say("ready"))
except RunnerError as error:
    say(f"error: {error}")
    sys.exit(1)
say("all stopped")
"""


class Together:
    """Two collectors that run together."""

    def __init__(self, process: subprocess.Popen, said: Path):
        self.process, self._said = process, said

    def said(self) -> str:
        return self._said.read_text()

    def parts(self) -> dict[str, psutil.Process]:
        """Its processes, by the name of the part."""
        found = psutil.Process(self.process.pid).children()
        return {Path(each.cmdline()[each.cmdline().index("--log") + 1]).name: each for each in found}


@contextmanager
def together(folder: Path, *ports: int) -> Iterator[Together]:
    said = folder / "said.txt"
    with open(said, "wb") as out:
        words = [sys.executable, "-c", STARTING, str(folder), *map(str, ports or (free_port(), free_port()))]
        process = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield Together(process, said)
    finally:
        process.kill()
        process.wait()


def until_ready(made: Together) -> list[psutil.Process]:
    wait_until(lambda: "ready\n" in made.said() or made.process.poll() is not None, 60, "all parts are ready")
    assert made.process.poll() is None, made.said()
    parts = list(made.parts().values())
    assert len(parts) == 2
    return parts


def until_gone(parts: list[psutil.Process]) -> None:
    wait_until(lambda: not any(each.is_running() and each.status() != "zombie" for each in parts), 60, "all are gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_all_parts_and_the_status_is_0(tmp_path, number):
    with together(tmp_path) as made:
        parts = until_ready(made)
        made.process.send_signal(number)
        made.process.send_signal(number)  # a second one changes nothing
        assert made.process.wait(LIMIT) == 0
        until_gone(parts)
        said = made.said()
    assert "one: stopped: what was answered is in the log\n" in said and said.endswith("all stopped\n")


def test_a_kill_of_the_command_ends_all_parts(tmp_path):
    with together(tmp_path) as made:
        parts = until_ready(made)
        made.process.kill()
        until_gone(parts)


@pytest.mark.parametrize("name", ["one", "other"])
def test_a_part_that_ends_ends_the_others_and_is_said(tmp_path, name):
    with together(tmp_path) as made:
        parts = until_ready(made)
        made.parts()[name].kill()
        assert made.process.wait(LIMIT) == 1
        until_gone(parts)
        assert f"error: the {name} ended by signal 9; the other parts were ended too" in made.said()


def test_a_part_that_does_not_start_says_why_and_ends_the_others(tmp_path):
    port = free_port()
    with together(tmp_path, port, port) as made:
        assert made.process.wait(LIMIT) == 1
        said = made.said()
    assert f"other: error: --host 127.0.0.1 --port {port}" in said
    assert "error: the other ended with exit status 2; the other parts were ended too" in said
    assert "one: stopped: what was answered is in the log" in said


def test_a_port_that_is_taken_is_one_line_and_nothing_starts(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["live", "--collect", str(tmp_path / "log"), "--warehouse", str(tmp_path / "w"), "--collect_port", port]
        assert main([*words, "--port", str(free_port())]) == 2
    assert capsys.readouterr().err.startswith(f"error: --host 127.0.0.1 --collect_port {port}: Address already in use")
    assert not list(tmp_path.iterdir())


REFUSED = {
    ("--simulate", "10"): "--simulate: only with --collect",
    ("--keys", "keys.json"): "--keys: only with --collect",
    ("--collect", "log", "--dataset", "my-project.audience"): "--collect: only into a folder",
    ("--collect", "log", "--port", "8090"): "got 8090 for both; allowed: two ports",
    ("--collect", "log", "--collect_port", "x"): "--collect_port: got 'x'",
    ("--collect", "log", "--simulate", "0"): "--simulate: got '0'",
    ("--collect", "log", "--simulate", "5", "--keys", "k"): "--simulate: not with --keys",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_options_that_do_not_fit_are_one_line(words, capsys):
    assert main(["live", *words]) == 2
    told = capsys.readouterr().err
    assert REFUSED[words] in told and told.count("\n") == 1
