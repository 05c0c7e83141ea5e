"""`audience live --collect --simulate`, which `make live` runs: a page that moves, and nothing that stays."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil

from tests.integration.streams import LONG
from tests.servers.collector import ROOT, free_port
from tests.servers.needed import LIMIT, wait_until
from tests.servers.sockets import listening


def numbers_over(port: int, name: str, until: float) -> list[float]:
    """Values of a number of the page as its stream of events brings them, until it has moved and one is as large."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
        connection.request("GET", "/events")
        answer, found, end = connection.getresponse(), [], time.monotonic() + LIMIT
        while len(set(found)) < 2 or found[-1] < until:
            assert time.monotonic() < end, f"{name} was {found}"
            line = answer.readline()
            assert line, f"the stream of events ended; {name} was {found}"
            if line.startswith(b"data: ") and (now := json.loads(line[6:]).get(name)) is not None:
                found.append(now)
    return found


def test_a_page_moves_by_simulated_events_and_ctrl_c_leaves_no_process(prism, tmp_path):
    page, collector = free_port(), free_port()
    words = ["live", "--collect", str(tmp_path / "log"), "--warehouse", str(tmp_path / "warehouse")]
    words += ["--port", str(page), "--collect_port", str(collector), "--simulate", "100", "--prism_location", prism]
    said = tmp_path / "said.txt"
    with open(said, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words],
            cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        ready = f"open http://127.0.0.1:{page}; trackers send to http://127.0.0.1:{collector}; Ctrl-C stops all"

        def is_ready() -> bool:
            assert process.poll() is None, said.read_text()
            return ready in said.read_text()

        wait_until(is_ready, LONG, "the page is open")
        assert numbers_over(page, "now.people", 20)[-1] >= 20
        parts = psutil.Process(process.pid).children(recursive=True)
        assert len(parts) >= 4
        open_ports = [each for part in parts for each in listening(part.pid) if each.kind == "tcp"]
        assert {each.address for each in open_ports} >= {f"127.0.0.1:{page}", f"127.0.0.1:{collector}"}
        assert all(each.address.startswith(("127.0.0.1:", "[::1]:")) for each in open_ports)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(is_alive, parts)), 30, "no part stays")
    assert "Traceback" not in said.read_text()
    assert Path(tmp_path / "log" / "position").exists()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
