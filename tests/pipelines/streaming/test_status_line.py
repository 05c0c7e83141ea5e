"""Liveness: the figures of given counts, the line on a terminal, JSON elsewhere, and never a failure of the stream."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipelines.sources.queue import Backlog, Snapshot
from pipelines.streaming import status_line as liveness
from pipelines.streaming.status_line import Liveness, line
from pipelines.system.terminal import ERASE
from pipelines.warehouse.write_stats import Figures
from tests.servers.needed import wait_until
from tests.support.terminal import ROOT, on_a_terminal, screen

NOTHING = Figures({}, None, None, None, 0, None, None)
UNREAD = Snapshot(0, Backlog(0, 0, None), None)
# Tells at once what a stream tells twice a second, and once a minute what it tells in half a second.
TELLING = """
import threading, pipelines.streaming.status_line as l
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.warehouse.write_stats import Figures
l.EVERY, l.A_MINUTE, told, looks = 0.01, 0.2, threading.Event(), []
def read():
    looks.append(1)
    told.set() if len(looks) == 60 else None
    return Snapshot(2_000, Backlog(40, 0, 999.5), 990.0)
with l.Liveness(lambda: Figures({"events": 1_500}, 1.25, 2.5, 0.01, 7, 999.0, %s), read, lambda: 1_000.0):
    assert told.wait(60)
