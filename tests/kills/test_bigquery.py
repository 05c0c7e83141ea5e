"""kill -9 at requests to BigQuery of a backfill and of an erasure, each against an undisturbed run.

As test_files.py does at operations on files; `KILL_POINTS=all` meets every request, which takes an hour as well.
"""

import pytest

from tests.kills.test_files import ALL, asking

POINTS = {"backfill": 1, "erasure": 2}


@pytest.fixture(scope="module")
def killed(tmp_path_factory, bigquery_server):
    """Kills a command at some of its requests; what was seen."""
    with asking(tmp_path_factory.mktemp("kills"), bigquery_server.environment) as ask:
        yield ask


@pytest.mark.parametrize("command", POINTS)
def test_a_kill_leaves_everything_as_before_or_as_after_and_the_command_then_ends_as_ever(killed, command):
    seen = killed(command, None if ALL else POINTS[command], bigquery=True)
    print(command, {name: count for name, count in seen.items() if name != "wrong"})
    assert seen["wrong"] == []
    assert seen["points"] > 40, "the requests of the command must have been seen"
    assert seen["killed"] >= (0.9 * seen["points"] if ALL else POINTS[command]), "each point must end a run"
