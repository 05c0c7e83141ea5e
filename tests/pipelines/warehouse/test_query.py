"""A question in SQL: its answer in each form, and what a person reads who got the SQL wrong."""

import csv
import json
from decimal import Decimal

import polars as pl
import polars.selectors as cs
import pytest

from pipelines.cli import main
from pipelines.warehouse.ask import run_query
from pipelines.warehouse.local.duckdb_connection import connect
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.render import TABLE_ROWS, render
from pipelines.warehouse.tables import EVENTS, SESSIONS
from tests.pipelines.warehouse.test_metric_views import (
    CONTENTS,
    FUNNEL,
    METRICS,
    PURCHASES,
    USER_DAYS,
    VISITS,
    at,
    write,
)
from transforms.errors import OptionError, QueryError

MIXED = """
    SELECT * FROM (VALUES
        (1, 12.500000000::DECIMAL(38,9), 'a', 'abcd'::BLOB, TIMESTAMPTZ '2026-03-01 10:00:00Z', 0.1::DOUBLE,
            true),
        (10, NULL, 'x,y' || chr(10) || '"', NULL, NULL, NULL, NULL)
    ) AS rows(n, price, word, raw, "at", share, ok)
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return LocalWarehouse.open(tmp_path_factory.mktemp("query") / "w", create=True)


@pytest.fixture
def lines(warehouse):
    def ask(sql, how="table", width=None, dialect="duckdb"):
        return list(render(run_query(warehouse, sql, dialect), how, width))

    return ask


def test_a_table_is_aligned_with_numbers_to_the_right(lines):
    assert lines(MIXED) == [
        " n  price  word    raw        at                    share  ok",
        "--  -----  ------  ---------  --------------------  -----  ----",
        " 1   12.5  a       <4 bytes>  2026-03-01T10:00:00Z    0.1  true",
        '10         x,y\\n"',
    ]


def test_csv_reads_back(lines):
    rows = list(csv.reader("\n".join(lines(MIXED, "csv")).splitlines(keepends=True)))
    assert rows == [
        ["n", "price", "word", "raw", "at", "share", "ok"],
        ["1", "12.5", "a", "YWJjZA==", "2026-03-01T10:00:00Z", "0.1", "true"],
        ["10", "", 'x,y\n"', "", "", "", ""],
    ]


def test_json_has_an_object_a_row(lines):
    first, second = [json.loads(line, parse_float=Decimal) for line in lines(MIXED, "json")]
    assert first == {
        "n": 1,
        "price": Decimal("12.5"),
        "word": "a",
        "raw": "YWJjZA==",
        "at": "2026-03-01T10:00:00Z",
        "share": Decimal("0.1"),
        "ok": True,
    }
    assert second["word"] == 'x,y\n"' and second["price"] is None


@pytest.mark.parametrize("how", ["table", "csv", "json"])
def test_decimals_and_sums_beyond_64_bits_are_exact(lines, how):
    price, total = "12345678901234567890123456789.123456789", "36893488147419103230"
    sql = f"SELECT {price}::DECIMAL(38,9) AS price, sum({2**64 - 1}) AS total FROM range(2)"
    assert price in lines(sql, how)[-1]
    assert total in lines(sql, how)[-1]


def test_what_polars_cannot_hold_is_text(lines, warehouse):
    sql = "SELECT INTERVAL 90 MINUTE AS gap, TIME '10:00' AS t, NULL AS none, [1, 2] AS l, MAP {'a': 1} AS m"
    assert lines(sql, "csv") == ["gap,t,none,l,m", '01:30:00,10:00:00,,"[1,2]",{a=1}']
    assert (
        run_query(warehouse, "SELECT 1 AS a, 2 AS A")
        .frame()
        .equals(pl.DataFrame({"a": [1], "A_1": [2]}).cast(pl.Int32))
    )


def test_a_table_fits_the_terminal_by_cutting_text_never_numbers(lines):
    sql = "SELECT 1234567890 AS number, repeat('ab', 50) AS long, repeat('c', 20) AS shorter"
    table = lines(sql, width=40)
    assert max(map(len, table)) <= 40
    assert table[2].startswith("1234567890  ababab") and "…" in table[2]
    table = lines(sql, width=21)
    assert max(map(len, table[:-1])) <= 21
    assert table[-1] == "(no room for shorter; name fewer columns, or use --csv or --json)"


def test_wide_characters_take_two_columns(lines):
    assert lines("SELECT '日本' AS word, 1 AS n")[2] == "日本  1"


def test_a_table_stops_and_says_so_where_csv_gives_all(lines):
    sql = f"SELECT * FROM range({TABLE_ROWS + 1}) AS numbers(n)"
    table = lines(sql)
    assert len(table) == TABLE_ROWS + 3
    assert table[-1] == "(the first 1,000 rows; --csv and --json give all)"
    assert len(lines(sql, "csv")) == TABLE_ROWS + 2


def test_no_rows_still_have_a_header(lines):
    assert lines("SELECT event_id, value FROM events") == ["event_id  value", "--------  -----", "(no rows)"]
    assert lines("SELECT event_id, value FROM events", "csv") == ["event_id,value"]
    assert lines("SELECT event_id, value FROM events", "json") == []


def test_a_bigquery_question_is_translated(lines):
    sql = "SELECT SAFE_DIVIDE(1, 0) AS rate, DATE(TIMESTAMP '2026-03-01 23:30:00+00', 'Europe/Berlin') AS day"
    assert lines(sql, "csv", dialect="bigquery") == ["rate,day", ",2026-03-02"]


@pytest.fixture(scope="module")
def berlin(tmp_path_factory):
    """A warehouse in Berlin with events at midnight there, on both days of the change to summer time."""
    made = LocalWarehouse.open(tmp_path_factory.mktemp("berlin") / "w", time_zone="Europe/Berlin", create=True)
    times = [at(1, 0, 30), at(1, 23, 30), at(28, 23, 30), at(29, 0, 30), at(29, 3, 30), at(30, 0, 15)]
    write(made, (EVENTS, [{"event_id": f"e{n}", "event_time": time} for n, time in enumerate(times)]))
    return made


DAYS = ["2026-03-01,2", "2026-03-28,1", "2026-03-29,2", "2026-03-30,1"]
BY_DAY = {
    "duckdb": [
        "event_time::DATE",
        "CAST(date_trunc('day', event_time) AS DATE)",
        "strftime(event_time, '%Y-%m-%d')::DATE",
        "make_date(year(event_time), month(event_time), day(event_time))",
    ],
    "bigquery": [
        "DATE(event_time)",
        "DATE(event_time, 'Europe/Berlin')",
        "DATE(TIMESTAMP_TRUNC(event_time, DAY))",
        "CAST(FORMAT_TIMESTAMP('%Y-%m-%d', event_time) AS DATE)",
        "CAST(FORMAT_TIMESTAMP('%Y-%m-%d', event_time, 'Europe/Berlin') AS DATE)",
        "DATE(TIMESTAMP_MICROS(UNIX_MICROS(event_time)))",
        "DATE(TIMESTAMP_MILLIS(UNIX_MILLIS(event_time)))",
        "EXTRACT(DATE FROM event_time)",
    ],
}


@pytest.mark.parametrize(("dialect", "day"), [(dialect, day) for dialect, days in BY_DAY.items() for day in days])
def test_a_query_cuts_days_in_the_time_zone_of_the_warehouse(berlin, dialect, day):
    sql = f"SELECT {day} AS cut, count(*) AS n FROM events GROUP BY cut ORDER BY cut"
    assert list(render(run_query(berlin, sql, dialect), "csv"))[1:] == DAYS


def test_times_are_printed_in_the_time_zone_of_the_warehouse_and_it_is_named(berlin):
    sql = "SELECT event_time FROM events WHERE event_id IN ('e0', 'e5') ORDER BY 1"
    first, last = "2026-03-01T00:30:00+01:00", "2026-03-30T00:15:00+02:00"
    assert list(render(run_query(berlin, sql)))[2:] == [first, last, "(days and times in Europe/Berlin)"]
    assert list(render(run_query(berlin, sql), "csv"))[1:] == [first, last]
    assert next(iter(render(run_query(berlin, sql, "bigquery"), "json"))) == f'{{"event_time":"{first}"}}'
    assert "(days" not in "".join(render(run_query(berlin, "SELECT count(*) AS n FROM events")))


def test_a_text_without_an_offset_is_a_time_in_the_time_zone_of_the_warehouse(berlin):
    sql = "SELECT count(*) FROM events WHERE event_time >= TIMESTAMP '2026-03-29 00:00:00'"
    assert run_query(berlin, sql.replace("TIMESTAMP", "TIMESTAMPTZ")).frame().item() == 3
    assert run_query(berlin, sql, "bigquery").frame().item() == 3
    parsed = "SELECT UNIX_SECONDS(PARSE_TIMESTAMP('%Y-%m-%d %H', '2026-03-30 00'{zone}))"
    assert run_query(berlin, parsed.format(zone=""), "bigquery").frame().item() == 1774821600
    assert run_query(berlin, parsed.format(zone=", 'UTC'"), "bigquery").frame().item() == 1774828800


@pytest.mark.parametrize(
    ("sql", "right"),
    [  # the change to summer time is at 01:00 UTC on the 29th; BigQuery's days of a TIMESTAMP have 24 hours
        ("TIMESTAMP_DIFF(TIMESTAMP '2026-03-29 12:00:00+00', TIMESTAMP '2026-03-28 12:00:00+00', DAY)", 1),
        ("TIMESTAMP_DIFF(TIMESTAMP '2026-03-02 00:00:01+00', TIMESTAMP '2026-03-01 23:59:59+00', DAY)", 0),
        ("TIMESTAMP_DIFF(TIMESTAMP '2026-03-01 01:00:00+00', TIMESTAMP '2026-03-01 02:30:00+00', HOUR)", -1),
        ("UNIX_SECONDS(TIMESTAMP_ADD(TIMESTAMP '2026-03-28 12:00:00+00', INTERVAL 1 DAY))", 1774785600),
        ("UNIX_SECONDS(TIMESTAMP_SUB(TIMESTAMP '2026-03-29 12:00:00+00', INTERVAL 1 + 1 DAY))", 1774612800),
        ("EXTRACT(DAYOFWEEK FROM DATE '2026-03-01')", 1),
        ("COUNTIF(TIMESTAMP_DIFF(TIMESTAMP '2026-03-02 00:00:01+00', TIMESTAMP '2026-03-01', DAY) > 0)", 1),
    ],
)
def test_units_of_time_mean_what_bigquery_means(berlin, sql, right):
    assert run_query(berlin, f"SELECT {sql}", "bigquery").frame().item() == right


def test_views_count_the_same_whatever_the_time_zone_of_the_session(tmp_path):
    stored = LocalWarehouse.open(tmp_path / "w", time_zone="Europe/Berlin", create=True)
    tables = (METRICS["user_days"], USER_DAYS), (METRICS["content_1h"], CONTENTS), (SESSIONS, VISITS)
    write(stored, *tables, (EVENTS, [*FUNNEL, *PURCHASES]))
    for name in sorted(stored.names() - stored.tables().keys() - {"live_now"}):
        rows = [
            connect(stored, time_zone=zone).sql(f"SELECT * FROM {name}").pl() for zone in ("UTC", "America/Anchorage")
        ]
        utc, other = (each.with_columns(cs.datetime().dt.convert_time_zone("UTC")) for each in rows)
        listed = [column for column, dtype in utc.schema.items() if isinstance(dtype, pl.List)]
        utc, other = (each.drop(listed) for each in (utc, other))
        assert utc.sort(pl.all()).equals(other.sort(pl.all())), name


EVENTS_FIRST = "tables: events, erasures, quality_1m, quarantine, sessions"
OF_SESSIONS = "columns of sessions_current: session_start, session_"
REFUSED = [
    (
        "duckdb",
        "SELECT 1,\n  2 FROM evnts",
        'Catalog Error: Table with name evnts does not exist!\nDid you mean "events"?\n\n'
        "LINE 2:   2 FROM evnts\n                 ^^^^^\n" + EVENTS_FIRST,
    ),
    (  # what DuckDB would propose is a table of its own
        "duckdb",
        "SELECT * FROM nope",
        "Catalog Error: Table with name nope does not exist!\n\n"
        "LINE 1: SELECT * FROM nope\n                      ^^^^\ntables: erasures, events, ",
    ),
    (
        "duckdb",
        "SELECT sesion_start FROM sessions_current",
        'Binder Error: Referenced column "sesion_start" not found in FROM clause!\nCandidate bindings: "session_start"',
    ),
    ("duckdb", "SELECT s.sesion_start FROM sessions_current s", OF_SESSIONS),
    ("duckdb", "SELEC 1", 'Parser Error: syntax error at or near "SELEC"\n\nLINE 1: SELEC 1\n        ^^^^^'),
    (
        "duckdb",
        "SELECT CAST(w AS INT)\nFROM (VALUES ('1'), ('b')) t(w)",
        "Conversion Error: Could not convert string 'b' to INT32 when casting from source column w\n\n"
        "LINE 1: SELECT CAST(w AS INT)\n               ^^^^^^^^^^^^^^",
    ),
    (
        "duckdb",
        'SELECT 1 FROM events WHERE event_type = "click"',
        "\n\"click\" is a column; the text is 'click'\ncolumns of events: ",
    ),
    (
        "bigquery",
        "SELECT FROM (",
        "Expected table name but got the end\n\nLINE 1: SELECT FROM (\n                    ^",
    ),
    (
        "bigquery",
        "SELECT COUNTIF(TRUE),\n  sesion_start FROM sessions_current",
        "\n\nLINE 2:   sesion_start FROM sessions_current\n          ^^^^^^^^^^^^\n" + OF_SESSIONS,
    ),
    (
        "bigquery",
        "SELECT SAFE_DIVIDE(1, 0), nofun(1)",
        "\n\nLINE 1: SELECT SAFE_DIVIDE(1, 0), nofun(1)\n                                  ^^^^^",
    ),
]


@pytest.mark.parametrize(("dialect", "sql", "text"), REFUSED, ids=[sql for _, sql, _ in REFUSED])
def test_a_wrong_query_gets_the_words_of_the_database_with_its_line_and_caret(lines, dialect, sql, text):
    with pytest.raises(QueryError) as refused:
        lines(sql, dialect=dialect)
    said = str(refused.value)
    assert text in said
    assert ("\ntables: " in said and "\nviews: " in said) == ("does not exist!" in said and "Table with" in said)
    assert ("\ncolumns of " in said) == ("column" in said and "casting" not in said)


def test_a_value_in_what_the_database_says_begins_no_line(lines):
    with pytest.raises(QueryError) as refused:
        lines("SELECT CAST(w AS INT) FROM (VALUES ('b' || chr(10) || 'error: fake')) t(w)")
    assert "string 'b error: fake' to INT32" in str(refused.value)


def test_the_command_line_prints_the_caret_under_its_place(warehouse, capsys):
    assert main(["query", "SELECT nothing FROM events", "--warehouse", str(warehouse.folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    at = next(n for n, line in enumerate(said) if line.startswith("LINE 1: "))
    assert said[at].index("nothing") == said[at + 1].index("^")
    assert said[0] == 'error: query: Binder Error: Referenced column "nothing" not found in FROM clause!'


def test_an_empty_question_is_refused(lines):
    with pytest.raises(OptionError, match="query: it is empty; ask for example"):
        lines("  ")
