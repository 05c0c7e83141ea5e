"""A custom funnel: which one is asked, and that its SQL is what a person would count, whatever the steps."""

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.manifest import load, save
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import EVENTS, polars_schema
from transforms.sessions.funnel import Funnel

START = datetime(2026, 3, 1, tzinfo=UTC)
MONTH = [START + timedelta(hours=hours) for hours in range(6 * 24)]


def counted(events: list[tuple], funnel: Funnel) -> list[tuple]:
    """(day, step, persons, median seconds) of (person, kind, time, id), person by person and event by event."""
    lasted: dict[tuple, list] = {}
    for person in {each[0] for each in events}:
        order = {kind: step for step, kind in enumerate(funnel.steps)}
        own = sorted((time, order.get(kind, -1), kind) for who, kind, time, _ in events if who == person)
        begun = {}
        for place, (time, _, kind) in enumerate(own):
            if kind == funnel.steps[0] and time.date() not in begun:
                begun[time.date()] = place
        for day, place in begun.items():
            first = before = own[place][0]
            lasted.setdefault((day, 1), []).append(None)
            for step, wanted in enumerate(funnel.steps[1:], 2):
                place = next((n for n in range(place + 1, len(own)) if own[n][2] == wanted), len(own))
                reached = place < len(own) and own[place][0] - first <= funnel.width
                lasted.setdefault((day, step), []).extend([(own[place][0] - before).total_seconds()] if reached else [])
                if not reached:
                    break
                before = own[place][0]
    days = sorted({day for day, _ in lasted})
    return [
        (day, step, len(found := lasted.get((day, step), [])), None if step == 1 else pl.Series(found).median())
        for day in days
        for step in range(1, len(funnel.steps) + 1)
    ]


def holding(rows: pl.DataFrame, funnel: Funnel, folder) -> LocalWarehouse:
    """A warehouse of these events."""
    empty = pl.DataFrame(schema=polars_schema(EVENTS))
    warehouse = LocalWarehouse.open(folder, create=True)
    with warehouse.writer() as run:
        run.declare([EVENTS], funnel)
        days = by_day(pl.concat([empty, rows], how="diagonal_relaxed"), EVENTS.partition, warehouse.time_zone)
        run.commit([write_file(run.staging, "events", day, part) for day, part in days])
    return warehouse


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("apart", [timedelta(0), timedelta(seconds=2)], ids=["one second", "2 s apart"])
def test_steps_at_one_time_are_in_their_order_whatever_the_ids_and_the_rows(seed, apart, tmp_path):
    draw, funnel = random.Random(seed), Funnel(("page_view", "add_to_cart", "purchase"))
    events = [
        (f"u{person}", kind, START + step * apart, f"{draw.getrandbits(128):x}")
        for person in range(20)
        for step, kind in enumerate(funnel.steps)
    ]
    draw.shuffle(events)
    rows = pl.DataFrame(events, ["user_id", "event_type", "event_time", "event_id"], orient="row")
    rows = rows.with_columns(received_time="event_time", source=pl.lit("s"))
    sql = "SELECT persons, median_seconds_from_previous FROM funnel_by_day ORDER BY step"
    seconds = apart.total_seconds()
    assert pl.concat(list(holding(rows, funnel, tmp_path / "w").ask(sql))).rows() == [
        (20, None),
        (20, seconds),
        (20, seconds),
    ]


@pytest.mark.parametrize(
    "funnel",
    [
        Funnel(("a", "b")),
        Funnel(("c", "b", "a"), "2h"),
        Funnel(("a", "b", "c", "d"), "30h"),
        Funnel(tuple("abcdefghij"), "9d"),
    ],
    ids=lambda funnel: f"{len(funnel.steps)} steps in {funnel.window}",
)
def test_it_counts_as_a_person_would(funnel, tmp_path):
    draw = random.Random(7)
    events = [  # whole hours, so that many events share an instant
        (f"u{draw.randrange(40)}", draw.choice((*funnel.steps, "other")), draw.choice(MONTH), f"{n:x}{draw.random()}")
        for n in range(2_000)
    ]
    rows = pl.DataFrame(events, ["user_id", "event_type", "event_time", "event_id"], orient="row")
    full = rows.with_columns(received_time="event_time", source=pl.lit("s"))
    warehouse = holding(full, funnel, tmp_path / "w")
    sql = "SELECT day, step, persons, median_seconds_from_previous FROM funnel_by_day ORDER BY day, step"
    expected = counted(events, funnel)
    assert pl.concat(list(warehouse.ask(sql))).rows() == expected
    assert sum(row[2] for row in expected if row[1] == 2) > 20


@pytest.fixture(params=["local", "bigquery"])
def place(request, tmp_path):
    if request.param == "bigquery":
        request.getfixturevalue("bigquery")
        return "--dataset", f"demo-project.funnel_{tmp_path.name[-8:].replace('-', '_')}"
    return "--warehouse", str(tmp_path / "w")


def steps_asked(place) -> list[str]:
    option, name = place
    with open_warehouse(*((name, None) if option == "--dataset" else (None, name))) as warehouse:
        found = pl.concat(list(warehouse.ask("SELECT DISTINCT step, event_type FROM funnel_by_day ORDER BY step")))
    return found["event_type"].to_list()


def test_the_funnel_of_the_last_run_is_asked_and_its_window_kept(place, tmp_path):
    events, config = tmp_path / "e.jsonl", tmp_path / "audience.yaml"
    kinds = ("page_view", "search", "signup")
    line = '{{"event_id": "{0}", "event_type": "{0}", "event_time": "2026-03-01T1{1}:00:00Z", "user_id": "u"}}'
    events.write_text("\n".join(line.format(kind, n) for n, kind in enumerate(kinds)) + "\n")
    assert main(["backfill", *place, "--input", str(events), "--workers", "1"]) == 0
    assert steps_asked(place) == ["page_view", "add_to_cart", "purchase"]
    config.write_text("funnel: {steps: [search, signup]}")
    assert main(["recompute", *place, "--config", str(config), "--workers", "1"]) == 0
    assert steps_asked(place) == ["search", "signup"]


def test_a_warehouse_of_before_the_funnel_is_read_without_its_view(tmp_path):
    folder = tmp_path / "w"
    warehouse = LocalWarehouse.open(folder, create=True)
    with warehouse.writer() as run:
        run.declare([EVENTS], Funnel(("a", "b")))
        run.commit([])
    assert load(folder).funnel == Funnel(("a", "b"))
    old = load(folder)
    old.funnel = None
    save(folder, old)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(',"funnel":null', ""))
    names = {name for (name,) in warehouse.connect().sql("SHOW TABLES").fetchall()}
    assert "funnel_by_day" not in names and "events_unique" in names
