"""The tools of an agent, over a small audience in a folder and in BigQuery's emulator: what they answer and refuse."""

import json
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.mcp.questions import PEOPLE
from pipelines.apps.mcp.scope import PERSONAL, Limits, Scope
from pipelines.apps.mcp.statement import Filter, Names, Order, select
from pipelines.apps.mcp.tools import TOOLS, call, schema_of
from pipelines.apps.mcp.trends import MEASURES
from pipelines.warehouse.bounds import Bounds, Parameter
from pipelines.warehouse.dialect import reach_of
from tests.pipelines.warehouse.test_metric_views import (
    CONTENTS,
    CURRENT,
    EVENTS,
    FUNNEL,
    METRICS,
    PURCHASES,
    SESSIONS,
    USER_DAYS,
    VISITS,
    at,
    new_warehouse,
    rows_of,
    write,
)
from transforms.errors import AudienceError, OptionError, QueryError

SEEN = (("web", "impression", 4), ("web", "click", 1), ("mobile", "impression", 6), ("web", "x", 9))
ACTIVITY = [
    {"bucket_start": at(1), "bucket_end": at(1, 12, 1), "channel": channel, "event_type": kind, "events": n, **CURRENT}
    for channel, kind, n in (
        ("web", "impression", 4),
        ("web", "click", 1),
        ("mobile", "impression", 6),
        ("web", "x", 9),
    )
]


