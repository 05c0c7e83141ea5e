"""After every run, whatever it touched, the sessions that stand are those of the stored events: SQL over `events` says
which (tests/oracle/sessions.sql)."""

import json
import random
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.apps.simulator.simulate import simulate
from pipelines.batch.backfill import backfill
from pipelines.batch.person.erase import erase
from pipelines.batch.recompute import recompute
from pipelines.batch.replay import replay
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.support.rows import asked
from transforms.block import BlockCoder
from transforms.sessions import streaming as sessions_stream
from transforms.sessions.sessions import STEPS
from transforms.sessions.summaries import SUMMARY_SCHEMA, merge, summarize_events

SQL = (Path(__file__).parents[2] / "oracle" / "sessions.sql").read_text()
FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]


def events(seed: int, count: int = 300) -> list[dict]:
    """Visits of a few people over four days, more of them around midnight than one would like."""
    rand, made = random.Random(seed), []
    for number in range(count):
        midnight = datetime.combine(rand.choice(DAYS[1:]), datetime.min.time(), UTC)
        at = midnight + timedelta(minutes=rand.gauss(0, 45) if rand.random() < 0.8 else rand.uniform(-1440, 1439))
        who = rand.choice("abcde")
        made.append(
            {
                "event_id": f"e{number}",
                "event_type": rand.choice(["page_view", "click", "purchase"]),
                "event_time": at.isoformat(),
                "received_time": at.isoformat(),
                "anonymous_id": who,
                "user_id": rand.choice([None, f"u{who}", "shared"]),
                "value": rand.randint(1, 9),
                "currency": "EUR",
            }
        )
    return made


class Home:
    """A warehouse, and runs into it."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, 0

    def run(self, what, given: dict, command: str = "backfill") -> None:
        what(resolve({"warehouse": str(self.folder / "w"), "workers": "1"} | given, command))
        self.check()

    def backfill(self, lines: list[dict], **given) -> None:
        self.files += 1
        path = self.folder / f"{self.files}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.run(backfill, {"input": [str(path)]} | given)

    def check(self) -> None:
        """Compare with the answer of SQL over the stored events."""
        warehouse = self.folder / "w"
        stored = "SELECT * REPLACE (event_time::TIMESTAMP AS event_time), coalesce(user_id, anonymous_id) AS owner"
        with duckdb.connect() as oracle:
            oracle.register("o_events", asked(warehouse, f"{stored} FROM events").with_columns(person=pl.col("owner")))
            oracle.execute(SQL)
            truth = oracle.sql("FROM o_sessions").pl()
        times = "session_start::TIMESTAMP AS session_start, session_end::TIMESTAMP AS session_end"
        mine = asked(warehouse, f"SELECT * REPLACE ({times}) FROM sessions_current").select(truth.columns)
        assert mine.sort(pl.all()).equals(truth.sort(pl.all()))
        assert truth.height > 0

    def ask(self, sql: str):
        return asked(self.folder / "w", sql).rows()


def of_day(lines: list[dict], day: date) -> list[dict]:
    return [line for line in lines if line["event_time"].startswith(day.isoformat())]


def between(start: date, days: int = 1) -> dict:
    return {"start": start.isoformat(), "end": (start + timedelta(days=days)).isoformat()}


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
@pytest.mark.parametrize("ranged", [True, False])
def test_days_that_are_backfilled_one_by_one_in_any_order_cut_no_session(tmp_path, order, ranged):
    lines, home = events(1), Home(tmp_path)
    for number in order:
        day = DAYS[number]
        home.backfill(of_day(lines, day), **(between(day) if ranged else {}))
    taken_back = home.ask("SELECT count(*) FROM sessions WHERE is_tombstone")[0][0]
    assert taken_back > 0 or order == sorted(order)
    crossed = "SELECT count(*) FROM sessions_current WHERE session_start::DATE <> session_end::DATE"
    assert home.ask(crossed)[0][0] > 3


def test_a_day_that_is_replaced_or_added_to_corrects_the_sessions_of_the_days_beside_it(tmp_path):
    lines, home = events(2), Home(tmp_path)
    home.backfill([line for line in lines if int(line["event_id"][1:]) % 3])
    home.backfill(lines, add=True)
    second = of_day(lines, DAYS[1])
    home.backfill(second[::2], replace=True, **between(DAYS[1]))
    home.backfill([], replace=True, **between(DAYS[2]))
    home.backfill(second, add=True, **between(DAYS[1], 2))


def test_recompute_replay_and_erasure_leave_the_sessions_of_what_is_stored(tmp_path):
    lines, home = events(3), Home(tmp_path)
    for line in lines[::4]:
        received = datetime.fromisoformat(line["received_time"]) + timedelta(days=2)
        line["received_time"] = received.isoformat()  # too late: quarantined
    home.backfill(lines)
    home.run(recompute, between(DAYS[1]), "recompute")
    home.run(replay, {"accept_late": True}, "replay")
    assert home.ask("SELECT count(*) FROM events") == [(len(lines),)]
    home.run(lambda settings: erase(settings, ["a", "ub"]), {}, "recompute")
    named = "SELECT count(*) FROM sessions WHERE anonymous_id = 'a' OR user_id = 'ub'"
    assert home.ask(named) == [(0,)]
    home.run(recompute, {}, "recompute")


def test_a_warehouse_that_has_no_sessions_yet_gets_those_of_all_its_days_by_a_recompute(tmp_path):
    lines, home = events(4, 60), Home(tmp_path)
    home.backfill(lines)
    warehouse = LocalWarehouse.open(tmp_path / "w")
    with warehouse.writer() as run:
        run.commit([], {"sessions": None})
    assert home.ask("SELECT count(*) FROM sessions") == [(0,)]
    home.run(recompute, {}, "recompute")


def test_a_session_takes_in_the_state_of_a_stream_what_the_documents_say(tmp_path):
    simulate(5_000, 1, tmp_path / "events.jsonl", start=FIRST)
    backfill(resolve({"input": [str(tmp_path / "events.jsonl")], "warehouse": str(tmp_path / "w"), "workers": "1"}))
    stored = LocalWarehouse.open(tmp_path / "w").scan("events").collect()
    sessions = merge([summarize_events(stored, STEPS)]).select(SUMMARY_SCHEMA.keys())
    assert len(sessions) > 500
    told = re.search(r"About\s+(\d+) bytes per session", sessions_stream.__doc__)[1]
    assert len(BlockCoder().encode(sessions)) / len(sessions) == pytest.approx(int(told), rel=0.15)
