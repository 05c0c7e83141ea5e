"""Recommendations: scores and similarities equal to SQL over the same rows, whatever their order and the parts."""

import duckdb
import numpy as np
import polars as pl
import pytest

from transforms.insight import recommend
from transforms.insight.recommended import recommended
from transforms.insight.settings import Recommendations

NOTHING = pl.Series("content_id", [], pl.String)
RECENT = {"content_id": pl.String, "persons_7d": pl.Int64, "persons_before": pl.Int64}


def drawn(persons: int = 60, contents: int = 25, seed: int = 2) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    rows = 12 * persons
    seen = pl.DataFrame(
        {
            "person": random.integers(0, persons, rows),
            "content_id": (contents * random.random(rows) ** 2).astype(int),
            "weight": random.choice([0.25, 0.5, 1.0, 2.0], rows),
        }
    ).unique(["person", "content_id"], keep="first", maintain_order=True)
    return seen.with_columns(
        pl.format("u{}", "person").alias("person"), pl.format("c{}", "content_id").alias("content_id")
    )


def rows(seen: pl.DataFrame, recent=(), hidden=NOTHING, **keys) -> tuple[pl.DataFrame, pl.DataFrame]:
    recent = pl.DataFrame(list(recent), RECENT, orient="row")
    if "place" not in seen.columns:
        seen = seen.with_columns(place=pl.col("weight").rank("ordinal", descending=True).over("person").cast(pl.Int64))
    return recommended(seen, recent, hidden, Recommendations(**keys))


def test_similarities_and_scores_are_those_of_sql():
    seen = drawn()
    told, similar = rows(seen, places=100, neighbours=100, least_persons=2)
    sql = duckdb.connect()
    sql.register("seen", seen)
    sql.execute(
        "CREATE TABLE votes AS SELECT *, 1 / count(*) OVER (PARTITION BY person) AS vote FROM seen;"
        "CREATE TABLE own AS SELECT content_id, sum(vote) AS own FROM votes GROUP BY 1;"
        "CREATE TABLE pairs AS SELECT a.content_id AS one, b.content_id AS other, sum(a.vote) AS together, "
        "count(*) AS persons FROM votes a JOIN votes b USING (person) WHERE a.content_id <> b.content_id GROUP BY 1, 2;"
        "CREATE TABLE alike AS SELECT one, other, together / sqrt(x.own * y.own) AS similarity, persons FROM pairs "
        "JOIN own x ON x.content_id = one JOIN own y ON y.content_id = other WHERE persons >= 2"
    )
    pairs = {(one, other): rest for one, other, *rest in sql.execute("SELECT * FROM alike").fetchall()}
    found = {(one, other): [value, n] for one, _, other, value, n in similar.rows()}
    assert found.keys() == pairs.keys() and len(pairs) > 300
    assert np.allclose(list(found.values()), [pairs[key] for key in found], atol=1e-6)
    oracle = sql.execute(
        "SELECT person, other, sum(weight * similarity), arg_max(one, weight * similarity) FROM seen "
        "JOIN alike ON one = content_id ANTI JOIN seen s ON s.person = seen.person AND s.content_id = other "
        "GROUP BY 1, 2"
    ).fetchall()
    scores = {(person, other): score for person, other, score, _ in oracle}
    own = told.filter(pl.col("reason") == "similar")
    assert own.height == len(scores) > 200
    assert [scores[key] for key in own.select("person", "content_id").rows()] == pytest.approx(
        own["score"].to_list(), abs=1e-6
    )
    assert (own.select(pl.col("score").diff().over("person")).to_series().drop_nulls() <= 0).all(), "the largest first"
    reasons = {(person, other): because for person, other, _, because in oracle}
    same = [
        reasons[person, other] == because
        for person, other, because in own.select("person", "content_id", "because").rows()
    ]
    assert np.mean(same) > 0.98, "equal ones may be either"


def test_neither_the_order_of_rows_nor_the_size_of_parts_matters(monkeypatch):
    seen = drawn()
    whole = rows(seen, places=5, neighbours=8, least_persons=1)
    for cells in (30, 500):
        monkeypatch.setattr(recommend, "CELLS", cells)
        parts = rows(seen.sample(fraction=1, shuffle=True, seed=cells), places=5, neighbours=8, least_persons=1)
        assert all(one.equals(other) for one, other in zip(whole, parts, strict=True))


def test_rows_by_hand():
    seen = [(f"u{n}", content, 1.0) for n in range(4) for content in ("a", "b")]
    seen += [("u0", "c", 1.0), *((f"v{n}", "d", 0.5) for n in range(6)), *((f"w{n}", "e", 1.0) for n in range(5))]
    seen += [("x", "a", 0.5)]
    seen = pl.DataFrame(seen, ["person", "content_id", "weight"], orient="row")
    recent = [("e", 9, 3), ("d", 2, 6)]  # sqrt(9 + 3/8) is more than 1 above sqrt(1 + 3/8)
    told, similar = rows(seen, recent, places=3)
    assert similar.rows() == [
        ("a", 1, "b", pytest.approx((3 / 2 + 1 / 3) / ((3 / 2 + 1 / 3) * (3 / 2 + 1 / 3 + 1)) ** 0.5, abs=1e-6), 4),
        ("b", 1, "a", pytest.approx((3 / 2 + 1 / 3) / ((3 / 2 + 1 / 3) * (3 / 2 + 1 / 3 + 1)) ** 0.5, abs=1e-6), 4),
    ]
    of = {person: part.drop("person").rows() for (person,), part in told.partition_by("person", as_dict=True).items()}
    score = pytest.approx(similar["similarity"][0] / 2, abs=1e-6)
    assert of["x"] == [(1, "b", "similar", "a", score), (2, "e", "rising", None, None), (3, "d", "popular", None, None)]
    assert of[None] == [
        (1, "a", "popular", None, None),
        (2, "e", "rising", None, None),
        (3, "b", "popular", None, None),
    ]
    assert [row[1] for row in of["u0"]] == ["e", "d"], "what it saw is left out"
    hidden = rows(seen, recent, pl.Series("content_id", ["b", "e"]), places=3)
    assert not {"b", "e"} & {*hidden[0]["content_id"], *hidden[1]["similar_content_id"]}
    again = rows(seen, recent, places=3, again=True)[0].filter(pl.col("person") == "u0")
    assert again["content_id"].to_list()[:2] == ["a", "b"]
    assert [part.height for part in rows(seen.clear(), recent)] == [0, 0]
    placed = seen.with_columns(place=pl.when(pl.col("content_id") == "a").then(1).otherwise(2))
    told, similar = rows(placed, recent, places=3, of_person=1)
    assert similar.is_empty(), "of each person one content counts"
    assert told.filter(pl.col("person") == "u0")["content_id"].to_list() == ["e", "d"], (
        "the others were seen all the same"
    )
    assert set(rows(seen, recent, contents=2)[0]["content_id"]) == {"a", "d"}, "those that most persons saw"
