"""A question in SQL: its answer in each form, and what a person reads who got the SQL wrong."""

import csv
import json
from decimal import Decimal

import polars as pl
import pytest

from pipelines.warehouse.ask import run_query
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.render import TABLE_ROWS, render
from transforms.errors import OptionError

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


@pytest.mark.parametrize(
    ("sql", "dialect", "text"),
    [
        ("SELECT * FROM nope", "duckdb", "Catalog Error: Table with name nope does not exist!;"),
        ("SELEC 1", "duckdb", 'Parser Error: syntax error at or near "SELEC";'),
        (
            "SELECT CAST(w AS INT) FROM (VALUES ('1'), ('b')) t(w)",
            "duckdb",
            "Could not convert string 'b' to INT32",
        ),
        ("SELECT FROM (", "bigquery", r"Expected table name but got \(line 1, column 13\);"),
    ],
)
def test_a_wrong_question_gets_one_line_and_the_names_there_are(lines, sql, dialect, text):
    with pytest.raises(OptionError, match=f"query: .*{text}") as refused:
        lines(sql, dialect=dialect)
    assert "\n" not in str(refused.value)
    tables, views = str(refused.value).split("; tables are ")[1].split("; views are ")
    assert tables == "erasures, events, quality_1m, quarantine, sessions"
    assert {"events_unique", "quality_1m_current", "visits"} <= set(views.split(", "))


def test_an_empty_question_is_refused(lines):
    with pytest.raises(OptionError, match="query: it is empty; ask for example"):
        lines("  ")
