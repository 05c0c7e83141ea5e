"""Scores, their numbers and their intervals, computed by hand and by another form of the same formulas."""

import math
import statistics

import polars as pl
import pytest

from transforms.insight.satisfaction import SATISFACTION_SCHEMA, on_scale, satisfaction


def scored(kind: str, ratings: list[float | None]) -> dict:
    events = pl.DataFrame(
        {"event_type": [kind] * len(ratings), "rating": ratings}, schema_overrides={"rating": pl.Float64}
    )
    rows = satisfaction(on_scale(events), []).to_dicts()
    return rows[0] if rows else {}


def test_csat_is_the_share_of_fours_and_fives_with_wilsons_interval():
    found = scored("feedback", [5, 5, 4, 4, 4, 4, 4, 4, 3, 1])
    assert (found["score"], found["n"], found["value"], found["is_few"]) == ("csat", 10, 0.8, True)
    assert (found["low"], found["high"]) == pytest.approx(
        (0.4901625, 0.9433178), abs=1e-6
    )  # the published example of 8 of 10
    everyone = scored("csat", [5.0] * 40)
    assert (everyone["value"], everyone["high"], everyone["is_few"]) == (1.0, 1.0, False)
    assert everyone["low"] == pytest.approx(40 / (40 + 1.959963984540054**2))


def test_nps_is_promoters_less_detractors():
    found = scored("nps", [10, 9, 9, 8, 7, 6, 0, 10])
    assert (found["score"], found["n"], found["value"]) == ("nps", 8, 25.0)
    points = [100, 100, 100, 0, 0, -100, -100, 100]
    error = 1.959963984540054 * statistics.stdev(points) / math.sqrt(8)
    assert (found["low"], found["high"]) == pytest.approx((25 - error, min(25 + error, 100)))


def test_ces_is_the_mean_and_its_interval_stays_on_the_scale():
    found = scored("ces", [7, 7, 7, 6])
    assert (found["score"], found["n"], found["value"], found["high"]) == ("ces", 4, 6.75, 7.0)
    assert found["low"] == pytest.approx(6.75 - 1.959963984540054 * 0.25)


def test_one_rating_has_no_interval_of_a_mean():
    assert (scored("ces", [4])["low"], scored("ces", [4])["high"], scored("ces", [4])["is_few"]) == (None, None, True)


def test_ratings_off_the_scale_of_their_event_type_do_not_count():
    assert scored("feedback", [0, 6, None, -1, 4])["n"] == 1
    assert scored("nps", [11, -1]) == {}
    assert scored("page_view", [5]) == {}


def test_29_ratings_are_few_and_30_are_not():
    assert [scored("feedback", [4.0] * n)["is_few"] for n in (29, 30)] == [True, False]


def test_each_group_has_scores_of_its_own():
    events = pl.DataFrame(
        {"event_type": ["feedback", "feedback", "nps"], "rating": [5.0, 1.0, 9.0], "channel": ["web", None, "web"]}
    )
    found = satisfaction(on_scale(events), ["channel"])
    assert found.select("channel", "score", "value").rows() == [
        (None, "csat", 0.0),
        ("web", "csat", 1.0),
        ("web", "nps", 100.0),
    ]
    assert dict(list(found.schema.items())[1:]) == SATISFACTION_SCHEMA
