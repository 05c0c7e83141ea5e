"""What a question reaches: the live files of the tables that it names, for reading, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.warehouse.ask import run_query
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.dialect import check_read_only
from pipelines.warehouse.local.duckdb_connection import Connection
from pipelines.warehouse.local.question import read
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, Column, metric_table, polars_schema
from tests.servers.needed import LIMIT
from transforms.errors import OptionError

DAY = date(2026, 3, 1)
VISITS = metric_table("visits_1d", "Visits", ["channel"], [Column("n", "INT64", "REQUIRED", "visits")])
SECRET = "a-secret-of-the-machine"


def filled(table, **values) -> pl.DataFrame:
    """One row of a table, null but for `values`."""
    columns = (pl.lit(values.get(name), dtype).alias(name) for name, dtype in polars_schema(table).items())
    return pl.select(*columns)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    folder = tmp_path_factory.mktemp("reach")
    made = LocalWarehouse.open(folder / "w", create=True)
    with made.writer() as run:
        run.declare([VISITS])
        frames = {VISITS: filled(VISITS, n=7, channel="web"), EVENTS: filled(EVENTS, event_id="e1", source="s")}
        run.commit([write_file(run.staging, table.name, DAY, frame) for table, frame in frames.items()])
    (folder / "w/erasure.key").write_text(SECRET)
    return made


@pytest.fixture
def outside(tmp_path, monkeypatch) -> Path:
    """The folder that commands run in, with files that no question may read."""
    monkeypatch.chdir(tmp_path)
    for name in ("secret.txt", "secret.csv"):
        (tmp_path / name).write_text(f"{SECRET}\n")
    filled(VISITS, n=1).write_parquet(tmp_path / "other.parquet")
    monkeypatch.setenv("AUDIENCE_TEST_SECRET", SECRET)
    return tmp_path


def bytes_of(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


REFUSED = [
    # What the attack tried.
    "SELECT * FROM read_csv('/etc/passwd', delim=':', header=false) LIMIT 1",
    "SELECT content[:40] c FROM read_text('/etc/shadow')",
    "SELECT count(*) FROM glob('/root/**')",
    "COPY (SELECT 1) TO 'pwn.csv'",
    "COPY (SELECT 'x') TO 'pwn2.csv'; SELECT 1 a",
    "COPY (SELECT 'x' AS y) TO 'manifest.json' (FORMAT json)",
    "ATTACH 'x.duckdb' AS x; SELECT 1",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT getenv('AUDIENCE_TEST_SECRET') h",
    "EXPORT DATABASE 'exp'",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    # Its relatives: reading.
    "SELECT * FROM 'secret.txt'",
    "SELECT * FROM 'secret.csv'",
    "SELECT * FROM 'other.parquet'",
    "SELECT * FROM read_parquet('other.parquet')",
    "SELECT * FROM parquet_metadata('other.parquet')",
    "SELECT * FROM read_blob('secret.txt')",
    "SELECT * FROM read_text('file:secret.txt')",
    "SELECT * FROM read_json('secret.txt')",
    "SELECT * FROM read_text('{w}/lock')",
    "SELECT * FROM read_text('{w}/erasure.key')",
    "SELECT * FROM read_text('{w}/manifest.json')",
    "SELECT * FROM read_text('{w}/data/../erasure.key')",
    "SELECT * FROM read_parquet('{w}/data/*/*/*.parquet')",
    "SELECT * FROM '{events}'",  # a live file, of a table that is not named
    "SELECT * FROM visits_1d, read_parquet('{events}')",
    "SELECT * FROM query('SELECT * FROM ''secret.csv''')",
    "SELECT * FROM query_table('secret.csv')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM replaced",  # a variable of Python
    "SELECT * FROM sql",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM sqlite_scan('secret.txt', 't')",
    # Writing, also of the live files that may be read.
    "WITH a AS (COPY (SELECT 1) TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM visits_1d",
    "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{visits}' (USE_TMP_FILE false)) SELECT * FROM visits_1d",
    "EXPLAIN ANALYZE COPY visits_1d TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)",
    "-- EXPLAIN\nEXPLAIN ANALYZE COPY visits_1d TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)",
    "/* */ EXPLAIN (ANALYZE) COPY visits_1d TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY visits_1d TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (PIVOT visits_1d ON channel USING sum(n)) TO '{visits}' (FORMAT parquet, USE_TMP_FILE false)",
    "WITH a AS (COPY (SELECT 1) TO '{visits}' (USE_TMP_FILE false)), p AS (PIVOT visits_1d ON channel) FROM p",
    "SELECT * FROM query('WITH a AS (COPY (SELECT 1) TO ''{visits}'' (USE_TMP_FILE false)) FROM visits_1d')",
    "WITH a AS (INSERT INTO visits_1d (n) VALUES (1) RETURNING n) SELECT * FROM a",
    "COPY visits_1d FROM '{visits}'",
    "IMPORT DATABASE '.'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t (a INT)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "CREATE SECRET s (TYPE http)",
    "DROP VIEW visits_1d",
    "ALTER VIEW visits_1d RENAME TO gone",
    "INSERT INTO visits_1d (n) VALUES (1)",
    "UPDATE visits_1d SET n = 1",
    "DELETE FROM visits_1d",
    "TRUNCATE visits_1d",
    # Attaching, loading, settings, and statements that carry others.
    "ATTACH ':memory:' AS x",
    "DETACH memory",
    "USE memory",
    "SET threads = 1",
    "SET VARIABLE a = 1",
    "RESET lock_configuration",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "UPDATE EXTENSIONS",
    "FORCE INSTALL httpfs FROM community",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO 'pwn.csv'",
    "",
    "-- nothing",
    ";",
    "SELECT '\udcff'",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_question_of_the_warehouse_is_refused_and_changes_nothing(sql, warehouse, outside, capsys):
    replaced = pl.DataFrame({"word": [SECRET]})  # DuckDB would find it by its name
    assert replaced.height
    [visits], [events] = warehouse.files("visits_1d"), warehouse.files("events")
    for name, path in {"w": warehouse.folder, "visits": visits, "events": events}.items():
        sql = sql.replace(f"{{{name}}}", str(path))
    before = bytes_of(warehouse.folder, outside)
    assert main(["query", sql, "--json", "--warehouse", str(warehouse.folder)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: query: ") and "Traceback" not in told.err
    assert bytes_of(warehouse.folder, outside) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n FROM visits_1d",
        "select N from Visits_1D;",
        'FROM memory.main."visits_1d" SELECT n',
        "WITH visits AS (SELECT * FROM visits_1d) SELECT max(n) AS n FROM visits",
        "WITH events AS (SELECT 7 AS n) SELECT * FROM events",
        "SELECT (SELECT max(n) FROM visits_1d_current) AS n",
        "SELECT n FROM query_table('visits_1d')",
        "SELECT n FROM query('SELECT * FROM visits_1d')",
        "SELECT 7 AS n UNION ALL SELECT n + 100 FROM visits_1d WHERE n < 0",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 7) SELECT max(n) AS n FROM t",
        "SELECT web AS n FROM (PIVOT visits_1d ON channel IN ('web') USING sum(n) GROUP BY generation)",
        "SELECT 7 AS n -- ; COPY (SELECT 1) TO 'x'",
    ],
)
def test_a_question_of_the_warehouse_is_answered(sql, warehouse):
    rows = run_query(warehouse, sql).frame()
    assert rows.row(0)[-1] == 7 and len(rows) == 1


def test_what_lists_tables_lists_all_of_them(warehouse):
    def first(sql: str) -> set:
        return set(run_query(warehouse, sql).frame().get_column(run_query(warehouse, sql).columns[0]))

    there = warehouse.names()
    assert {"events", "visits_1d", "visits_1d_current", "quality_summary"} <= there
    assert first("SHOW TABLES") == there
    assert first("SELECT table_name FROM information_schema.tables") == there
    assert first("SELECT view_name FROM duckdb_views() WHERE NOT internal") == there
    for sql in ("DESCRIBE events_unique", "SHOW events_unique", "SELECT name FROM pragma_table_info('events_unique')"):
        assert {"event_id", "event_time"} <= first(sql), sql
    assert first("SUMMARIZE visits_1d") >= {"n", "channel"}
    assert "explain" in str(run_query(warehouse, "EXPLAIN ANALYZE SELECT n FROM visits_1d").frame().columns)
    listed = "SELECT (SELECT count(*) FROM information_schema.tables) AS many, n FROM visits_1d"
    assert run_query(warehouse, listed).frame().rows() == [(len(there), 7)]


@pytest.mark.parametrize(
    ("sql", "got"),
    [
        ("WITH a AS (COPY (SELECT 1) TO 'x' (USE_TMP_FILE false)) SELECT * FROM t", "COPY"),
        ("EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO 'x') SELECT * FROM t", "COPY"),
        ("WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", "INSERT"),
        ("WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "DELETE"),
    ],
)
def test_a_select_that_writes_is_refused_before_it_is_bound(sql, got):
    with pytest.raises(OptionError, match=f"query: got {got} within it; allowed: one SELECT"):
        read(Connection().duckdb, sql)


def test_only_the_files_of_what_is_named_are_opened(warehouse):
    def names(sql: str) -> frozenset | None:
        return read(Connection().duckdb, sql).names

    assert names("SELECT events FROM quality_summary WHERE source = 'sessions'") == {"quality_summary"}
    assert names("SELECT 'sessions' FROM a JOIN b USING (sessions) -- events") == {"a", "b"}
    assert names("SELECT * FROM query('FROM ' || 'events')") is None
    reached = "SELECT unnest(string_split(current_setting('allowed_paths')::VARCHAR, ', ')) FROM visits_1d"
    rows = run_query(warehouse, reached)
    assert [Path(path.strip("[]'\"")) for path in rows.frame().to_series()] == warehouse.files("visits_1d")


def test_the_connection_of_other_commands_is_closed_as_well(warehouse, outside):
    connection = warehouse.connect()
    assert connection.sql("SELECT n FROM visits_1d").fetchall() == [(7,)]
    for sql in ("FROM read_text('secret.txt')", "SET threads = 1", "COPY (SELECT 1) TO 'x.csv'", "ATTACH 'x.db'"):
        with pytest.raises(Exception, match=r"Permission Error|has been locked"):
            connection.execute(sql).fetchall()
    with pytest.raises(OptionError, match="Permission Error"):
        list(warehouse.ask("SELECT * FROM read_text('secret.txt')"))
    with pytest.raises(OptionError, match="got 2 statements; allowed: one"):
        list(warehouse.ask("SELECT 1; SELECT 2"))


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE events",
        "SELECT 1; DROP TABLE events",
        "DELETE FROM events WHERE TRUE",
        "INSERT INTO events (event_id) VALUES ('x')",
        "MERGE events USING x ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
        "CREATE TABLE t AS SELECT 1",
        "EXPORT DATA OPTIONS (uri = 'gs://b/*') AS SELECT * FROM events",
        "LOAD DATA INTO events FROM FILES (uris = ['gs://b/x'])",
        "CALL p()",
        "DECLARE x INT64",
        "BEGIN SELECT 1; END",
        "EXECUTE IMMEDIATE 'DROP TABLE events'",
        "GRANT `roles/bigquery.dataViewer` ON TABLE events TO 'allUsers'",
        "TRUNCATE TABLE events",
        "SET x = 1",
    ],
)
def test_a_question_of_bigquery_is_one_select(sql):
    with pytest.raises(OptionError, match=r"^query: .*; allowed with --dataset: one SELECT"):
        check_read_only(sql)


@pytest.mark.parametrize(
    "sql", ["SELECT 1;", "WITH a AS (SELECT 1 AS n) SELECT * FROM a", "(SELECT 1) UNION ALL SELECT 2"]
)
def test_a_select_of_bigquery_is_one(sql):
    check_read_only(sql)


def test_what_does_not_fit_is_spilled_to_a_folder_that_goes(warehouse):
    sql = "SELECT current_setting('temp_directory') AS at, current_setting('memory_limit') AS most"
    answer = run_query(warehouse, sql)
    [(folder, most)] = answer.frame().rows()
    assert folder and not Path(folder).exists() and most.endswith("GiB")
    connection = Connection()
    assert os.stat(connection.spill).st_mode & 0o777 == 0o700
    connection.close()
    assert not Path(connection.spill).exists()


def test_unsafe_allows_what_a_query_may_not(warehouse, outside, capsys):
    command = ["--json", "--unsafe", "--warehouse", str(warehouse.folder)]
    sql = "CREATE TABLE t AS SELECT n FROM visits_1d; COPY t TO 'out.csv'; FROM read_text('secret.txt')"
    assert main(["query", sql, *command]) == 0
    assert json.loads(capsys.readouterr().out)["content"] == f"{SECRET}\n"
    assert (outside / "out.csv").read_text() == "n\n7\n"
    assert main(["query", "SELECT 1", "--unsafe", "--dataset", "my-project.d"]) == 2
    assert "--unsafe: got it with --dataset" in capsys.readouterr().err


def test_an_endless_question_is_ended_by_an_interrupt(warehouse):
    sql = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"
    code = (
        "import signal, sys; from pipelines.cli import main; from pipelines.warehouse import render as query\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have set it to be ignored
        "asked = query.render\n"
        "def render(*rest):\n    print('asked', flush=True)\n    yield from asked(*rest)\n"
        "query.render = render\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "query", sql, "--warehouse", str(warehouse.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        try:
            assert asking.stdout.readline() == "asked\n"
            asking.send_signal(signal.SIGINT)
            _, err = asking.communicate(timeout=LIMIT)
        finally:
            asking.kill()
    assert (asking.returncode, err) == (130, "error: interrupted\n")