@pytest.fixture(scope="module", params=["local", "bigquery"])
def warehouse(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bigquery":
            for name, value in request.getfixturevalue("bigquery_server").environment.items():
                patch.setenv(name, value)
        with new_warehouse(request.param, tmp_path_factory.mktemp(request.param)) as made:
            write(
                made,
                (METRICS["user_days"], USER_DAYS),
                (SESSIONS, VISITS),
                (EVENTS, [*FUNNEL, *PURCHASES]),
                (METRICS["content_1h"], CONTENTS),
                (METRICS["activity_1m"], ACTIVITY),
            )
            yield made


@pytest.fixture(scope="module")
def scope(warehouse):
    return Scope(warehouse)


@pytest.fixture(scope="module")
def allowed(warehouse):
    return Scope(warehouse, people=True, sql=True)


def ask(scope, tool, **arguments):
    return json.loads(call(scope, tool, arguments))


def refusal(scope, tool, **arguments) -> str:
    with pytest.raises(AudienceError) as error:
        call(scope, tool, arguments)
    return str(error.value)


def plain(rows) -> list[list]:
    """Rows as an answer has them, but for the type of a number."""
    return [[each.isoformat() if isinstance(each, date) else each for each in row] for row in rows]


def test_every_metric_is_listed_with_its_page_and_no_view_of_single_people(scope, allowed):
    listed = ask(scope, "list_metrics")
    assert all(each["resource"].startswith("audience://metrics/") for each in listed["metrics"])
    views = {view for each in listed["metrics"] for view in each["views"]} | {*listed["other_views"]}
    for view in views:
        columns = {each["name"] for each in ask(scope, "describe_view", view=view)["columns"]}
        assert columns and not columns & PERSONAL, view
    assert {"funnel_by_day", "retention_by_week", "activity_by_day", "quality_summary"} <= views
    assert not views & {"events", "sessions", "visits", "identities", "quarantine", *PEOPLE}
    everything = ask(allowed, "list_metrics")
    assert {view for each in everything["metrics"] for view in each["views"]} >= {"visits", "identities"}


def test_a_metric_is_described_by_its_page_and_columns(scope):
    found = ask(scope, "describe_metric", metric="funnel")
    assert found["page"].startswith("# Funnel\n") and "**Late data:**" in found["page"]
    assert {"name": "event_type", "type": "STRING"} in found["views"]["funnel_by_day"]
    assert "allowed: active-people, " in refusal(scope, "describe_metric", metric="churn")


@pytest.mark.parametrize("measure", list(MEASURES))
def test_a_trend_of_each_measure_is_what_its_view_says(scope, warehouse, measure):
    known = MEASURES[measure]
    if known.view not in warehouse.names():
        pytest.fail(f"{known.view} is no view")
    keys = ", ".join(("day", *known.always))
    expected = rows_of(warehouse, f"SELECT {keys}, {known.sql} AS n FROM {known.view} GROUP BY {keys} ORDER BY {keys}")
    assert expected
    found = ask(scope, "trend", measure=measure, limit=1000)
    assert found["rows"] == [
        [pytest.approx(each) if isinstance(each, float) else each for each in row]
        for row in plain(map(_numbers, expected))
    ]
    assert found["definition"]["metric"] == known.metric and not found["truncated"]


# Of the first days of March, worked out of the rows that were written: 4 sessions on the first and 2 on the second.
BY_HAND = {
    "dau": [2, 1, 2, 0, 1, 0, 0, 1, 0, 1, 0, 0],
    "stickiness": [2 / 2, 1 / 2, 2 / 3, 0, 1 / 3, 0, 0, 1 / 3, 0, 1 / 3, 0, 0],
    "new_persons": [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "impressions": [10],
    "click_through_rate": [1 / 10],
    "sessions": [4, 2],
    "engagement_rate": [3 / 4, 1 / 2],
    "bounce_rate": [1 / 4, 1 / 2],
    "session_conversion_rate": [2 / 4, 0],
}


@pytest.mark.parametrize("measure", BY_HAND)
def test_a_trend_is_that_of_the_rows(scope, measure):
    days = [f"2026-03-{day:02}" for day in range(1, len(BY_HAND[measure]) + 1)]
    expected = [[day, pytest.approx(n)] for day, n in zip(days, BY_HAND[measure], strict=True)]
    assert ask(scope, "trend", measure=measure)["rows"] == expected


def test_a_trend_of_money_never_adds_currencies(scope):
    rows = ask(scope, "trend", measure="revenue", limit=1000)["rows"]
    sums = {currency: sum(n or 0 for _, other, n in rows if other == currency) for _, currency, _ in rows}
    assert (sums["EUR"], sums["GBP"]) == (10 + 60 + 60 + 500 + 5, 2 * 100 + 4 * 7)


def _numbers(row):
    return [each if each is None or isinstance(each, date | str | float) else _whole(each) for each in row]


def _whole(number):
    return int(number) if number == int(number) else float(number)


def test_a_trend_is_of_the_days_that_are_asked_and_split_by_a_column_that_fits(scope):
    days = [row[0] for row in ask(scope, "trend", measure="sessions", limit=1000)["rows"]]
    first, last = min(days), max(days)
    assert {row[0] for row in ask(scope, "trend", measure="sessions", start=last)["rows"]} == {last}
    assert last not in {row[0] for row in ask(scope, "trend", measure="sessions", start=first, end=last)["rows"]}
    split = ask(scope, "trend", measure="sessions", by="channel", limit=1000)
    assert [each["name"] for each in split["columns"]] == ["day", "channel", "sessions"]
    assert sum(row[2] for row in split["rows"]) == sum(
        row[1] for row in ask(scope, "trend", measure="sessions", limit=1000)["rows"]
    )
    assert refusal(scope, "trend", measure="dau", by="channel") == "by: got 'channel'; allowed for dau: nothing"
    assert "not before end" in refusal(scope, "trend", measure="dau", start=last, end=first)


def test_the_funnel_is_added_up_over_its_days(scope, warehouse):
    found = ask(scope, "funnel")
    sql = "SELECT step, SUM(persons) AS n, SUM(first_persons) AS f FROM funnel_by_day GROUP BY step ORDER BY step"
    expected = [[step, int(n), int(f), pytest.approx(int(n) / int(f))] for step, n, f in rows_of(warehouse, sql)]
    assert len(expected) == 3 and [[row[0], row[2], row[3], row[5]] for row in found["rows"]] == expected
    by_day = ask(scope, "funnel", by_day=True, limit=1000)
    assert sum(row[by_day["columns"].index({"name": "persons", "type": "INT64"})] for row in by_day["rows"]) == sum(
        row[2] for row in found["rows"]
    )


@pytest.mark.parametrize("period", ["day", "week"])
def test_retention_is_that_of_all_cohorts_that_are_old_enough(scope, warehouse, period):
    sql = (
        f"SELECT {period}_n AS n, SUM(cohort_size) AS size, SUM(retained_on) AS kept FROM retention_by_{period} "
        "WHERE retained_on IS NOT NULL GROUP BY n ORDER BY n"
    )
    expected = [
        [n, int(size), int(kept), pytest.approx(int(kept) / int(size))] for n, size, kept in rows_of(warehouse, sql)
    ]
    assert expected and ask(scope, "retention", period=period)["rows"] == expected
    cohorts = ask(scope, "retention", period=period, by_cohort=True, limit=1000)
    assert sum(row[3] for row in cohorts["rows"]) == sum(row[2] for row in expected)


def test_a_view_is_queried_by_columns_filters_and_order(scope, warehouse):
    found = ask(
        scope,
        "query_view",
        view="conversion_by_campaign",
        columns=["campaign", "sessions"],
        filters=[
            {"column": "sessions", "op": ">=", "value": 1},
            {"column": "campaign", "op": "is_not_null"},
            {"column": "day", "op": ">", "value": "2026-01-01"},
        ],
        order=[{"column": "sessions", "descending": True}, {"column": "campaign"}],
        limit=2,
    )
    sql = (
        "SELECT campaign, sessions FROM conversion_by_campaign WHERE campaign IS NOT NULL "
        "ORDER BY sessions DESC, campaign"
    )
    rows = [list(row) for row in rows_of(warehouse, sql)]
    assert found["rows"] == rows[:2] and found["truncated"] is (len(rows) > 2)


def test_a_value_is_never_read_as_sql(scope):
    for value in ("' OR 1 = 1 --", "x\\' OR TRUE", '"; SELECT 1', "`", "?"):
        for op, given_value in (("=", value), ("in", [value]), ("contains", value)):
            where = [{"column": "campaign", "op": op, "value": given_value}]
            assert ask(scope, "query_view", view="conversion_by_campaign", filters=where)["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": ["campaign; DROP"]}, "columns: got 'campaign; DROP'; allowed: the columns of conversion_by"),
        ({"order": [{"column": "x"}]}, "order: got 'x'; allowed: "),
        ({"filters": [{"column": 'a" OR 1', "op": "is_null"}]}, "filters: got 'a\" OR 1'; allowed: "),
        (
            {"filters": [{"column": "sessions", "op": "=", "value": "1"}]},
            "'sessions' is INT64; got '1'; allowed: a whole",
        ),
        ({"filters": [{"column": "sessions", "op": "=", "value": True}]}, "'sessions' is INT64; got True"),
        ({"filters": [{"column": "day", "op": "=", "value": "May"}]}, "'day' is DATE; got 'May'; allowed: a text YYYY"),
        ({"filters": [{"column": "day", "op": "="}]}, "= of 'day' takes one value; got None"),
        ({"filters": [{"column": "day", "op": "in", "value": []}]}, "in of 'day' takes a list of 1 to 1000 values"),
        ({"filters": [{"column": "sessions", "op": "contains", "value": "1"}]}, "allowed: a column of STRING"),
        ({"filters": [{"column": "day", "op": "LIKE", "value": "x"}]}, "Invalid enum value 'LIKE'"),
        ({"limit": 0}, "Expected `int` >= 1"),
        ({"limit": 5000}, "limit: got 5000; allowed: 1 to 1000"),
        ({"raw": 1}, "unknown field `raw`"),
    ],
    ids=lambda each: None if isinstance(each, dict) else each[:24],
)
def test_a_wrong_argument_is_one_line_with_what_is_allowed(scope, arguments, said):
    line = refusal(scope, "query_view", view="conversion_by_campaign", **arguments)
    assert said in line and "\n" not in line


