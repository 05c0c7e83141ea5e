"""The tables of a real run, on real and simulated data, against SQL over the raw files that shares no code with it."""

import glob
import importlib.util
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.apps.simulator.simulate import simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.config import TEMPLATES
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.real_sets import read_set
from tests.support.real_data import real_set

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[1] / "oracle" / "oracle.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

SAMPLES = TEMPLATES / "samples"
HLL_ERROR = 3 * 1.04 / 64  # three standard errors of a sketch with 4,096 registers
# kind -> (the set and its mapping, its files)
SETS = {
    "native": ("", "*.jsonl"),
    "github": ("github-events", "*.gz"),
    "wikipedia": ("wikipedia-edits", "*.gz"),
    "ads": ("ad-impressions", "*.csv.gz"),
    "otto": ("otto-sessions", "*.jsonl"),
    "retail": ("retail-orders", "*.parquet"),
}
# An id has copies that differ and were received together: which is kept is up to a hash that only the product has.
TIED = ("native", "retail")
# What the data's own description says of it.
FIGURES = {
    "github": {
        "types": {
            "publish": 82_830,
            "comment": 16_398,
            "submit": 11_802,
            "like": 9_327,
            "share": 4_149,
            "delete": 2_274,
            "follow": 617,
        },
        "users": 45_170,
        "contents": 48_772,
    },
    "wikipedia": {"types": {"edit": 36_966, "publish": 2_278}, "users": 10_531},
    "ads": {"types": {"impression": 10_000, "click": 69}, "received": 10_000, "exploded": 69},
    "otto": {
        "types": {"click": 800, "add_to_cart": 52, "purchase": 10},
        "users": 20,
        "received": 20,
        "exploded": 842,
    },
    # 235,657 purchases and 4,350 refunds less the repeats of an id; of 67,225 lines without a customer 66,916 are left.
    "retail": {
        "types": {"purchase": 231_897, "refund": 4_262},
        "received": 240_007,
        "duplicates": 3_848,
        "without_user": 66_916,
    },
}
METRICS = {
    "activity_1m": ["bucket_start", "channel", "event_type"],
    "content_1h": ["bucket_start", "content_id", "category"],
    "campaign_1h": ["bucket_start", "campaign", "channel", "currency"],
    "user_days": ["bucket_start", "person"],
}
DISTINCT = ("users", "purchasers")


