"""Metrics: the form that may be stated, and the text for each that may not."""
# ruff: noqa: E501 (a form that is refused and the text for it are one line)

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from transforms.errors import ConfigError
from transforms.metrics.spec import columns, read_metrics

CATALOGUE = Path(__file__).parents[3] / "templates" / "default.yaml"


def metric(measures: dict, **form):
    (spec,) = read_metrics({"m": {"bucket": "1h", "measures": measures} | form}, "config.yaml")
    return spec


def catalogue() -> dict:
    return {spec.name: spec for spec in read_metrics(yaml.safe_load(CATALOGUE.read_text())["metrics"], "default.yaml")}


def test_defaults_and_derived_values():
    spec = metric({"n": {"count": "all"}})
    assert (spec.shards, spec.dimensions, spec.keys, spec.is_daily) == (1, (), ("bucket_start",), False)
    early = {bucket: metric({"n": {"count": "all"}}, bucket=bucket).early_interval for bucket in ("1m", "1h", "1d")}
    assert early == {"1m": timedelta(seconds=10), "1h": timedelta(minutes=1), "1d": timedelta(minutes=10)}
    assert metric({"n": {"count": "all"}}, early="never").early_interval is None
    assert metric({"n": {"count": "all"}}, early="30s").early_interval == timedelta(seconds=30)
    assert metric({"n": {"count": "all"}}, bucket="1d").bucket_width == timedelta(days=1)


def test_columns_of_a_metric():
    described = [column[:3] for column in columns(catalogue()["campaign_1h"])]
    assert described == [
        ("campaign", "STRING", "NULLABLE"),
        ("channel", "STRING", "NULLABLE"),
        ("currency", "STRING", "NULLABLE"),
        ("users", "INT64", "REQUIRED"),
        ("users_sketch", "BYTES", "REQUIRED"),
        ("signups", "INT64", "REQUIRED"),
        ("carts", "INT64", "REQUIRED"),
        ("purchases", "INT64", "REQUIRED"),
        ("purchasers", "INT64", "REQUIRED"),
        ("purchasers_sketch", "BYTES", "REQUIRED"),
        ("revenue", "NUMERIC", "REQUIRED"),
    ]
    assert all(column.description for spec in catalogue().values() for column in columns(spec))


COUNT = {"n": {"count": "all"}}
# fmt: off
WRONG_METRICS = [
    ("M", {}, "config.yaml: $.metrics.M: the name of a metric is ^[a-z][a-z0-9_]{0,62}$; got 'M'"),
    ("events", {}, "config.yaml: $.metrics.events: the name is taken by a table or view; choose another"),
    ("m_current", {}, "config.yaml: $.metrics.m_current: the name is taken by a table or view; choose another"),
    ("m", [1], "config.yaml: $.metrics.m: got [1]; a metric has bucket, dimensions and measures"),
    ("m", {"name": "x"}, "config.yaml: $.metrics.m.name: got 'x'; the name is the key 'm' already, leave it out"),
    ("m", {"bucket": "1h"}, "config.yaml: $.metrics.m: Object missing required field `measures`; fields are bucket, measures, dimensions, "),
    ("m", {"bucket": "1h", "measures": {}}, "config.yaml: $.metrics.m.measures: Expected `object` of length >= 1; got {}"),
    ("m", {"bucket": "1h", "measures": COUNT, "widht": 1}, "config.yaml: $.metrics.m: Object contains unknown field `widht`; fields are bucket, "),
    ("m", {"bucket": 60, "measures": COUNT}, "config.yaml: $.metrics.m.bucket: Expected `str`, got `int`; got 60"),
    ("m", {"bucket": "7m", "measures": COUNT}, "config.yaml: $.metrics.m: bucket: got '7m'; it is <n>s, <n>m or <n>h that divides a day (10s, 1m, 15m, 1h), or 1d"),
    ("m", {"bucket": "24h", "measures": COUNT}, "bucket: got '24h'; it is <n>s"),
    ("m", {"bucket": "2d", "measures": COUNT}, "bucket: got '2d'; it is <n>s"),
    ("m", {"bucket": "1h", "measures": COUNT, "shards": 0}, "config.yaml: $.metrics.m.shards: Expected `int` >= 1; got 0"),
    ("m", {"bucket": "1h", "measures": COUNT, "early": "soon"}, "config.yaml: $.metrics.m.early: Expected `str` matching regex '^([1-9][0-9]{0,4}[smh]|never)$'; got 'soon'"),
    ("m", {"bucket": "1h", "measures": COUNT, "dimensions": ["chanel"]}, "config.yaml: $.metrics.m: dimensions: 'chanel' is not a column of events; allowed: event_id, "),
    ("m", {"bucket": "1h", "measures": COUNT, "dimensions": ["value"]}, "dimensions: 'value' is NUMERIC; a dimension is a string or a boolean"),
    ("m", {"bucket": "1h", "measures": COUNT, "dimensions": ["extra"]}, "dimensions: 'extra' is JSON; a dimension is a string or a boolean"),
    ("m", {"bucket": "1h", "measures": COUNT, "where_set": ["x"]}, "config.yaml: $.metrics.m: where_set: 'x' is not a column of events; allowed: "),
    ("m", {"bucket": "1h", "measures": COUNT, "dimensions": ["channel", "channel"]}, "config.yaml: $.metrics.m: column 'channel' would exist twice; rename the measure or remove the dimension"),
    ("m", {"bucket": "1h", "measures": {"firing": {"count": "all"}}}, "config.yaml: $.metrics.m: column 'firing' would exist twice"),
    ("m", {"bucket": "1h", "measures": {"u_sketch": {"count": "all"}, "u": {"distinct": "person"}}}, "column 'u_sketch' would exist twice"),
]
# fmt: on