"""


@pytest.fixture
def monotonic(monkeypatch) -> list[float]:
    """The monotonic clock, as its one number."""
    now = [100.0]
    monkeypatch.setattr(liveness, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def telling(problem: str | None = None) -> list[str]:
    return [sys.executable, "-c", TELLING % repr(problem)]


def test_rates_are_those_of_the_last_ten_seconds(monotonic):
    counts = {"messages": 0, "events": 0}
    shown = Liveness(
        lambda: NOTHING._replace(rows={"events": counts["events"], "quarantine": 9}),
        lambda: UNREAD._replace(messages=counts["messages"]),
        lambda: 0.0,
    )
    rates = []
    for second in range(21):
        monotonic[0] = 100.0 + second
        counts["messages"] += 100 if second < 10 else 300
        counts["events"] += 50
        told = shown.figures()
        rates.append((told["messages_per_second"], told["events_per_second"]))
    assert rates[0] == (0.0, 0.0)
    assert rates[9] == (100.0, 50.0)
    assert rates[15] == (220.0, 50.0)  # of ten seconds six at 300 and four at 100
    assert rates[20] == (300.0, 50.0)
    assert (told["messages"], told["events"]) == (10 * 100 + 11 * 300, 21 * 50)


def test_times_are_told_as_how_long_ago_and_nothing_where_there_is_nothing():
    written = Figures({"events": 3}, 1.23456, 2.0, 1 / 3, 7, 990.0, "disk full")
    read = Snapshot(4, Backlog(messages=2, bytes=9, oldest=998.75), watermark=985.0)
    told = Liveness(lambda: written, lambda: read, lambda: 1_000.0).figures()
    assert told == {
        "time": "1970-01-01T00:16:40+00:00",
        "messages": 4,
        "events": 3,
        "messages_per_second": 0.0,
        "events_per_second": 0.0,
        "in_flight": 2,
        "lag_messages": None,
        "lag_seconds": None,
        "oldest_seconds": 1.25,
        "watermark_lag_seconds": 15.0,
        "row_seconds_p50": 1.235,
        "row_seconds_p99": 2.0,
        "quarantine_share": 0.333333,
        "files": 7,
        "unreadable_stamps": 0,
        "problem": "disk full",
    }
    quiet = Liveness(lambda: NOTHING, lambda: UNREAD, lambda: 1_000.0).figures()
    assert {name for name, figure in quiet.items() if figure is None} == {
        "lag_messages",
        "lag_seconds",
        "oldest_seconds",
        "watermark_lag_seconds",
        "row_seconds_p50",
        "row_seconds_p99",
        "quarantine_share",
        "problem",
    }
    assert line(quiet) == "in 0/s  out 0/s  in flight 0  0 events"


def test_the_line_has_what_is_wrong_first():
    written = Figures({"events": 29_310}, 0.9, 1.6, 0.0081, 7, 999.0, None)
    read = Snapshot(0, Backlog(640, 0, 998.9), watermark=989.0)
    told = Liveness(lambda: written, lambda: read, lambda: 1_000.0).figures()
    usual = (
        "in 512/s  out 498/s  in flight 640 1.1 s  watermark -11 s  row 0.9 s (99 %: 1.6 s)  quarantine 0.81%"
        "  29,310 events"
    )
    told |= {"messages_per_second": 512.4, "events_per_second": 498.0}
    assert line(told) == usual
    assert usual in (ROOT / "docs/streaming.md").read_text()
    assert line(told | {"unreadable_stamps": 1_234}) == f"{usual}  1,234 unreadable stamps"
    lagging = usual.replace("  watermark", "  lag 1,234 12 s  watermark")
    assert line(told | {"lag_messages": 1_234, "lag_seconds": 12.4}) == lagging
    assert line(told | {"lag_messages": 0}) == lagging.replace("1,234 12 s", "0")
    assert line(told | {"problem": "no space"}) == f"CANNOT WRITE: no space  {usual}"


def test_a_terminal_has_one_line_drawn_anew_and_is_left_clean():
    sent, status = on_a_terminal(telling())
    assert status == 0, sent
    drawn = re.findall(r"\r([^\r\x1b]+)\x1b\[K", sent)
    assert len(drawn) >= 50
    assert all(0 < len(text) < 80 for text in drawn)
    assert drawn[-1].startswith("in 0/s  out 0/s  in flight 40 0.5 s  watermark -10 s  row 1.2 s (99 %: 2.5 s)")
    assert sent.endswith(ERASE) and "\n" not in sent
    assert screen(sent) == [""]


def test_a_terminal_shows_why_nothing_is_written():
    sent, _ = on_a_terminal(telling("/w: no space left"))
    assert "\rCANNOT WRITE: /w: no space left  in 0/s" in sent


def test_elsewhere_a_line_of_json_a_minute_and_one_at_the_end():
    ran = subprocess.run(telling(), cwd=ROOT, capture_output=True, text=True, check=True)
    told = [json.loads(text) for text in ran.stderr.splitlines()]
    assert 3 <= len(told) <= 20  # of some 60 looks
    assert all(each["watermark_lag_seconds"] == 10.0 and each["events"] == 1_500 for each in told)
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ran.stderr) is None
    assert ran.stdout == ""


def test_figures_that_cannot_be_had_fail_no_stream():
    broken = TELLING % "None" + "\nraise SystemExit(3)"
    broken = broken.replace("return Snapshot", "raise OSError(28)\n    return Snapshot")
    ran = subprocess.run([sys.executable, "-c", broken], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (3, "")


WRITTEN = NOTHING._replace(rows={"events": 5}, files=1)
READ = UNREAD._replace(messages=9, watermark=float("-inf"))


def test_a_watermark_that_is_not_known_yet_is_null_and_the_line_stays_json():
    told = json.dumps(Liveness(lambda: WRITTEN, lambda: READ).figures(), allow_nan=False)
    assert json.loads(told)["watermark_lag_seconds"] is None


def test_a_log_tells_at_once_when_it_cannot_write_and_when_it_can_again(capsys, monkeypatch):
    monkeypatch.setattr(liveness, "EVERY", 0.01)
    figures, told = [WRITTEN], []
    with Liveness(lambda: figures[0], lambda: READ):
        for problem in ("no space", None):
            figures[0] = WRITTEN._replace(problem=problem)
            wait_until(lambda: told.append(capsys.readouterr().err) or told[-1])
            assert json.loads(told[-1])["problem"] == problem
