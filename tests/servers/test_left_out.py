"""A run says what it left out, also one in several processes."""

import subprocess
import sys

import pytest

from tests.servers.needed import LIMIT
from tests.servers.process import ROOT

TESTS = """
import pytest
from tests.servers.needed import missing

@pytest.fixture
def prism():
    missing("no Prism: run `make prism`")

@pytest.fixture
def started(prism):
    pass

def test_of_python(): pass
def test_of_prism(prism): pass
def test_of_prism_by_another_fixture(started): pass
"""


def run_pytest(folder, *words: str) -> str:
    """What pytest says of the three tests."""
    (folder / "test_three.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = servers\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.servers.left_out", "-p", "no:cacheprovider", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*command, "."], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_without_a_program_says_so_once_with_the_number_of_its_tests(tmp_path):
    said = run_pytest(tmp_path)
    assert "1 passed, 2 skipped" in said
    assert said.count("    2 tests skipped: no Prism: run `make prism`\n") == 1


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_without_what_needs_servers_says_what_that_left_out(processes, tmp_path):
    said = run_pytest(tmp_path, "-m", "not servers", "--numprocesses", processes)
    assert "1 passed" in said and "skipped" not in said
    assert said.count("    2 tests deselected: needs Prism, which Go builds\n") == 1
