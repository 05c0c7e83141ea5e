"""Measures: the rows that a block, a merge and a firing make of events."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.block import EVENT_SCHEMA, NUMERIC, TIME, BlockCoder, empty
from transforms.metrics.measures import finish, merge, partial, partial_schema
from transforms.metrics.spec import columns, read_metrics

CATALOGUE = Path(__file__).parents[3] / "templates" / "default.yaml"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WIDE = Context(prec=1200)


def events(*rows: dict) -> pl.DataFrame:
    """A block; what a row does not state is null, but for a page view at noon."""
    usual = {"event_type": "page_view", "event_time": NOON, "source": "events"}
    stated = {name: [(usual | row).get(name) for row in rows] for name in EVENT_SCHEMA}
    return pl.DataFrame(stated, schema=EVENT_SCHEMA, strict=False)


def at(**offset: float) -> datetime:
    return NOON + timedelta(**offset)


def metric(measures: dict, **form):
    (spec,) = read_metrics({"m": {"bucket": "1h", "measures": measures} | form}, "config.yaml")
    return spec


def rows_of(block: pl.DataFrame, spec, time_zone: str = "UTC") -> list[dict]:
    return finish(merge([partial(block, spec, time_zone)], spec), spec, time_zone).to_dicts()


def catalogue() -> dict:
    return {spec.name: spec for spec in read_metrics(yaml.safe_load(CATALOGUE.read_text())["metrics"], "default.yaml")}


def test_the_shipped_catalogue_counts_a_visit_that_ends_in_a_purchase():
    visit = {"channel": "web", "content_id": "c1", "category": "news", "campaign": "spring", "user_id": "u1"}
    block = events(
        visit,
        visit | {"event_type": "click", "event_time": at(minutes=1)},
        visit | {"event_type": "purchase", "event_time": at(minutes=70), "value": "19.99", "currency": "EUR"},
        visit | {"event_type": "click", "user_id": None, "anonymous_id": "a1"},
    )
    specs = catalogue()
    minutes = rows_of(block, specs["activity_1m"])
    assert [(row["bucket_start"], row["event_type"], row["events"], row["users"]) for row in minutes] == [
        (NOON, "click", 1, 1),
        (NOON, "page_view", 1, 1),
        (at(minutes=1), "click", 1, 1),
        (at(minutes=70), "purchase", 1, 1),
    ]
    first, second = rows_of(block, specs["content_1h"])
    assert (first["views"], first["clicks"], first["likes"], first["users"]) == (1, 2, 0, 2)
    assert (second["bucket_start"], second["views"], second["users"]) == (at(hours=1), 0, 1)
    bought = rows_of(block, specs["campaign_1h"])[1]
    assert (bought["currency"], bought["purchases"], bought["purchasers"], bought["revenue"]) == (
        "EUR",
        1,
        1,
        Decimal("19.99"),
    )
    anonymous, known = rows_of(block, specs["user_days"])
    assert (anonymous["person"], anonymous["events"], known["person"], known["events"]) == ("a1", 1, "u1", 3)
    assert (known["first_time"], known["last_time"]) == (NOON, at(minutes=70))


def test_an_empty_block_and_no_frames_make_empty_frames_of_the_declared_columns():
    for spec in catalogue().values():
        schema = pl.Schema(partial_schema(spec))
        nothing = partial(empty(EVENT_SCHEMA), spec)
        assert nothing.schema == merge([], spec).schema == merge([nothing], spec).schema == schema
        assert finish(nothing, spec).columns == [
            "bucket_start",
            "bucket_end",
            *(column.name for column in columns(spec)),
        ]


def test_final_columns_are_the_declared_ones_in_name_and_type():
    block = events({"user_id": "u", "value": "1", "currency": "EUR", "quantity": 2, "rating": 4.5, "is_bot": False})
    spec = metric(
        {
            "n": {"count": "all"},
            "paid": {"sum": "value"},
            "pieces": {"sum": "quantity"},
            "stars": {"sum": "rating"},
            "least": {"min": "rating"},
            "last": {"max": "event_time"},
            "users": {"distinct": "person"},
            "price": {"quantile": "value", "q": [0.5, 0.999]},
        },
        dimensions=["currency", "is_bot"],
    )
    polars = {
        "STRING": pl.String,
        "BOOL": pl.Boolean,
        "INT64": pl.Int64,
        "NUMERIC": NUMERIC,
        "FLOAT64": pl.Float64,
        "BYTES": pl.Binary,
    }
    polars |= {"TIMESTAMP": TIME, "RECORD": pl.List(pl.Struct({"bin": pl.Int64, "count": pl.Int64}))}
    declared = {"bucket_start": TIME, "bucket_end": TIME} | {
        column.name: polars[column.type] for column in columns(spec)
    }
    assert finish(merge([partial(block, spec)], spec), spec).schema == pl.Schema(declared)
    assert partial(block, spec).schema == pl.Schema(partial_schema(spec))


def test_null_dimensions_are_a_group_of_their_own():
    spec = metric({"n": {"count": "all"}}, dimensions=["channel", "country"])
    block = events({"channel": "web"}, {"channel": "web"}, {"channel": "web", "country": "FR"}, {})
    counted = [(row["channel"], row["country"], row["n"]) for row in rows_of(block, spec)]
    assert counted == [(None, None, 1), ("web", None, 2), ("web", "FR", 1)]
    halves = [partial(block[:1], spec), partial(block[1:], spec)]
    assert merge(halves, spec).equals(merge([partial(block, spec)], spec))


def test_where_and_where_set_choose_events_and_a_key_without_matches_has_zeros():
    spec = metric(
        {
            "buys": {"count": "all", "where": {"event_type": "purchase", "is_bot": False}},
            "reactions": {"count": "all", "where": {"event_type": ["like", "share"]}},
            "spent": {"sum": "value", "where": {"event_type": "purchase", "currency": "EUR"}},
            "buyers": {"distinct": "person", "where": {"event_type": "purchase"}},
            "latest": {"max": "event_time", "where": {"event_type": "purchase"}},
            "french": {"distinct": "person", "where": {"country": "FR"}},
        },
        dimensions=["campaign"],
        where_set=["campaign"],
    )
    buy = {"event_type": "purchase", "user_id": "u", "campaign": "b", "value": "3", "currency": "EUR"}
    block = events(
        {"campaign": "a", "event_type": "like"},
        buy,
        buy | {"is_bot": False, "country": "FR"},
        buy | {"campaign": None},
        buy | {"currency": "USD"},
    )
    a, b = rows_of(block, spec)
    assert (a["buys"], a["reactions"], a["spent"], a["buyers"], a["latest"]) == (0, 1, 0, 0, None)
    assert (a["french"], b["french"]) == (0, 1)
    assert (b["buys"], b["reactions"], b["spent"], b["buyers"], b["latest"]) == (1, 0, 6, 1, NOON)


def test_where_compares_numbers_exactly():
    spec = metric(
        {
            "dimes": {"count": "all", "where": {"value": 0.1}},
            "twos": {"count": "all", "where": {"quantity": [2, 3]}},
        }
    )
    (row,) = rows_of(events({"value": "0.1", "quantity": 2}, {"value": "0.100000001", "quantity": 4}, {}), spec)
    assert (row["dimes"], row["twos"]) == (1, 1)


def test_sums_are_exact():
    spec = metric({"paid": {"sum": "value"}, "stars": {"sum": "rating"}}, dimensions=["currency"])
    tenths = [
        {"value": "0.1", "rating": 0.1, "currency": "EUR"},
        {"value": "0.2", "rating": 0.2, "currency": "EUR"},
    ]
    block = events(*tenths, {"value": "99999999999999999999.999999999", "rating": float("nan"), "currency": "EUR"})
    (row,) = rows_of(block, spec)
    assert row["paid"] == Decimal("100000000000000000000.299999999")
    assert row["stars"] == Decimal("0.3")


RATINGS = st.one_of(
    st.sampled_from([1e16, 1.0, -1e16, 0.1, 0.2, 0.3, -0.0, 0.0, 1e-9, 5e-10, 9.9e17, -9.9e17, 1e18, 9e28, -9e28]),
    st.floats(),
)


@given(st.lists(RATINGS, min_size=1, max_size=12), st.data())
def test_neither_order_nor_cuts_matter_to_what_is_made_of_floats(ratings, data):
    spec = metric({"sum": {"sum": "rating"}, "min": {"min": "rating"}, "max": {"max": "rating"}})

    def of(values: list[float], cut: int) -> str:
        parts = [part for part in (values[:cut], values[cut:]) if part]
        made = merge([partial(events(*({"rating": each} for each in part)), spec) for part in parts], spec)
        return str(made.select("sum", "min", "max").row(0))  # as text, since 0.0 == -0.0

    other = data.draw(st.permutations(ratings))
    assert of(ratings, 0) == of(other, data.draw(st.integers(0, len(ratings))))


@pytest.mark.parametrize("ratings", [(-0.0, 0.0), (0.0, -0.0)])
def test_the_least_and_the_greatest_of_two_zeros_have_no_sign(ratings):
    spec = metric({"min": {"min": "rating"}, "max": {"max": "rating"}})
    (row,) = rows_of(events(*({"rating": each} for each in ratings)), spec)
    assert (str(row["min"]), str(row["max"])) == ("0.0", "0.0")


@given(st.lists(RATINGS, min_size=1, max_size=12))
def test_a_sum_of_floats_is_that_of_their_nine_places(ratings):
    spec = metric({"sum": {"sum": "rating"}})
    (row,) = rows_of(events(*({"rating": each} for each in ratings)), spec)
    fit = [Decimal(each) for each in ratings if abs(each) < 1e18]
    exact = sum(each.quantize(Decimal("1E-9"), ROUND_HALF_UP, WIDE) for each in fit)
    # A float that lies within a ten millionth of the last place from a tie may be rounded to either side.
    assert abs(row["sum"] - exact) <= len(fit) * Decimal("1E-9")
    assert row["sum"] == exact or any(
        abs((each.scaleb(9, WIDE) % 1).copy_abs() - Decimal("0.5")) < Decimal("1E-6") for each in fit
    )


def test_buckets_are_cut_in_utc_before_and_after_1970():
    spec = metric({"n": {"count": "all"}}, bucket="15m")
    old = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    found = rows_of(
        events({"event_time": old}, {"event_time": at(minutes=14, seconds=59)}, {"event_time": at(minutes=15)}),
        spec,
    )
    assert [row["bucket_start"] for row in found] == [
        datetime(1969, 12, 31, 23, 45, tzinfo=UTC),
        NOON,
        at(minutes=15),
    ]
    assert found[1]["bucket_end"] == at(minutes=15)


@pytest.mark.parametrize(
    ("zone", "time", "start", "hours"),
    [
        ("UTC", "2026-03-29T00:00:00", "2026-03-29T00:00:00", 24),
        ("Europe/Berlin", "2026-03-28T23:00:00", "2026-03-28T23:00:00", 23),  # clocks go forward
        ("Europe/Berlin", "2026-10-25T22:59:59", "2026-10-24T22:00:00", 25),  # and back
        ("America/Sao_Paulo", "2018-11-04T03:00:00", "2018-11-04T03:00:00", 23),  # the day begins at 01:00
        ("America/Sao_Paulo", "2018-11-04T02:59:59", "2018-11-03T03:00:00", 24),
        ("Pacific/Apia", "2011-12-30T09:00:00", "2011-12-29T10:00:00", 24),  # the day after was left out
    ],
)
def test_days_are_those_of_the_time_zone(zone, time, start, hours):
    (row,) = rows_of(
        events({"event_time": datetime.fromisoformat(time + "+00:00")}),
        metric({"n": {"count": "all"}}, bucket="1d"),
        zone,
    )
    assert row["bucket_start"] == datetime.fromisoformat(start + "+00:00")
    assert row["bucket_end"] - row["bucket_start"] == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "bucket", "buckets"),
    [
        ("UTC", "1h", [("18:00", "19:00")]),
        ("Asia/Kolkata", "1h", [("18:00", "18:30"), ("18:30", "19:00")]),  # midnight is at 18:30
        ("Asia/Kolkata", "30m", [("18:00", "18:30"), ("18:30", "19:00")]),
        ("Europe/Berlin", "1h", [("18:00", "19:00")]),
        ("America/New_York", "6h", [("18:00", "00:00")]),
    ],
)
def test_a_bucket_is_two_where_midnight_lies_inside_it_so_that_days_can_be_written_apart(zone, bucket, buckets):
    evening = datetime(2026, 3, 1, 18, 10, tzinfo=UTC)
    block = events({"event_time": evening}, {"event_time": evening + timedelta(minutes=30)})
    found = rows_of(block, metric({"n": {"count": "all"}}, bucket=bucket), zone)
    assert [(f"{row['bucket_start']:%H:%M}", f"{row['bucket_end']:%H:%M}") for row in found] == buckets
    assert sum(row["n"] for row in found) == 2


EVENT = st.fixed_dictionaries(
    {
        "event_time": st.integers(0, 7_200).map(lambda seconds: at(seconds=seconds)),
        "event_type": st.sampled_from(["page_view", "click", "purchase"]),
        "channel": st.sampled_from(["web", "mobile", None]),
        "currency": st.sampled_from(["EUR", "USD", None]),
        "user_id": st.sampled_from(["u1", "u2", "u3", "u4", "u5", None]),
        "anonymous_id": st.sampled_from(["a1", None]),
        "value": st.sampled_from(["0.1", "0.2", "-7", "123456789.000000001", None]),
        "rating": st.sampled_from([0.1, 0.2, 5.0, None]),
    }
)
EVERY_KIND = {
    "n": {"count": "all"},
    "clicks": {"count": "all", "where": {"event_type": "click"}},
    "paid": {"sum": "value", "where": {"event_type": "purchase"}},
    "stars": {"sum": "rating"},
    "least": {"min": "value"},
    "last": {"max": "event_time"},
    "users": {"distinct": "person"},
    "buyers": {"distinct": "user_id", "where": {"event_type": "purchase"}},
    "price": {"quantile": "value", "q": [0, 0.5, 1]},
}


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENT, max_size=40), st.lists(st.integers(0, 40), max_size=4), st.randoms(use_true_random=False))
def test_where_blocks_are_cut_their_order_and_the_merge_tree_do_not_matter(drawn, cuts, random):
    spec = metric(EVERY_KIND, dimensions=["channel", "currency"], bucket="15m")
    whole = merge([partial(events(*drawn), spec)], spec)
    random.shuffle(drawn)
    edges = [0, *sorted(min(cut, len(drawn)) for cut in cuts), len(drawn)]
    parts = [partial(events(*drawn[low:high]), spec) for low, high in pairwise(edges)]
    while len(parts) > 1:
        chosen = [parts.pop(random.randrange(len(parts))) for _ in range(random.randint(2, len(parts)))]
        parts.append(merge(chosen, spec))
    merged = merge(parts, spec)
    assert merged.equals(whole)
    assert finish(merged, spec).equals(finish(whole, spec))


def test_a_crowd_above_the_limit_is_the_same_from_any_cut():
    spec = metric({"users": {"distinct": "person"}}, dimensions=["channel"])
    block = events(
        *({"channel": "web", "user_id": f"user {number % 700}"} for number in range(1_400)),
        {"channel": "iot", "user_id": "one"},
    )
    whole = merge([partial(block, spec)], spec)
    quarters = [partial(block[start : start + 350], spec) for start in (1_050, 0, 350, 700, 1_400)]
    tree = merge([merge(quarters[:2], spec), merge(quarters[2:], spec), quarters[0]], spec)
    assert tree.equals(whole)
    assert BlockCoder().decode(BlockCoder().encode(tree)).equals(whole)  # as it goes through a shuffle and state
    iot, web = finish(tree, spec).to_dicts()
    assert iot["users"] == 1 and abs(web["users"] - 700) <= 3 * 700 * 1.04 / 64