@pytest.mark.parametrize(
    "view", ["events", "visits", "identities", "sessions_current", "user_days_current", "erasures"]
)
def test_a_view_of_single_people_needs_leave(scope, allowed, view):
    assert "audience mcp --people" in refusal(scope, "query_view", view=view)
    assert ask(allowed, "query_view", view=view)["columns"]


def test_the_people_behind_a_number(scope, allowed, warehouse):
    assert "audience mcp --people" in refusal(scope, "people_behind", view="visits")
    for view, (person, _) in PEOPLE.items():
        found = ask(allowed, "people_behind", view=view, limit=1000)["rows"]
        bots = " AND is_bot IS NOT TRUE" if view == "events_unique" else ""
        sql = f"SELECT {person} AS p, COUNT(*) AS n FROM {view} WHERE {person} IS NOT NULL{bots} GROUP BY p"
        assert sorted(found) == sorted(map(list, rows_of(warehouse, sql))) != []
    converted = [{"column": "is_converted", "op": "=", "value": True}]
    people = ask(allowed, "people_behind", view="visits", filters=converted)["rows"]
    sql = "SELECT COUNT(DISTINCT visitor) AS n FROM visits WHERE is_converted"
    assert len(people) == rows_of(warehouse, sql)[0][0]


def test_sql_needs_leave_and_only_reads_the_views_that_may_be_asked(scope, allowed, warehouse):
    assert "audience mcp --allow_sql" in refusal(scope, "sql", query="SELECT 1")
    free = Scope(warehouse, sql=True)
    assert ask(free, "sql", query="WITH own AS (SELECT COUNT(*) AS n FROM funnel_by_day) SELECT n > 0 AS y FROM own")[
        "rows"
    ] == [[True]]
    for query in (
        "SELECT * FROM events",
        "SELECT (SELECT MIN(user_id) FROM events) AS u",
        "WITH events AS (SELECT 1 AS user_id) SELECT user_id FROM events",
        "SELECT * FROM activity_by_day JOIN visits USING (day)",
    ):
        assert "it may not read '" in refusal(free, "sql", query=query), query
    for query in ("DROP TABLE events", "SELECT 1; SELECT 2", "DELETE FROM events WHERE TRUE", " "):
        assert refusal(allowed, "sql", query=query).startswith("query: "), query
    assert ask(allowed, "sql", query="SELECT COUNT(*) AS n FROM events")["rows"][0][0] > 0


