"""Recompute and replay: what was refused is taken in once, the counts follow it, a second run changes nothing."""

import json
from datetime import date
from pathlib import Path

import pytest

from pipelines.batch.backfill import backfill
from pipelines.batch.recompute import recompute
from pipelines.batch.replay import replay
from pipelines.cli import main
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from tests.support.once import copy_of
from tests.support.rows import asked
from transforms.errors import OptionError

DAY = "2026-03-01"
MAPPING = """
source: shop
fields:
  event_id: {path: id}
  event_time: {path: at, time: rfc3339}
  received_time: {path: got, time: rfc3339}
  event_type: {path: type, map: {look: page_view%s}}
  user_id: {path: who}
"""


def native(id: str, time: str, received: str | None = None, **fields) -> str:
    stated = {"event_id": id, "event_type": "page_view", "event_time": time, "received_time": received or time}
    return json.dumps(stated | fields)


def mapped(id: str, type: str, at: str, got: str | None = None, **fields) -> str:
    return json.dumps({"id": id, "type": type, "at": at, "got": got or at, "who": f"u-{id}"} | fields)


def write(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


class House:
    """A warehouse in a folder, and what is done to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.given = {"warehouse": str(folder / "warehouse"), "workers": "1"}

    def backfill(self, *inputs: str, **options):
        return backfill(resolve({"input": list(inputs)} | self.given | options))

    def recompute(self, **options):
        return recompute(resolve(self.given | options, "recompute"))

    def replay(self, **options):
        return replay(resolve(self.given | options, "replay"))

    def ask(self, sql: str) -> list[tuple]:
        return asked(self.folder / "warehouse", sql).rows()

    def ids(self) -> list[str]:
        return [id for (id,) in self.ask("SELECT event_id FROM events ORDER BY 1")]

    def open_codes(self) -> list[tuple]:
        return self.ask("SELECT code, attempt, count(*) FROM quarantine_open GROUP BY ALL ORDER BY ALL")

    def totals(self) -> tuple:
        counts = "received, events, duplicates, quarantined, out_of_range, replaced, balance"
        return self.ask(f"SELECT {', '.join(f'sum({name})' for name in counts.split(', '))} FROM quality_1m_current")[0]

    def snapshot(self) -> list[list[tuple]]:
        """What the warehouse says, without the stamps of who published it when, and how often it was tried."""
        stamps = "generation, revision, emitted_time, firing"
        return [
            self.ask("SELECT * FROM events ORDER BY ALL"),
            self.ask("SELECT * EXCLUDE (failed_time, attempt) FROM quarantine_open ORDER BY ALL"),
            self.ask(f"SELECT * EXCLUDE ({stamps}) FROM quality_1m_current WHERE received <> 0 ORDER BY ALL"),
            *(
                self.ask(f"SELECT * EXCLUDE ({stamps}) FROM {metric}_current ORDER BY ALL")
                for metric in ("activity_1m", "user_days")
            ),
        ]

    def sound(self) -> None:
        assert differences(LocalWarehouse.open(self.folder / "warehouse")) == []


# Two days with an event each, and two events that were too late for them: one of each day.
TWO_DAYS = [
    native("a", f"{DAY}T10:00:00Z", user_id="u1"),
    native("late", f"{DAY}T11:00:00Z", "2026-03-04T11:00:00Z", user_id="u1"),
    native("b", "2026-03-02T10:00:00Z", user_id="u1"),
    native("other", "2026-03-02T11:00:00Z", "2026-03-05T11:00:00Z", user_id="u2"),
    "broken",
]


@pytest.fixture
def with_late(tmp_path, house) -> House:
    copy_of(
        ("test_repair", *TWO_DAYS), lambda folder: House(folder).backfill(write(folder, "e.jsonl", *TWO_DAYS)), tmp_path
    )
    assert house.open_codes() == [("invalid_json", 1, 1), ("too_late", 1, 2)]
    house.sound()
    return house


def test_a_recompute_takes_in_what_was_too_late_for_its_days_and_leaves_the_rest(with_late):
    done = with_late.recompute(start=DAY, end="2026-03-02")
    assert with_late.ids() == ["a", "b", "late"]
    assert with_late.ask("SELECT person, events FROM user_days_current ORDER BY ALL") == [("u1", 1), ("u1", 2)]
    assert with_late.open_codes() == [("invalid_json", 1, 1), ("too_late", 1, 1)]
    assert with_late.totals() == (5, 3, 0, 2, 0, 0, 0)
    assert done.days == [date(2026, 3, 1)]
    with_late.sound()
    once = with_late.snapshot()
    with_late.recompute(start=DAY, end="2026-03-02")
    assert with_late.snapshot() == once


def test_a_recompute_of_everything_is_the_backfill_that_takes_late_events(house, tmp_path):
    house.backfill(write(tmp_path, "e.jsonl", *TWO_DAYS))
    house.recompute()
    assert house.ids() == ["a", "b", "late", "other"]
    house.sound()
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    other.backfill(str(tmp_path / "e.jsonl"), accept_late=True)
    assert other.snapshot() == house.snapshot()


def test_a_late_copy_of_a_stored_event_is_a_duplicate_and_moves_to_the_duplicates_of_its_books(tmp_path, house):
    at = f"{DAY}T10:00:00Z"
    house.backfill(write(tmp_path, "e.jsonl", native("a", at), native("a", at, "2026-03-04T10:00:00Z")))
    assert house.totals() == (2, 1, 0, 1, 0, 0, 0)
    house.recompute()
    assert house.ids() == ["a"]
    assert house.totals() == (2, 1, 1, 0, 0, 0, 0)
    assert house.open_codes() == []
    house.sound()


def test_a_recompute_meets_the_copy_of_the_day_before(tmp_path, house):
    client = "2026-03-02T00:00:30Z"  # the second delivery proves a fast clock: its event falls on the day before
    first = {"event_id": "a", "event_type": "click", "event_time": client, "received_time": "2026-03-02T00:00:31Z"}
    second = first | {"sent_time": "2026-03-04T00:06:00Z", "received_time": "2026-03-04T00:01:00Z"}
    house.backfill(write(tmp_path, "e.jsonl", json.dumps(first), json.dumps(second)))
    assert house.open_codes() == [("too_late", 1, 1)]
    house.recompute(start=DAY, end="2026-03-02")
    assert house.ask("SELECT event_time::DATE FROM events") == [(date(2026, 3, 2),)]
    assert house.totals() == (2, 1, 1, 0, 0, 0, 0)
    house.sound()


def test_a_recompute_gives_a_new_metric_its_history(with_late, tmp_path):
    config = tmp_path / "audience.yaml"
    config.write_text("metrics: {views_1h: {bucket: 1h, dimensions: [user_id], measures: {views: {count: all}}}}")
    with_late.recompute(config=str(config))
    assert with_late.ask("SELECT user_id, sum(views) FROM views_1h_current GROUP BY 1 ORDER BY 1") == [
        ("u1", 3),
        ("u2", 1),
    ]


def test_a_recompute_of_late_records_needs_their_mapping(tmp_path, house):
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING % "")
    late = mapped("a", "look", f"{DAY}T10:00:00Z", "2026-03-04T10:00:00Z")
    house.backfill(write(tmp_path, "e.jsonl", late), mapping=str(mapping))
    with pytest.raises(OptionError, match=r"late records of mapped:shop: give the mapping of each with --mapping FILE"):
        house.recompute()
    assert house.ids() == []
    house.recompute(mapping=str(mapping))
    assert house.ids() == ["a"]
    house.sound()


def test_a_native_record_of_the_source_of_a_mapping_is_recomputed_as_a_native_one(tmp_path, house):
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING % "")
    late = [native(id, f"{DAY}T10:00:00Z", "2026-03-04T10:00:00Z", source=id) for id in ("shop", "app")]
    house.backfill(write(tmp_path, "e.jsonl", *late))
    house.recompute(mapping=str(mapping))
    told = house.ask("SELECT event_id, source, source_format FROM events ORDER BY 1")
    assert told == [("app", "app", "native"), ("shop", "shop", "native")]
    house.sound()


def test_a_mended_mapping_takes_in_what_it_now_reads_once(tmp_path, house):
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING % "")
    lines = [
        mapped("a", "look", f"{DAY}T10:00:00Z"),
        mapped("b", "touch", f"{DAY}T10:01:00Z"),
        mapped("c", "smell", "2026-03-02T10:01:00Z"),
        mapped("b", "touch", f"{DAY}T10:01:00Z", f"{DAY}T10:02:00Z"),
        "broken",
    ]
    events = write(tmp_path, "e.jsonl", *lines)
    house.backfill(events, mapping=str(mapping))
    assert house.open_codes() == [("invalid_json", 1, 1), ("unmapped_value", 1, 3)]
    house.replay(mapping=str(mapping))
    assert (house.ids(), house.open_codes()) == (["a"], [("invalid_json", 2, 1), ("unmapped_value", 2, 3)])
    house.sound()
    mapping.write_text(MAPPING % ", touch: click")
    done = house.replay(mapping=str(mapping))
    assert (done.counts["received"], done.counts["events"], done.counts["quarantined"]) == (4, 1, 2)
    assert (house.ids(), house.open_codes()) == (["a", "b"], [("invalid_json", 3, 1), ("unmapped_value", 3, 1)])
    assert house.totals() == (5, 2, 1, 2, 0, 0, 0)
    house.sound()
    once = house.snapshot()
    house.replay(mapping=str(mapping))
    assert house.snapshot() == once
    (tmp_path / "fresh").mkdir()
    fresh = House(tmp_path / "fresh")
    fresh.backfill(events, mapping=str(mapping))
    assert fresh.snapshot() == house.snapshot()


def test_a_backfill_of_the_same_input_takes_the_place_of_what_was_replayed(tmp_path, house):
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING % "")
    events = write(
        tmp_path, "e.jsonl", mapped("a", "look", f"{DAY}T10:00:00Z"), mapped("b", "touch", f"{DAY}T10:01:00Z")
    )
    house.backfill(events, mapping=str(mapping), start=DAY, end="2026-03-02")
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(MAPPING % ", touch: click")
    house.replay(mapping=str(fixed))
    assert house.ids() == ["a", "b"]
    house.backfill(events, mapping=str(mapping), start=DAY, end="2026-03-02", replace=True)
    assert (house.ids(), house.open_codes()) == (["a"], [("unmapped_value", 1, 1)])
    house.sound()


def test_a_replay_without_a_mapping_is_of_native_records_and_leaves_late_ones_unless_told(with_late):
    done = with_late.replay()
    assert (done.counts["received"], with_late.open_codes()) == (1, [("invalid_json", 2, 1), ("too_late", 1, 2)])
    with_late.replay(accept_late=True)
    assert with_late.ids() == ["a", "b", "late", "other"]
    assert with_late.open_codes() == [("invalid_json", 3, 1)]
    with_late.sound()


def test_a_csv_record_is_replayed_by_the_header_it_came_with(tmp_path, house):
    mapping = tmp_path / "m.yaml"
    text = "source: till\nformat: csv\nfields:\n  event_type: {path: type, map: {sale: purchase%s}}\n"
    text += "  event_id: {path: no}\n  event_time: {path: at, time: rfc3339}\n"
    mapping.write_text(text % "")
    one = write(tmp_path, "one.csv", "no,type,at", f"1,sale,{DAY}T10:00:00Z", f"2,back,{DAY}T10:00:00Z")
    two = write(tmp_path, "two.csv", "at,no,type", f"{DAY}T11:00:00Z,3,back")
    house.backfill(one, mapping=str(mapping))
    house.backfill(two, mapping=str(mapping), add=True)
    mapping.write_text(text % ", back: refund")
    house.replay(mapping=str(mapping))
    assert house.ask("SELECT event_id, event_type FROM events ORDER BY 1") == [
        ("1", "purchase"),
        ("2", "refund"),
        ("3", "refund"),
    ]
    assert house.open_codes() == []
    house.sound()


def test_a_replay_with_nothing_to_do_changes_nothing(house, tmp_path):
    house.backfill(write(tmp_path, "e.jsonl", native("a", f"{DAY}T10:00:00Z")))
    before = house.snapshot()
    done = house.replay()
    assert done.counts["received"] == 0
    house.recompute()
    assert house.snapshot() == before
    house.sound()


def test_a_backfill_says_how_to_take_in_what_was_too_late(tmp_path, capsys):
    late = native("late", f"{DAY}T11:00:00Z", "2026-03-04T11:00:00Z")
    events = write(tmp_path, "e.jsonl", native("a", f"{DAY}T10:00:00Z"), late)
    home = ["--warehouse", str(tmp_path / "warehouse")]
    assert main(["backfill", "--input", events, *home]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"recompute {' '.join(home)} --start {DAY} --end 2026-03-02" in said
    assert said.endswith("# accepts the 1 late events")
    assert main(["recompute", *home, "--start", DAY, "--end", "2026-03-02"]) == 0
    assert "no event was accepted" not in capsys.readouterr().err
    assert main(["recompute", *home]) == 0
    assert "no event was accepted" not in capsys.readouterr().err


def test_the_doctor_recounts_the_books_and_says_so_by_its_exit_status(with_late, capsys):
    folder = str(with_late.folder / "warehouse")
    assert main(["doctor", "--audit", "--warehouse", folder]) == 0
    assert "the counts reconcile" in capsys.readouterr().err
    warehouse = LocalWarehouse.open(folder)
    with warehouse.writer() as run:
        run.commit([], replace_days={"events": [date(2026, 3, 1)]})
    assert main(["doctor", "--audit", "--json", "--warehouse", folder]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["what"] == "events"
    assert "1 differences" in told.err


def test_the_recount_sees_rows_that_the_books_do_not_know_of(house, tmp_path):
    house.backfill(write(tmp_path, "e.jsonl", native("a", f"{DAY}T10:00:00Z"), "broken"))
    warehouse = LocalWarehouse.open(tmp_path / "warehouse")
    with warehouse.writer() as run:
        run.commit([], replace_days={"events": [date.fromisoformat(DAY)]})
    (lost,) = differences(warehouse)
    assert (lost.what, lost.source, lost.told, lost.found) == ("events", "events", 1, 0)