@pytest.mark.parametrize(("name", "form", "text"), WRONG_METRICS)
def test_a_wrong_metric_is_refused_with_its_path(name, form, text):
    with pytest.raises(ConfigError) as refused:
        read_metrics({name: form}, "config.yaml")
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


# fmt: off
WRONG_MEASURES = [
    ({}, "got nothing; state exactly one of count, sum, min, max, distinct, quantile"),
    ({"count": "all", "sum": "quantity"}, "got count and sum; state exactly one of count, "),
    ({"count": "some"}, "Invalid enum value 'some'; allowed: all"),
    ("count", "Expected `object`, got `str`; got 'count'"),
    ({"cuont": "all"}, "Object contains unknown field `cuont`; fields are count, sum, min, max, distinct, quantile, q, where"),
    ({"sum": "vlaue"}, "sum: 'vlaue' is not a column of events; allowed: event_id, "),
    ({"sum": "country"}, "sum: 'country' is STRING; allowed: a number: sequence, value, quantity, rating"),
    ({"sum": "event_time"}, "sum: 'event_time' is TIMESTAMP; allowed: a number: sequence, value, quantity, rating"),
    ({"min": "country"}, "min: 'country' is STRING; allowed: a number or a time: event_time, received_time, "),
    ({"distinct": "quantity"}, "distinct: 'quantity' is INT64; allowed: text: event_id, "),
    ({"quantile": "quantity"}, "`q` is only for quantile: a list of fractions from 0 to 1, for example [0.5, 0.99]"),
    ({"sum": "quantity", "q": [0.5]}, "`q` is only for quantile: a list of fractions from 0 to 1, for example [0.5, 0.99]"),
    ({"quantile": "quantity", "q": [0.5, 0.5]}, "q has a fraction twice: [0.5, 0.5]; state each once"),
    ({"quantile": "quantity", "q": [50]}, ".q[0]: Expected `float` <= 1.0"),
    ({"count": "all", "where": {"x": "y"}}, "where: 'x' is not a column of events; allowed: event_id, "),
    ({"count": "all", "where": {"country": False}}, "where: 'country' is STRING, got False; allowed: a string (quoted, if YAML would read it as another type)"),
    ({"count": "all", "where": {"quantity": [1, True]}}, "where: 'quantity' is INT64, got True; allowed: a whole number"),
    ({"count": "all", "where": {"quantity": 1.5}}, "where: 'quantity' is INT64, got 1.5; allowed: a whole number"),
    ({"count": "all", "where": {"is_bot": "no"}}, "where: 'is_bot' is BOOL, got 'no'; allowed: true or false"),
    ({"count": "all", "where": {"value": "1"}}, "where: 'value' is NUMERIC, got '1'; allowed: a number"),
    ({"count": "all", "where": {"value": 1e30}}, "where: 'value' got 1e+30, which is outside NUMERIC(38,9)"),
    ({"count": "all", "where": {"event_time": "2026-01-01"}}, "where: 'event_time' is TIMESTAMP, which cannot be compared for equality; use another column"),
    ({"count": "all", "where": {"country": []}}, "where: 'country' has no value; give one, or a list of them"),
    ({"count": "all", "where": {"country": None}}, "where[...]: Expected `bool | int | float | str | array`, got `null`"),
    *(
        (form | where, f"{kind} of 'value' would mix currencies; add currency to the dimensions, or one currency to its where: {{currency: USD}}")
        for kind, form in {"sum": {"sum": "value"}, "min": {"min": "value"}, "max": {"max": "value"}, "quantile": {"quantile": "value", "q": [0.5]}}.items()
        for where in ({}, {"where": {"currency": ["EUR", "USD"]}})
    ),
]
# fmt: on


@pytest.mark.parametrize(("form", "text"), WRONG_MEASURES)
def test_a_wrong_measure_is_refused_with_its_path(form, text):
    with pytest.raises(ConfigError) as refused:
        metric({"revenue": form})
    assert str(refused.value).startswith("config.yaml: $.metrics.m.measures.revenue")
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_name_of_a_measure_is_refused():
    with pytest.raises(ConfigError, match=r"\$\.metrics\.m\.measures\.Big: the name of a measure is .*; got 'Big'"):
        metric({"Big": {"count": "all"}})


def test_money_of_one_currency_may_be_summed():
    assert metric({"usd": {"sum": "value", "where": {"currency": "USD"}}}).measures["usd"].field == "value"
    assert metric({"paid": {"sum": "value"}}, dimensions=["currency"]).measures["paid"].field == "value"