def test_rows_and_bytes_are_limited_and_what_is_missing_is_said(warehouse):
    few = Scope(warehouse, limits=Limits(rows=3))
    found = ask(few, "query_view", view="retention_by_day")
    assert found["row_count"] == len(found["rows"]) == 3 and found["truncated"] and "more rows" in found["hint"]
    small = Scope(warehouse, limits=Limits(bytes=200))
    found = ask(small, "query_view", view="retention_by_day")
    assert 0 < len(json.dumps(found["rows"], separators=(",", ":"))) <= 200 and found["truncated"]


@pytest.mark.parametrize("warehouse", ["bigquery"], indirect=True)  # a folder bills nothing
def test_bigquery_is_told_what_it_may_bill_and_gets_values_as_parameters(warehouse, monkeypatch):
    asked, query = [], warehouse.client.query

    def ask_and_note(sql, config=None, **how):
        asked.append((sql, config))
        return query(sql, config, **how)

    monkeypatch.setattr(warehouse.client, "query", ask_and_note)
    ask(Scope(warehouse, limits=Limits(billed_bytes=7_000_000_000)), "trend", measure="sessions", start="2026-03-02")
    assert {config.maximum_bytes_billed for _, config in asked} == {7_000_000_000}
    (sql, config), *_ = asked
    assert "?" in sql and "2026" not in sql
    assert [(each.type_, each.value) for each in config.query_parameters] == [("DATE", date(2026, 3, 2))]


def test_the_schema_of_each_tool_is_an_object_without_other_fields():
    for tool in TOOLS.values():
        schema = schema_of(tool.arguments)
        assert schema["type"] == "object" and schema["additionalProperties"] is False


COLUMNS = {"a": "STRING", "n": "INT64", "x": "FLOAT64", "ok": "BOOL", "m": "NUMERIC"}


@given(st.lists(st.tuples(st.sampled_from(sorted(COLUMNS)), st.text(max_size=8)), max_size=4), st.text(max_size=8))
def test_the_sql_is_made_of_known_names_alone(filters, column):
    names = Names("v", COLUMNS, '"', "UTC")
    texts = [Filter(name, "=", value) for name, value in filters if COLUMNS[name] == "STRING"]
    made = select(names, [], texts, [Order("n")], 5)
    where = " AND ".join(['"a" = ?'] * len(texts))
    listed = ", ".join(f'"{name}"' for name in COLUMNS)
    assert made.sql == f'SELECT {listed} FROM "v"{" WHERE " * bool(where)}{where} ORDER BY "n" LIMIT 5'
    assert [each.value for each in made.parameters] == [each.value for each in texts]
    if column not in COLUMNS:
        with pytest.raises(OptionError):
            select(names, [column], [], [], 5)


@pytest.mark.parametrize(
    ("query", "reached"),
    [
        ("SELECT * FROM Events", {"events"}),
        ("SELECT * FROM `p.d.events`", {"events"}),
        ("SELECT * FROM `p.other.events`", {"p.other.events"}),
        ("SELECT * FROM other.events", {"other.events"}),
        ("SELECT * FROM d.INFORMATION_SCHEMA.TABLES", {"information_schema.tables"}),
        ("WITH a AS (SELECT * FROM t) SELECT * FROM a, (SELECT * FROM u)", {"t", "u"}),
        ("WITH events AS (SELECT 1) SELECT * FROM events", {"events"}),
        ("SELECT * FROM t WHERE x IN (SELECT y FROM u UNION ALL SELECT z FROM w)", {"t", "u", "w"}),
    ],
)
def test_what_a_statement_of_bigquery_reads(query, reached):
    assert reach_of(query, "p", "d", {"events", "t"}) == reached


def test_a_function_of_tables_is_no_table_that_may_be_read():
    for query in ("SELECT * FROM EXTERNAL_QUERY('c', 'SELECT 1')", "SELECT * FROM ML.PREDICT(MODEL d.m, TABLE t)"):
        with pytest.raises(QueryError):
            Bounds(frozenset({"t"})).check(reach_of(query, "p", "d", {"t"}))


def test_parameters_have_the_types_of_their_columns():
    names = Names("v", {"t": "TIMESTAMP", "m": "NUMERIC", "d": "DATE"}, '"', "Europe/Berlin")
    filters = [Filter("t", ">", "2026-03-01T10:00:00"), Filter("m", "=", "0.1"), Filter("d", "<", "2026-03-01")]
    made = select(names, ["d"], filters, [], 1)
    assert [each.type for each in made.parameters] == ["TIMESTAMP", "NUMERIC", "DATE"]
    assert msgspec.to_builtins([each.value for each in made.parameters]) == [
        "2026-03-01T10:00:00+01:00",
        "0.1",
        "2026-03-01",
    ]
    assert isinstance(made.parameters[0], Parameter)