@pytest.fixture(scope="module", params=SETS)
def both(request, tmp_path_factory):
    """(kind, a connection to the warehouse, a connection to the oracle, ids whose kept copy a hash decides)."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    name, pattern = SETS[kind]
    if kind == "native":
        simulate(events=30_000, seed=11, output=folder / "events.jsonl", days=3, start=date(2026, 3, 1))
        warehouse, files = folder / "warehouse", str(folder / pattern)
        backfill(resolve({"input": [files], "warehouse": str(warehouse)}))
    else:
        files = str((SAMPLES / name if kind == "ads" else real_set(name)) / pattern)
        warehouse = read_set(tmp_path_factory, kind, files, name)
    oracle = _module.oracle(sorted(glob.glob(files)), kind)
    oracle.execute("SET TimeZone = 'UTC'")
    return kind, LocalWarehouse.open(warehouse).connect(), oracle


def ordered(connection, sql: str) -> pl.DataFrame:
    frame = connection.sql(sql).pl()
    return frame.with_columns(pl.col(pl.Datetime).dt.replace_time_zone(None)).sort(pl.all())


@pytest.mark.parametrize("both", FIGURES, indirect=True)
def test_the_figures_that_are_known_of_the_data(both):
    kind, product, _ = both
    known = FIGURES[kind]
    types = product.execute("SELECT event_type, count(*) FROM events GROUP BY 1").fetchall()
    assert dict(types) == known["types"]
    for name, column in (("users", "user_id"), ("contents", "content_id")):
        if name in known:
            (found,) = product.execute(f"SELECT count(DISTINCT {column}) FROM events").fetchall()[0]
            assert found == known[name]
    if "without_user" in known:
        (found,) = product.execute("SELECT count(*) FROM events WHERE user_id IS NULL").fetchall()[0]
        assert found == known["without_user"]
    counts = ("received", "exploded", "events", "duplicates", "quarantined", "balance")
    totals = f"SELECT {', '.join(f'sum({name})' for name in counts)} FROM quality_1m_current"
    events = sum(known["types"].values())
    usual = {"received": events, "exploded": 0, "events": events, "duplicates": 0, "quarantined": 0, "balance": 0}
    expected = usual | {name: known[name] for name in counts if name in known}
    assert dict(zip(counts, product.execute(totals).fetchall()[0], strict=True)) == expected


@pytest.mark.parametrize("both", ["github"], indirect=True)
def test_events_that_a_natural_key_would_take_for_repeats_stay(both):
    _, product, _ = both
    twins = "SELECT count(*) - count(DISTINCT (user_id, event_type, content_id, event_time)) FROM events"
    assert product.execute(twins).fetchall()[0] == (7_247,)


def test_events_are_those_of_the_oracle(both):
    kind, product, oracle = both
    columns = "event_type, event_time, time_source, received_time, source, content_id, category, channel, campaign"
    columns += ", value, currency, country, quantity, is_bot" + ("" if kind == "ads" else ", user_id, anonymous_id")
    stated = kind in ("native", "github", "retail")
    told = "CASE id_source WHEN 'client' THEN event_id END" if stated else "NULL"
    other = "WHERE event_id IS NULL OR event_id NOT IN (SELECT event_id FROM o_conflicted)" if kind in TIED else ""
    oracle_rows = ordered(oracle, f"SELECT {told} AS id, {columns} FROM o_events {other}")
    conflicted = [id for (id,) in oracle.execute("SELECT event_id FROM o_conflicted").fetchall()]
    product.execute("CREATE OR REPLACE TEMP TABLE conflicted (event_id VARCHAR)")
    if conflicted:
        product.execute("INSERT INTO conflicted SELECT unnest(?)", [conflicted])
    without = "WHERE event_id NOT IN (SELECT event_id FROM conflicted)" if kind in TIED else ""
    assert ordered(product, f"SELECT {told} AS id, {columns} FROM events {without}").equals(oracle_rows)
    assert oracle_rows.height > 800
    counts = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
        for connection, table in ((product, "events"), (oracle, "o_events"))
    ]
    assert counts[0] == counts[1]


def test_quarantine_is_that_of_the_oracle(both):
    _, product, oracle = both
    found = ordered(product, "SELECT stage, code, count(*) AS n FROM quarantine GROUP BY ALL")
    assert found.equals(ordered(oracle, "SELECT stage, code, count(*) AS n FROM o_quarantine GROUP BY ALL"))


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_that_of_the_oracle_exactly_but_for_sketches(both, metric):
    kind, product, oracle = both
    keys = (
        METRICS[metric] if kind != "ads" else [key for key in METRICS[metric] if key != "person"]
    )  # a hash of its own
    measures = [row[0] for row in oracle.execute(f"DESCRIBE o_{metric}").fetchall() if row[0] not in METRICS[metric]]
    exact = [name for name in measures if name not in DISTINCT]
    listed = ", ".join([*keys, *exact])
    # A sum over nothing: the product says 0, SQL NULL.
    listed = listed.replace("revenue", "COALESCE(revenue, 0) AS revenue")
    assert ordered(product, f"SELECT {listed} FROM {metric}_current").equals(
        ordered(oracle, f"SELECT {listed} FROM o_{metric}")
    )
    for name in set(measures) & set(DISTINCT):
        columns = ", ".join([*keys, f"CAST({name} AS BIGINT) AS {name}"])
        mine, truth = (
            ordered(c, f"SELECT {columns} FROM {t}")
            for c, t in ((product, f"{metric}_current"), (oracle, f"o_{metric}"))
        )
        joined = mine.join(truth, on=keys, nulls_equal=True, suffix="_true")
        assert joined.height == truth.height
        wrong = (joined[name] - joined[f"{name}_true"]).abs() / joined[f"{name}_true"].clip(1)
        assert wrong.max() is None or wrong.max() <= HLL_ERROR
        small = joined.filter(pl.col(f"{name}_true") <= 256)
        assert small[name].equals(small[f"{name}_true"], check_names=False)


def test_sessions_are_those_of_the_oracle_and_hold_every_event_of_a_person_once(both):
    kind, product, oracle = both
    columns = [name for name, *_ in oracle.execute("DESCRIBE o_sessions").fetchall()]
    if kind == "ads":  # a hash of its own is who it is
        columns = [name for name in columns if name not in ("anonymous_id", "user_id")]
    sessions = ordered(product, f"SELECT {', '.join(columns)} FROM sessions_current")
    assert sessions.equals(ordered(oracle, f"SELECT {', '.join(columns)} FROM o_sessions"))
    (events,) = oracle.execute("SELECT count(*) FROM o_events WHERE person IS NOT NULL").fetchall()[0]
    assert sessions["events"].sum() == events > 0
    money = "session_start, currency, value"
    paid = f"SELECT {money} FROM (SELECT session_start, unnest(revenue, recursive := true) FROM sessions_current)"
    tied = """
        SELECT DISTINCT session_start FROM o_visits
        JOIN o_sessions ON event_time BETWEEN session_start AND session_end
        WHERE event_id IN (SELECT event_id FROM o_conflicted WHERE tied)
    """
    hashed = ordered(oracle, tied) if kind in TIED else pl.DataFrame(schema={"session_start": pl.Datetime("us")})
    mine, truth = (
        ordered(c, sql).join(hashed, on="session_start", how="anti")
        for c, sql in ((product, paid), (oracle, f"SELECT {money} FROM o_session_revenue"))
    )
    assert mine.sort(pl.all()).equals(truth.sort(pl.all()))
    assert len(mine) > 500 or kind not in TIED
    assert product.execute("SELECT count(*) - count(DISTINCT visit_id) FROM sessions_current").fetchall() == [(0,)]


def test_the_books_are_those_of_the_oracle_minute_by_minute(both):
    kind, product, oracle = both
    columns = "source, bucket_start, received, exploded, events, duplicates, quarantined, out_of_range"
    columns += ", conflicts" if kind != "retail" else ""  # of three tied copies it depends on the one that is kept
    columns = ", ".join(
        f"CAST({c} AS BIGINT) AS {c}" if c not in ("source", "bucket_start") else c for c in columns.split(", ")
    )
    found = ordered(product, f"SELECT {columns} FROM quality_1m_current WHERE received + exploded <> 0")
    assert found.equals(ordered(oracle, f"SELECT {columns} FROM o_quality"))
