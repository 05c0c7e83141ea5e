"""kill -9 at each operation on files of an erasure from a write-ahead log."""

import json
import subprocess
import sys

from tests.servers.needed import LIMIT
from tests.servers.process import ROOT


def test_a_kill_leaves_each_segment_as_before_or_as_after_and_a_second_run_erases_the_rest(tmp_path):
    command = [sys.executable, "-m", "tests.kills.log", str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LIMIT)
    assert said.returncode == 0, said.stderr[-2000:]
    seen = json.loads(said.stdout)
    assert seen["wrong"] == [] and seen["named"] == []
    assert seen["killed"] == seen["points"] > 20, seen
