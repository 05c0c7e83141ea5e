"""kill -9 at operations on files of a sync, and around its requests: by their ids, each change arrives once."""

import json
import subprocess
import sys

from tests.kills.test_files import ALL
from tests.servers.needed import LIMIT
from tests.servers.process import ROOT

POINTS = 16


def test_a_kill_anywhere_in_a_sync_and_each_change_arrives_once_by_its_id(tmp_path):
    command = [sys.executable, "-m", "tests.kills.sync", str(tmp_path), *([] if ALL else [str(POINTS)])]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LIMIT)
    assert said.returncode == 0, said.stderr[-2000:]
    seen = json.loads(said.stdout.splitlines()[-1])
    assert seen["wrong"] == []
    assert seen["killed"] == seen["met"] >= POINTS and seen["points"] > 20, seen
    assert seen["again"] > 0, "a batch whose mark was cut short comes again"
