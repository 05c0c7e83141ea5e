"""Recommendations of a warehouse: by what persons saw before the time, without what may not be recommended."""

import duckdb
import polars as pl
import pytest

from pipelines.insight.recommendations import PASS, compute, saw
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.insight.test_profiles import DAY, HOUR, T, event, filled
from transforms.insight.settings import Insight, Recommendations


def events() -> list[dict]:
    found = []
    for n, person in enumerate(("u1", "u2", "u3")):
        found += [
            event(10 * n, 9 * DAY, user_id=person, content_id="a"),
            event(10 * n + 1, 7 * DAY, user_id=person, content_id="b"),
        ]
    found += [
        event(40, 30 * DAY, anonymous_id="v", content_id="a"),
        event(41, 3 * DAY, "signup", anonymous_id="v", user_id="u4"),
    ]
    found += [event(42, 2 * DAY, "impression", user_id="u4", content_id="b")]
    found += [event(50 + n, 2 * DAY, user_id=f"w{n}", content_id="new", category="secret") for n in range(8)]
    found += [event(60, -HOUR, user_id="u4", content_id="b")]  # after the time
    return found


def inputs_of(warehouse: LocalWarehouse, ask, as_of=T, **keys) -> Inputs:
    configuration = read_config(None)._replace(insight=Insight(recommendations=Recommendations(**keys)))
    return Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), configuration)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    return filled(tmp_path_factory.mktemp("recommendations") / "w", events())


def computed(warehouse: LocalWarehouse, **keys) -> dict[str, pl.DataFrame]:
    with warehouse.asking() as ask:
        found = compute(inputs_of(warehouse, ask, **keys))
    tables = {table.name: table for table in PASS.tables}
    for name, rows in found.items():
        columns = [each.name for each in tables[name].columns if each.name not in ("as_of", "pipeline_version")]
        assert set(rows.columns) == set(columns), name
        assert not rows.select(tables[name].key[1:]).is_duplicated().any(), name
    return found


def test_rows_by_hand(warehouse):
    found = computed(warehouse)
    own = found["recommendations"].filter(pl.col("person") == "u4").sort("place")
    assert own.select("content_id", "reason", "because").rows() == [("b", "similar", "a"), ("new", "rising", None)]
    one = 0.5  # of 30 days and a half-life of 30
    similarity = found["similar_contents"]["similarity"][0]
    assert own["score"][0] == pytest.approx(one * similarity, abs=1e-6)
    assert set(found["recommendations"]["person"]) == {None, "u1", "u2", "u3", "u4", *(f"w{n}" for n in range(8))}
    later = computed(warehouse, as_of=T + 2 * HOUR)["recommendations"].filter(pl.col("person") == "u4")
    assert later["content_id"].to_list() == ["new"], "it saw the other one after the time"


def test_what_is_hidden_is_not_recommended(warehouse):
    for keys in ({"hidden_contents": ("new",)}, {"hidden_categories": ("secret",)}):
        assert "new" not in computed(warehouse, **keys)["recommendations"]["content_id"]


def test_what_persons_saw_is_that_of_sql_the_largest_weights_first(warehouse):
    with warehouse.asking() as ask:
        whole = saw(inputs_of(warehouse, ask)).sort("person", "content_id")
    raw = pl.DataFrame([row for row in events() if "content_id" in row and row["event_type"] != "impression"])
    sql = duckdb.connect()
    sql.register("raw", raw)
    oracle = sql.execute(
        "SELECT CASE anonymous_id WHEN 'v' THEN 'u4' ELSE user_id END AS person, content_id, sum(round(1e6 * 0.5 ** "
        f"(floor(4 * epoch(TIMESTAMPTZ '{T}' - event_time::TIMESTAMPTZ) / (30 * 86400)) / 4))) / 1e6 AS weight "
        f"FROM raw WHERE event_time::TIMESTAMPTZ < TIMESTAMPTZ '{T}' GROUP BY ALL ORDER BY 1, 2"
    ).fetchall()
    assert [row[:2] for row in whole.rows()] == [row[:2] for row in oracle]
    assert whole["weight"].to_list() == pytest.approx([row[2] for row in oracle])
    assert whole.filter(pl.col("person") == "u1").select("content_id", "place").rows() == [("a", 2), ("b", 1)]
