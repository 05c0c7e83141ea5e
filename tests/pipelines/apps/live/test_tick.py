"""A tick over a warehouse: each number is that of SQL over the tables, and it reads no more than its windows need."""

import threading
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.apps.live.insight import INSIGHT
from pipelines.apps.live.labels import label
from pipelines.apps.live.questions import QUESTIONS
from pipelines.apps.live.tick import CALM, REMEMBERED, STILL, Live
from pipelines.apps.report.definitions import definitions
from pipelines.warehouse.bigquery.schema import FUNNEL_VIEW, qualify
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.apps.live.rows import AT, CANARIES, HOSTILE, ZONE, events, expected, fill, stray
from tests.pipelines.warehouse.test_metric_views import new_warehouse, write


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("live") / "w", ZONE, create=True)
    fill(warehouse)
    return warehouse


@pytest.fixture
def empty(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(warehouse)
    return warehouse


def ticked(warehouse, at=AT) -> Live:
    live = Live(warehouse, 1.0)
    live.tick(at)
    assert live.problem == ""
    return live


def plain(value):
    """A value of SQL as the page has it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return label(value) if isinstance(value, str) else round(value, 3) if isinstance(value, float) else value


def numbers(live: Live) -> dict:
    """The keys that are numbers of questions, not what the page says of itself."""
    own = ("state.", "at.", "calm_at.", "attention.")
    ends = (".asked", ".written", ".pace", ".others")
    found = {key: value for key, value in live.keys.items() if not key.startswith(own) and not key.endswith(ends)}
    found = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
    return {key: value for key, value in found.items() if key not in ("minutes.rows", "starts.rows")}


def test_every_number_is_that_of_sql_over_the_tables(stored):
    live = ticked(stored)
    right = {key: plain(value) for key, value in expected(stored).items()}
    right = {key: value for key, value in right.items() if value is not None}
    shown = {key: value for key, value in numbers(live).items() if not key.startswith("funnel.")}
    assert live.keys["books.others"] == right.pop("books.others") == 0
    assert shown == right
    assert shown["now.people"] > 10 and shown["books.open_minutes"] == 2 and shown["campaigns.rows"] == 3


def test_the_funnel_is_that_of_the_view_over_the_events_of_the_day(stored, tmp_path):
    live = ticked(stored)
    today = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(today, (EVENTS, [row for row in events(AT) if row["event_time"] <= AT]))
    sql = "SELECT event_type, persons FROM funnel_by_day WHERE day = '2026-03-12' ORDER BY step"
    steps = today.answer(sql).frame().rows()
    assert [(live.keys[f"funnel.{n}.event_type"], live.keys[f"funnel.{n}.people"]) for n in range(3)] == steps
    assert steps[0][1] > steps[2][1] > 0


def test_the_sql_of_a_question_gives_its_numbers_when_it_is_typed(stored):
    live = ticked(stored)
    times = {name.partition(".")[2]: text for name, text in live.keys.items() if name.startswith("calm_at.")}
    for each in live.described():
        sql = each["sql"]
        for name in sorted(times, key=len, reverse=True):
            text = times[name]
            value = f"DATE '{text}'" if len(text) == 10 else f"TIMESTAMPTZ '{text}+00:00'"
            sql = sql.replace(f"@{name}", value).replace(f"${name}", value)
        name, rows = each["name"], stored.answer(sql).frame().drop("written", strict=False).rows(named=True)
        assert rows and len(rows) == live.keys.get(f"{name}.rows", 1), name
        for place, row in enumerate(rows):
            at = f"{row.pop('minute', place)}." if f"{name}.rows" in live.keys else ""
            for column, value in row.items():
                value = value.timestamp() if isinstance(value, datetime) else value
                found = live.keys.get(f"{name}.{at}{column}")
                assert plain(found) == plain(value), f"{name}.{at}{column}"


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.integers(1, 4), order=st.integers(0, 99))
def test_neither_the_order_of_rows_nor_the_commits_matter(stored, tmp_path_factory, parts, order):
    other = LocalWarehouse.open(tmp_path_factory.mktemp("cut") / "w", ZONE, create=True)
    fill(other, parts=parts, order=order)
    assert numbers(ticked(other)) == numbers(ticked(stored))


def test_a_tick_reads_as_much_of_60_days_as_of_3(tmp_path):
    cost = {}
    for days in (3, 60):
        warehouse = LocalWarehouse.open(tmp_path / f"{days}", ZONE, create=True)
        write(warehouse, *stray(AT, days))
        fill(warehouse)
        live = ticked(warehouse)
        cost[days] = live.read_files, live.read_bytes
        assert sum(map(len, warehouse.manifest().files["events"].values())) > days
    assert cost[3] == cost[60] and cost[3][0] > 0


def test_files_of_a_day_that_are_too_old_for_a_window_are_not_opened(empty):
    for hours in (7, 4, 2):
        write(empty, (EVENTS, events(AT - timedelta(hours=hours), 0, 10, seed=hours)))
    write(empty, (EVENTS, events(AT, 0, 10)))
    with empty.asking_recent({"events": AT - timedelta(minutes=5)}) as recent:
        assert recent.files == 1
    with empty.asking_recent({"events": AT - timedelta(hours=5)}) as recent:
        assert recent.files == 3
    with empty.asking_recent({"events": AT + timedelta(days=1)}) as recent:
        assert recent.files == 0


def test_nothing_is_asked_while_nothing_is_committed_and_the_windows_are_empty(empty):
    live, clock = Live(empty, 1.0), Clock()
    assert live.tick(AT, clock)
    asked = live.asked
    for _ in range(5):
        clock.seconds += 100 * STILL
        assert live.tick(AT, clock) == {} and live.asked == asked
    write(empty, (EVENTS, events(AT, 0, 3)))
    clock.seconds += CALM
    assert live.tick(AT, clock)["now.people"] > 0 and live.asked > asked


def test_the_clock_moves_what_is_shown_while_nothing_is_committed(stored):
    live, clock = Live(stored, 1.0), Clock()
    live.tick(AT, clock)
    people, later = live.keys["now.people"], AT + timedelta(minutes=4)
    clock.seconds += STILL - 1
    assert live.tick(later, clock) == {}
    clock.seconds += 1
    assert live.tick(later, clock)["now.people"] < people


def test_what_moves_by_the_day_is_asked_less_often_and_is_never_left_behind(empty):
    live, clock = Live(empty, 1.0), Clock()
    live.tick(AT, clock)
    write(empty, (EVENTS, events(AT, 0, 30)))
    clock.seconds += 1
    assert not [key for key in live.tick(AT, clock) if key.startswith("funnel.")]
    clock.seconds += CALM - 2
    assert not [each for each in live.rounds if live.is_due(each, clock.seconds)]
    clock.seconds += 1
    assert live.tick(AT, clock)["funnel.0.people"] > 0


def test_what_moves_by_the_day_takes_a_tenth_of_the_time_at_most(empty, monkeypatch):
    live, clock = Live(empty, 1.0), Clock()
    answers = Live._answers

    def slow(self, round, now):
        clock.seconds += 3.0 * round.calm
        return answers(self, round, now)

    monkeypatch.setattr(Live, "_answers", slow)
    live.tick(AT, clock)
    events_round, day_round = live.rounds
    begun = day_round.last
    write(empty, (EVENTS, events(AT, 0, 30)))
    clock.seconds = begun + 29.9 - 3.0
    assert live.is_due(events_round, clock.seconds) and not live.is_due(day_round, clock.seconds)
    clock.seconds = begun + 30.0
    assert live.is_due(day_round, clock.seconds)


def test_two_rounds_at_once_mix_no_answers(empty):
    write(empty, (EVENTS, events(AT, 0, 30)))
    live, errors = Live(empty, 1.0), []

    def ask(round, clock):
        try:
            for n in range(12):
                clock.seconds += 100 * STILL
                live.tick(AT + timedelta(seconds=n), clock, [round])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(each, Clock())) for each in live.rounds]
    for each in threads:
        each.start()
    for n in range(6):
        write(empty, (EVENTS, events(AT, 0, 30, seed=n)))
    for each in threads:
        each.join()
    for each in live.rounds:
        live.tick(AT, Clock(), [each])
    assert errors == [] and live.problem == ""
    changes = live.since(f"{live._run}-0")
    assert {key: value for key, value in changes.items() if value is not None} == live.keys
    assert numbers(live) == numbers(ticked(empty))


def test_a_viewer_gets_what_changed_since_it_was_there(empty):
    live, clock = Live(empty, 1.0), Clock()
    live.tick(AT, clock)
    first, keys = live.whole()
    for count in (5, 9):
        clock.seconds += CALM
        write(empty, (EVENTS, events(AT, 0, count, seed=count)))
        live.tick(AT + timedelta(seconds=count), clock)
    missed = live.since(first)
    merged = {key: value for key, value in {**keys, **missed}.items() if value is not None}
    assert merged == live.keys and "now.people" in missed and "state.warehouse" not in missed
    assert live.since(live.id) == {}


@pytest.mark.parametrize("id", ["", "x", "-1", "00000000-1", "-", "1-²", "9" * 90])
def test_an_id_that_is_not_known_gets_everything(stored, id):
    assert ticked(stored).since(id) is None


def test_a_gap_that_is_too_long_gets_everything(stored):
    live = ticked(stored)
    first = live.id
    for n in range(REMEMBERED + 1):
        live._take(live.rounds[0], {"state.asked": n}, AT)
    assert live.since(first) is None
    assert live.since(f"{live._run}-{live._number + 1}") is None


def test_names_are_text_and_nothing_personal_is_among_the_keys(stored):
    texts = [value for value in ticked(stored).keys.values() if isinstance(value, str)]
    assert HOSTILE in texts and "mail?to=[e-mail]" in texts
    assert not [text for text in texts for canary in CANARIES if canary in text]


def test_a_warehouse_without_an_event_of_the_last_day_shows_its_newest(stored):
    live = ticked(stored, AT + timedelta(days=90))
    newest = max(row["event_time"] for row in events(AT))
    assert live.keys["state.is_past"] == 1 and live.keys["at.day"] == "2026-03-12"
    assert live.keys["state.newest"] == round(newest.timestamp(), 3)
    assert "newest event" in live.keys["attention.0"] and live.keys["now.people"] > 0


def test_audit_counts_that_do_not_reconcile_are_said_first(stored, tmp_path):
    from pipelines.warehouse.tables import QUALITY_1M

    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    lost = {"bucket_start": AT - timedelta(hours=1), "source": "s", "input": "f", "received": 9, "events": 2}
    write(warehouse, (QUALITY_1M, [lost | {"generation": 1, "revision": 1, "firing": "on_time"}]))
    assert ticked(warehouse).keys["attention.0"].startswith("The audit counts do not reconcile: 7 records")
    assert not [key for key in ticked(stored).keys if key.startswith("attention.")]


def test_a_file_that_is_damaged_is_said_and_the_numbers_stay(empty):
    write(empty, (EVENTS, events(AT, 0, 30)))
    live, clock = Live(empty, 1.0), Clock()
    live.tick(AT, clock)
    people = live.keys["now.people"]
    [path] = empty.files("events")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    write(empty)
    clock.seconds += CALM
    changed = live.tick(AT, clock)
    assert set(changed) == {"state.problem"} and "DamagedError" in changed["state.problem"]
    assert str(path.name) in live.problem and live.keys["now.people"] == people
    path.write_bytes(whole)
    clock.seconds += CALM
    assert live.tick(AT, clock)["state.problem"] is None and live.problem == ""


def test_a_question_whose_metric_is_absent_is_left_out(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    with warehouse.writer() as run:
        run.declare([EVENTS])
        run.commit([])
    names = {each["name"] for each in ticked(warehouse).described()}
    assert not names & {"minutes", "contents", "funnel"} and {"now", "books", "revenue"} <= names


def test_each_question_has_a_definition():
    assert {question.metric for question in QUESTIONS} <= definitions().keys()


def test_a_dataset_has_the_same_numbers(stored, bigquery, tmp_path, monkeypatch):
    with new_warehouse("bigquery", tmp_path) as warehouse:
        fill(warehouse)
        # As BigQuery stores it: the emulator's tables.get has no text of a view.
        funnel = qualify(stored.view_texts()[FUNNEL_VIEW], warehouse.name)
        monkeypatch.setattr(warehouse, "stored_view", {FUNNEL_VIEW: funnel}.get)
        sent, query = [], warehouse.client.query
        live = Live(warehouse, 60.0, 10**9)
        live.prepare()

        def asked(sql, config, **further):
            sent.append(config.maximum_bytes_billed)
            return query(sql, config, **further)

        monkeypatch.setattr(warehouse.client, "query", asked)
        live.tick(AT)
        assert live.problem == ""
        assert numbers(live) == numbers(ticked(stored))
        assert live.keys["state.bytes_an_hour"] >= 0 and not live.keys["state.is_past"]
        without_answers = len(QUESTIONS) - len(INSIGHT)
        assert len(sent) == live.asked == without_answers and set(sent) == {10**9}
