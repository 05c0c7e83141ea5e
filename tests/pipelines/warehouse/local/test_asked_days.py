"""The files that a question's own conditions rule out are not listed, and its answer is the same."""

from datetime import date

import pytest

from pipelines.warehouse.bounds import Bounds, Parameter
from pipelines.warehouse.local.asked_days import ALL, Span, spans_of
from pipelines.warehouse.local.duckdb_connection import ask
from pipelines.warehouse.local.question import read
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.warehouse.test_day_questions import DAY, rows_of_every_day, write


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    return write(tmp_path_factory.mktemp("asked") / "w", *rows_of_every_day())


# A question, and from which day to which the files of events are listed; None: of all days. DAY is 7 March.
QUESTIONS = {
    f"SELECT count(*) FROM events WHERE day = '{DAY}'": (7, 7),
    "SELECT count(*) FROM events WHERE day = DATE '2026-03-07' AND event_type <> 'x'": (7, 7),
    "FROM events e SELECT count(*) WHERE DATE '2026-03-07' >= e.day AND '2026-03-05' < e.day": (5, 7),
    "SELECT count(*) FROM events WHERE day IN ('2026-03-05', DATE '2026-03-06')": (5, 6),
    "SELECT count(*) FROM events WHERE day BETWEEN '2026-03-05' AND '2026-03-06' LIMIT 1": (5, 6),
    "SELECT count(*) FROM events WHERE day = '2026-03-31'": (),
    "SELECT count(*) FROM events WHERE event_time >= TIMESTAMP '2026-03-09 00:00:00+00'": (8, 12),  # in any time zone
    "SELECT count(*) FROM events WHERE event_time < '2026-03-03'::TIMESTAMPTZ": (1, 4),
    "SELECT count(*) FROM revenue_by_day WHERE day = '2026-03-07'": (6, 8),
    "SELECT count(*) FROM (SELECT * FROM revenue_by_day WHERE day = '2026-03-07' AND currency IS NULL)": (6, 8),
    "WITH w AS (SELECT * FROM revenue_by_day WHERE day = '2026-03-07') SELECT count(*) FROM w": (6, 8),
    "SELECT count(*) FROM funnel_by_day WHERE day = '2026-03-05'": (4, 8),
    "EXPLAIN SELECT * FROM events WHERE day = '2026-03-07'": (7, 7),
    "SELECT count(*) FROM events WHERE day = '2026-03-05' UNION FROM events SELECT 1 WHERE day = '2026-03-07'": (
        5,
        7,
    ),
    # What decides nothing: a condition that need not be true, of other columns, or of a name that means another column.
    "SELECT count(*) FROM events WHERE day = '2026-03-07' OR event_type = 'refund'": None,
    "SELECT count(*) FROM events WHERE NOT day = '2026-03-07'": None,
    "SELECT count(*) FROM events WHERE day NOT IN ('2026-03-07')": None,
    "SELECT count(*) FROM events WHERE day <> '2026-03-07'": None,
    "SELECT count(*) FROM events WHERE day = '2026-03-07'::DATE + 1": None,
    "SELECT count(*) FROM events WHERE day > '2026-03-07 (BC)'": None,
    "SELECT count(*) FROM events WHERE day = CAST('2026-03-07' AS VARCHAR)::DATE": None,
    "SELECT count(*) FROM events, (SELECT 1) WHERE day = '2026-03-07'": None,
    "SELECT count(*) FROM events WHERE day = '2026-03-07' UNION ALL SELECT count(*) FROM events": None,
    "WITH events AS (SELECT * FROM events) SELECT count(*) FROM events WHERE day = '2026-03-07'": None,
    "SELECT count(*) FROM revenue_by_day AS r(channel, day) WHERE day = '2026-03-07'": None,
    "SELECT count(*) FROM revenue_by_day AS r(a) WHERE a = '2026-03-07'": None,
    "SELECT count(*) FROM rfm_segments WHERE last_purchase_day = '2026-03-07'": None,
    "SELECT sum((SELECT count(*) FROM events)) FROM revenue_by_day WHERE day = '2026-03-07'": None,
    "SUMMARIZE events": None,
}


@pytest.mark.parametrize("sql", QUESTIONS)
def test_files_are_listed_of_the_days_that_are_asked_and_the_answer_is_that_of_all_files(sql, warehouse):
    answer = ask(warehouse, sql)
    listed = sorted({date.fromisoformat(each.day).day for each in answer.files if each.table == "events"})
    expected = QUESTIONS[sql]
    expected = (1, 12) if expected is None else expected
    assert listed == list(range(expected[0], expected[1] + 1) if expected else [])
    if not sql.startswith(("EXPLAIN", "SUMMARIZE")):  # a plan names the files, and quantiles of a summary are estimates
        every_file = warehouse.connect().sql(sql).fetchall()
        assert sorted(answer.rows.fetchall(), key=repr) == sorted(every_file, key=repr), "no question states an order"
    answer.connection.close()


def test_the_values_of_parameters_count_as_if_they_were_written(warehouse):
    bounds = Bounds(parameters=(Parameter("STRING", "click"), Parameter("DATE", DAY)))
    answer = ask(warehouse, "SELECT count(*) FROM events WHERE event_type <> ? AND day = ?", bounds=bounds)
    assert {each.day for each in answer.files} == {f"{DAY}"} and answer.rows.fetchall() == [(4,)]
    answer.connection.close()


def test_who_is_there_now_lists_the_files_of_the_days_that_it_can_be_anywhere(warehouse):
    answer = ask(warehouse, "SELECT * FROM live_now")
    assert answer.files == [] and answer.rows.fetchall()[0][:2] == (0, 0)
    answer.connection.close()


def test_a_view_that_is_computed_of_all_days_keeps_them_beside_one_that_is_not(warehouse):
    both = f"SELECT (SELECT sum(buyers) FROM revenue_by_day WHERE day = '{DAY}'), (SELECT count(*) FROM rfm_segments)"
    answer = ask(warehouse, both)
    assert len({each.day for each in answer.files}) == 12
    answer.connection.close()


def test_a_time_is_taken_for_any_of_the_days_that_it_may_be_on(warehouse):
    connection = warehouse.connect()
    sql = "FROM t WHERE day >= TIMESTAMP '2026-03-05 12:00:00-05' AND x = $1"
    spans = read(connection.duckdb, sql, ["2026-13-01"]).spans
    connection.close()
    assert spans == {"t": [{"day": Span(date(2026, 3, 3), date.max), "x": ALL}]} and spans_of([]) == {}
