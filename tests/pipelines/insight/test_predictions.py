"""Predictions: features by hand and by SQL, nothing of what came later, simulated truth, refusals, deletion, swaps."""

import json
import pickle
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import duckdb
import msgspec
import numpy as np
import polars as pl
import pytest
from apache_beam.ml.inference.base import ModelMetadata, RunInference
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from msgspec.structs import replace
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.insight.events import warehouse_of
from benchmarks.insight.visitors import events, names, persons, truth
from pipelines.cli import main
from pipelines.commands.refresh import model_lines
from pipelines.insight.predict import fit as fitting
from pipelines.insight.predict import train as training
from pipelines.insight.predict.folder import card_of, pinned, read_model, version_of, write_model
from pipelines.insight.predict.forms import load
from pipelines.insight.predict.handler import PredictionHandler, card_path
from pipelines.insight.predict.rows import features, outcomes, seen
from pipelines.insight.predict.train import train, trained, training_cuts
from pipelines.insight.predictions import PASS
from pipelines.insight.refresh import refresh
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from transforms.errors import OptionError
from transforms.insight.predict.drift import Bins, bins_of, limit, psi
from transforms.insight.predict.features import FEATURES, NAMES, target_named
from transforms.insight.predict.scored import matrix, scored
from transforms.insight.predict.settings import OwnModel, Predictions
from transforms.insight.settings import Insight

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
T = datetime(2026, 3, 1, 10, tzinfo=UTC)
COUNT, DAYS, SEED = 700, 72, 7
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + DAYS * DAY
CONVERSION, CHURN = target_named("conversion_7d"), target_named("churn_14d")


def inputs_of(warehouse: LocalWarehouse, ask, as_of: datetime, **keys) -> Inputs:
    configuration = read_config(None)._replace(insight=Insight(predictions=Predictions(**keys)))
    return Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), configuration)


def rows_of(warehouse: LocalWarehouse, as_of: datetime) -> pl.DataFrame:
    with warehouse.asking() as ask:
        return features(inputs_of(warehouse, ask, as_of))


def labelled(warehouse: LocalWarehouse, as_of: datetime, target) -> tuple[pl.DataFrame, np.ndarray]:
    with warehouse.asking() as ask:
        inputs = inputs_of(warehouse, ask, as_of)
        rows = seen(features(inputs), target)
        return rows, outcomes(inputs, target, rows["person"]).to_numpy()


def outcomes_of(warehouse: LocalWarehouse, as_of: datetime, target) -> dict[str, bool]:
    rows, is_so = labelled(warehouse, as_of, target)
    return dict(zip(rows["person"], is_so.tolist(), strict=True))


def event(before: timedelta, kind: str = "click", **columns) -> dict:
    return {"event_type": kind, "event_time": (T - before).isoformat(), "source": "web"} | columns


BEFORE = [
    event(29 * DAY, user_id="u1"),  # is of no feature
    event(20 * DAY, "signup", anonymous_id="a1", user_id="u1"),
    event(7 * DAY, anonymous_id="a1"),
    event(7 * DAY - 10 * MINUTE, "purchase", anonymous_id="a1", user_id="u1", value=5, currency="EUR"),
    event(10 * DAY, "purchase", user_id="u1", value=5, currency="EUR"),
    event(2 * HOUR, anonymous_id="a1"),
    event(20 * DAY, anonymous_id="a2"),
    event(3 * DAY, anonymous_id="a3"),
    event(3 * DAY, user_id="robot", is_bot=True),
]
AFTER = [
    event(timedelta(0), "purchase", user_id="at-the-time", value=1, currency="EUR"),
    event(-HOUR, "purchase", anonymous_id="a2", value=1, currency="EUR"),
    event(-DAY, "login", anonymous_id="a3", user_id="u3"),
    event(-2 * DAY, "purchase", user_id="u3", value=9, currency="EUR"),
    event(-2 * DAY, "purchase", anonymous_id="a3", value=9, currency="EUR"),
    event(-7 * DAY, "purchase", user_id="u1", value=9, currency="EUR"),  # is outside of the 7 days
]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory) -> LocalWarehouse:
    return warehouse_of(BEFORE + AFTER, tmp_path_factory.mktemp("by_hand"))


def test_rows_by_hand(by_hand):
    rows = {row.pop("person"): row for row in rows_of(by_hand, T).to_dicts()}
    assert set(rows) == {"u1", "a2", "a3"}, "no bot, and nobody who came at T"
    assert rows["u1"] == {
        "recency_days": pytest.approx(2 / 24),
        "first_seen_days": 20,
        "is_user": 1,
        "events_1d": 1,
        "events_7d": 3,  # at 7 days too
        "events_28d": 5,
        "active_days_28d": 4,
        "missed_days": pytest.approx(2 / 24 * 4 / 20),
        "sessions_28d": 4,  # e4 has no anonymous id: a session of its own
        "engaged_sessions_28d": 3,  # the signup, and the two purchases
        "session_seconds_28d": pytest.approx(600 / 4),
        "purchases_7d": 1,
        "purchases_28d": 2,
        "purchase_recency_days": pytest.approx(7 - 10 / 1440),
    }
    quiet = dict.fromkeys(NAMES, 0) | {"events_28d": 1, "active_days_28d": 1, "sessions_28d": 1}
    quiet |= {"recency_days": 20, "first_seen_days": 20, "purchase_recency_days": 28, "missed_days": 1}
    assert rows["a2"] == quiet


def test_outcomes_by_hand(by_hand):
    assert outcomes_of(by_hand, T, CONVERSION) == {"u1": False, "a2": True, "a3": True}, "a3 logged in meanwhile"
    assert outcomes_of(by_hand, T, CHURN) == {"u1": False, "a3": False}, "a2 had left before"
    assert outcomes_of(by_hand, T + MINUTE, CONVERSION)["u1"], "7 days and no longer"
    assert outcomes_of(by_hand, T + 8 * DAY, CHURN) == {"at-the-time": True, "a2": True, "u1": True, "u3": True}


def test_no_feature_as_of_a_time_holds_what_came_later(by_hand, tmp_path):
    early = warehouse_of(BEFORE, tmp_path)
    for as_of in (T, T - 5 * DAY):
        assert rows_of(early, as_of).equals(rows_of(by_hand, as_of))
    assert not rows_of(early, T + DAY + HOUR).equals(rows_of(by_hand, T + DAY + HOUR)), "then, it is there"


@dataclass
class World:
    """A simulated warehouse, its raw events, and models trained as of its end."""

    warehouse: LocalWarehouse
    raw: str
    folder: str

    @property
    def place(self) -> Place:
        return Place(None, str(self.warehouse.folder))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    warehouse = warehouse_of(events(persons(COUNT, DAYS, SEED, 4), DAYS, SEED), folder)
    found = World(warehouse, str(folder / "events.jsonl"), str(folder / "models"))
    done = train(found.place, read_config(None), found.folder, END)
    assert [each.problem for each in done] == ["", ""]
    return found


def configured(world: World, **keys):
    return read_config(None)._replace(insight=Insight(predictions=Predictions(**{"model_dir": world.folder} | keys)))


def card_and_model(world: World, target: str):
    version = pinned(world.place, configured(world)).insight.predictions.versions[target]
    return card_of(world.folder, target, version), read_model(card_path(world.folder, target, version))


def test_features_and_outcomes_are_those_of_sql_over_the_raw_events(world):
    cut = END - 20 * DAY + 5 * HOUR
    sql = duckdb.connect()
    sql.execute(
        "CREATE TABLE raw AS SELECT coalesce(user_id, anonymous_id) AS person, event_type AS kind, "
        f"epoch(event_time::TIMESTAMPTZ) AS s FROM read_json_auto('{world.raw}')"
    )
    sql.execute(f"SET VARIABLE t = {cut.timestamp()}")
    sql.execute("CREATE MACRO past(days) AS getvariable('t') - days * 86400")
    by_person = "OVER (PARTITION BY person ORDER BY s)"
    sql.execute(
        f"CREATE TABLE numbered AS SELECT person, s, sum(is_new) {by_person} AS n FROM ("
        f"SELECT *, coalesce(s - lag(s) {by_person} > 1800, true)::INT AS is_new FROM raw)"
    )
    columns = ["recency_days", "first_seen_days", "events_1d", "events_7d", "events_28d", "active_days_28d"]
    columns += ["purchases_7d", "purchases_28d", "purchase_recency_days", "sessions_28d"]
    oracle = sql.execute(
        "WITH v AS (SELECT person, count(*) AS sessions FROM (SELECT person, min(s) AS b, max(s) AS e FROM numbered "
        "GROUP BY person, n) WHERE b >= past(28) AND e < past(0) - 1800 GROUP BY person) "
        "SELECT person, (past(0) - max(s)) / 86400, (past(0) - min(s)) / 86400, count(*) FILTER (s >= past(1)), "
        "count(*) FILTER (s >= past(7)), count(*), count(DISTINCT floor(s / 86400)), "
        "count(*) FILTER (s >= past(7) AND kind = 'purchase'), count(*) FILTER (kind = 'purchase'), "
        "coalesce((past(0) - max(s) FILTER (kind = 'purchase')) / 86400, 28), coalesce(any_value(sessions), 0) "
        "FROM raw LEFT JOIN v USING (person) WHERE s >= past(28) AND s < past(0) GROUP BY person ORDER BY person"
    ).fetchall()
    found = rows_of(world.warehouse, cut).select("person", *columns).rows()
    assert len(found) > 200 and [row[0] for row in found] == [row[0] for row in oracle]
    assert np.array([row[1:] for row in found]) == pytest.approx(np.array([row[1:] for row in oracle], float), abs=1e-6)
    ahead = "SELECT DISTINCT person FROM raw WHERE s >= past(0) AND s < past(-{}) AND {}"
    bought = {person for (person,) in sql.execute(ahead.format(7, "kind = 'purchase'")).fetchall()}
    came = {person for (person,) in sql.execute(ahead.format(14, "true")).fetchall()}
    assert outcomes_of(world.warehouse, cut, CONVERSION) == {row[0]: row[0] in bought for row in oracle}
    assert outcomes_of(world.warehouse, cut, CHURN) == {row[0]: row[0] not in came for row in oracle if row[1] <= 14}


def test_no_row_of_a_training_knows_the_test():
    for target in (CONVERSION, CHURN):
        cuts = training_cuts(target, START, END)
        assert cuts[-1] + target.days * DAY == END - target.days * DAY, (
            "the days ahead end where those of the test begin"
        )
        assert cuts[0] - 28 * DAY >= START and cuts == sorted(cuts)
    assert len({cut.weekday() for cut in training_cuts(CONVERSION, START - 99 * DAY, END)}) == 7


def test_a_model_is_that_of_an_offline_fit_and_near_to_the_truth(world):
    card, model = card_and_model(world, "conversion_7d")
    parts = [labelled(world.warehouse, cut, CONVERSION) for cut in (*card.cuts, card.test_cut)]
    known, (test, is_so) = parts[:-1], parts[-1]
    is_log = [feature.is_log for feature in FEATURES]
    logs = FunctionTransformer(lambda values: np.where(is_log, np.log1p(values), values))
    rows, so = np.concatenate([matrix(rows) for rows, _ in known]), np.concatenate([so for _, so in known])
    groups = pl.concat([rows["person"] for rows, _ in known]).rank("dense").to_numpy()
    offline = CalibratedClassifierCV(
        make_pipeline(logs, StandardScaler(), LogisticRegression(max_iter=1000)),
        cv=list(GroupKFold(5).split(rows, so, groups)),
        ensemble=False,
    ).fit(rows, so)
    by_model = model.probabilities(matrix(test))
    # Its splits are standardized one by one, ours together: only the calibration differs, and by little.
    assert by_model == pytest.approx(offline.predict_proba(matrix(test))[:, 1], abs=0.01)
    known_truth = dict(
        zip(names(COUNT), truth(persons(COUNT, DAYS, SEED, 4), (card.test_cut - START) / DAY, 7), strict=True)
    )
    best = roc_auc_score(is_so, [known_truth[person] for person in test["person"]])
    assert card.model.auc == pytest.approx(roc_auc_score(is_so, by_model))
    assert best - 0.08 < card.model.auc and card.recency.auc + 0.03 < card.model.auc, (best, card.model, card.recency)
    assert card.model.brier < card.base_rate_brier and card.model.calibration_error < 0.1 and card.model.lift_10 > 1.5
    assert (card.test_rows, card.test_share) == (is_so.size, pytest.approx(is_so.mean()))


def test_a_second_training_writes_the_same_and_names_nobody(world, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "TARGETS", (CONVERSION,))
    [again] = train(world.place, read_config(None), str(tmp_path), END)
    first = Path(world.folder) / "conversion_7d" / again.card.version
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    written = b"".join(path.read_bytes() for path in files)
    for path in Path(again.folder).iterdir():
        assert path.read_bytes() == (first / path.name).read_bytes(), path.name
    assert len(files) == 4 and not any(f'"{name}"'.encode() in written for name in names(COUNT))
    assert b"| this model | 0." in (first / "card.md").read_bytes()


def asked(world: World, sql: str) -> pl.DataFrame:
    with open_warehouse(*world.place) as warehouse:
        return pl.concat(warehouse.ask(sql))


def test_scores_in_beam_are_those_of_the_file_outside_of_it_and_are_written_once(world):
    first = refresh(world.place, configured(world, force=True), END, [PASS])
    assert all(each.is_new for each in first.answers)
    found = asked(world, "SELECT * FROM predictions_latest ORDER BY target, person")
    rows = rows_of(world.warehouse, END)
    for target in (CONVERSION, CHURN):
        card, _ = card_and_model(world, target.name)
        stored = json.loads((Path(world.folder) / target.name / card.version / "parameters.json").read_text())
        part = rows.filter(pl.col("recency_days") <= target.seen_days)
        sums = np.full(part.height, stored["intercept"])
        for feature, name in zip(FEATURES, stored["features"], strict=True):
            at = stored["features"].index(name)
            values = part[name].log1p() if feature.is_log else part[name]
            sums += stored["coefficients"][at] * (values.to_numpy() - stored["mean"][at]) / stored["scale"][at]
        by_formula = 1 / (1 + np.exp(stored["slope"] * sums + stored["shift"]))
        told = found.filter(pl.col("target") == target.name)
        assert told["person"].to_list() == part["person"].to_list()
        assert told["probability"].to_numpy() == pytest.approx(by_formula, abs=1e-12)
        offline = scored(part, load("logistic", json.dumps(stored).encode(), "here"), card.medians)
        assert told.select(offline.columns).equals(offline), "to the last bit, and the reasons too"
        assert told["model_version"].unique().to_list() == [card.version]
    again = refresh(world.place, configured(world, force=True), END, [PASS])
    assert not any(each.is_new for each in again.answers)


def test_reasons_are_what_a_median_instead_would_change():
    rows = pl.DataFrame({"person": ["p"]} | {name: [0.0] for name in NAMES}).with_columns(
        recency_days=pl.lit(5.0), events_7d=pl.lit(3.0), is_user=pl.lit(1.0)
    )
    weights = np.zeros(len(NAMES))
    weights[[NAMES.index(name) for name in ("recency_days", "events_7d", "is_user")]] = -0.5, 1.0, 0.001

    def model(values):
        return 1 / (1 + np.exp(-(values @ weights)))

    [row] = scored(rows, model, [1.0] * len(NAMES)).to_dicts()
    assert row["probability"] == pytest.approx(1 / (1 + np.exp(-0.501)))
    # by hand: events_7d 1.0 * (3 - 1), recency_days -0.5 * (5 - 1), of which the first feature comes first
    assert [row[f"reason_{place}"] for place in (1, 2, 3)] == ["-recency_days", "+events_7d", None]


def test_drift_by_hand():
    bins = Bins([0.0], [0.5, 0.5], 0.0)
    assert psi(np.array([0.0, 0, 0, 0, 1]), bins) == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5))
    assert bins_of(np.array([0.0] * 6 + [1, 2, 3, 4])).edges == [0, 1, 2, 3]
    assert bins_of(np.arange(100.0)).shares == pytest.approx([0.1] * 10)
    random = np.random.default_rng(1)
    for rows in (30, 3000):
        then, now = random.normal(size=4000), random.normal(size=rows)
        assert psi(now, bins_of(then)) < limit(rows, 4000, bins_of(then)) < psi(now + 2, bins_of(then))


@pytest.mark.parametrize("kind", ["worse", "drifted"])
def test_a_model_that_is_worse_or_whose_features_have_drifted_scores_only_by_force(world, tmp_path, kind):
    card, _ = card_and_model(world, "conversion_7d")
    content = (Path(world.folder) / "conversion_7d" / card.version / card.file).read_bytes()
    if kind == "worse":
        card, said = replace(card, recency=replace(card.recency, auc=0.99)), "worse than recency alone: AUC 0."
    else:
        moved = [
            replace(each, shares=each.shares[::-1]) if name == "events_7d" else each
            for name, each in zip(NAMES, card.bins, strict=True)
        ]
        card, said = replace(card, bins=moved), "events_7d has drifted: PSI "
    write_model(str(tmp_path), card, content)
    for force in (False, True):
        refresh(world.place, configured(world, model_dir=str(tmp_path), force=force), END, [PASS])
        rows = asked(world, "SELECT COUNT(*) AS n FROM predictions_latest")["n"][0]
        [line] = model_lines(world.place)
        assert said in line and (rows > 200, line.endswith("used all the same")) == (force, force)


def test_a_model_that_was_changed_is_refused(world, tmp_path):
    card, _ = card_and_model(world, "conversion_7d")
    content = (Path(world.folder) / "conversion_7d" / card.version / card.file).read_bytes()
    at = Path(write_model(str(tmp_path), card, content))
    (at / card.file).write_bytes(content.replace(b'"shift":', b'"shift":1'))
    with pytest.raises(OptionError, match=f"its hash is not the version {card.version}"):
        read_model(str(at / "model.json"))
    (at / "model.json").write_bytes(msgspec.json.encode(replace(card, version="0" * 16)))
    with pytest.raises(OptionError, match="got the card of conversion_7d 0000"):
        pinned(world.place, configured(world, model_dir=str(tmp_path)))
    with pytest.raises(OptionError, match="does not exist"):
        pinned(world.place, configured(world, versions={"churn_14d": "1" * 16}))
    turned = msgspec.to_builtins(card) | {"features": card.features[::-1]}
    (at / "model.json").write_bytes(msgspec.json.encode(turned))
    with pytest.raises(OptionError, match=r"features: got .*; allowed: recency_days, "):
        read_model(str(at / "model.json"))


def test_too_little_to_train_on_is_refused(world, by_hand, tmp_path, capsys):
    assert (
        main(["train", "--warehouse", str(by_hand.folder), "--model_dir", str(tmp_path), "--as_of", f"{T:%FT%TZ}"]) == 2
    )
    assert "error: conversion_7d: got 29 days of data" in (said := capsys.readouterr().err)
    assert "allowed: 42 and more (28 of features, 7 ahead of them, 7 of the test)" in said
    assert "allowed: 56 and more" in said and not list(tmp_path.iterdir())


class Program:
    """What runs a program when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("form", ["onnx", "xgboost", "logistic"])
def test_a_pickle_is_not_a_model(form):
    with pytest.raises(OptionError, match=f"here: cannot read a model of the form {form}"):
        load(form, pickle.dumps(Program()), "here")


def foreign(form: str, rows: np.ndarray, is_so: np.ndarray, file: Path) -> np.ndarray:
    """Fit a model, write it in a form, and return its own probabilities."""
    if form == "xgboost":
        import xgboost

        model = xgboost.train(
            {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, xgboost.DMatrix(rows, is_so), 20
        )
        model.save_model(file)
        return model.predict(xgboost.DMatrix(rows))
    import skl2onnx
    from sklearn.ensemble import GradientBoostingClassifier

    classifier = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(rows, is_so)
    kind = [("rows", skl2onnx.common.data_types.FloatTensorType([None, len(NAMES)]))]
    made = skl2onnx.to_onnx(classifier, initial_types=kind, options={"zipmap": False})
    file.write_bytes(made.SerializeToString())
    return classifier.predict_proba(rows)[:, 1]


@pytest.mark.parametrize(("form", "name"), [("onnx", "own.onnx"), ("xgboost", "own.json")])
def test_a_model_that_was_fitted_elsewhere_is_measured_and_scores(world, tmp_path, monkeypatch, form, name):
    cut = END - 21 * DAY
    monkeypatch.setattr(training, "CUTS", 1)
    rows, so = labelled(world.warehouse, cut, CONVERSION)
    values = matrix(rows).astype(np.float32).astype(np.float64)  # what both libraries see
    own = foreign(form, values, so, tmp_path / name)
    keys = {"own": {"conversion_7d": OwnModel(form, str(tmp_path / name))}}
    with world.warehouse.asking() as ask:
        card, content = trained(inputs_of(world.warehouse, ask, END, **keys), CONVERSION, START)
    at = write_model(str(tmp_path / "models"), card, content)
    model = read_model(f"{at}/model.json")
    assert model.probabilities(values) == pytest.approx(own, abs=1e-6)
    assert (card.form, card.version) == (form, version_of("conversion_7d", form, (tmp_path / name).read_bytes()))
    assert 0.5 < card.model.auc < 1 and "Fitted elsewhere" in card.fitted_by
    refresh(world.place, configured(world, model_dir=str(tmp_path / "models"), force=True), END, [PASS])
    told = asked(world, "SELECT person, probability FROM predictions_latest ORDER BY person")
    now = rows_of(world.warehouse, END)
    assert told["probability"].to_list() == pytest.approx(model.probabilities(matrix(now)).tolist(), abs=1e-9)


def test_a_model_is_swapped_in_a_stream_without_a_lost_or_doubled_row(world, tmp_path):
    card, _ = card_and_model(world, "conversion_7d")
    stored = json.loads((Path(world.folder) / "conversion_7d" / card.version / card.file).read_text())
    other = json.dumps(stored | {"shift": stored["shift"] + 1}).encode()
    newer = replace(card, version=version_of("conversion_7d", "logistic", other))
    paths = [
        card_path(world.folder, "conversion_7d", card.version),
        f"{write_model(str(tmp_path), newer, other)}/model.json",
    ]
    rows = rows_of(world.warehouse, END)
    blocks = [rows.slice(at * 25, 25) for at in range(8)]
    stream = TestStream()
    for at, block in enumerate(blocks):
        stream = stream.add_elements([TimestampedValue(block, at)], tag="rows").advance_watermark_to(at + 1, tag="rows")
    stream = stream.add_elements([TimestampedValue(ModelMetadata(paths[0], "0"), 0)], tag="models")
    stream = stream.add_elements([TimestampedValue(ModelMetadata(paths[1], "1"), 4)], tag="models")
    stream = stream.advance_watermark_to_infinity(tag="models").advance_watermark_to_infinity(tag="rows")
    versions = [card.version, newer.version]

    def check(scores: list[pl.DataFrame]) -> None:
        found = pl.concat(scores).sort("person")
        assert found["person"].to_list() == rows["person"][:200].to_list(), "each once"
        for path, version, part in zip(paths, versions, (rows[:100], rows[100:200]), strict=True):
            told = found.filter(pl.col("person").is_in(part["person"].implode()))
            assert told["model_version"].unique().to_list() == [version]
            assert told["probability"].to_list() == read_model(path).probabilities(matrix(part)).tolist()

    with TestPipeline() as pipeline:
        tagged = pipeline | stream
        models = tagged["models"] | "Window models" >> beam.WindowInto(FixedWindows(4))
        scores = (
            tagged["rows"]
            | "Window rows" >> beam.WindowInto(FixedWindows(4))
            | "Score" >> RunInference(PredictionHandler(paths[0]), model_metadata_pcoll=models)
        )
        assert_that(scores, check)


def test_an_erasure_removes_predictions_and_no_later_row_holds_the_person(world, by_hand, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(by_hand.folder, place)
    copy = World(LocalWarehouse.open(place), "", world.folder)
    refresh(copy.place, configured(copy, force=True), T, [PASS])
    people = "SELECT DISTINCT person FROM predictions ORDER BY person"
    assert asked(copy, people)["person"].to_list() == ["a2", "a3", "u1"]
    assert main(["person", "--delete", "u1", "--delete", "a1", "--warehouse", str(place)]) == 0
    assert asked(copy, people).is_empty()
    refresh(copy.place, configured(copy, force=True), T, [PASS])
    assert asked(copy, people)["person"].to_list() == ["a2", "a3"]
    assert rows_of(copy.warehouse, T)["person"].to_list() == ["a2", "a3"], "of a training too"


def test_measures_by_hand():
    told = fitting.measures(np.array([0.1, 0.9, 0.8, 0.4]), np.array([False, True, False, True]))
    assert (told.auc, told.brier) == (pytest.approx(3 / 4), pytest.approx((0.01 + 0.01 + 0.64 + 0.36) / 4))
    assert told.calibration_error == pytest.approx((0.1 + 0.1 + 0.8 + 0.6) / 4)
    assert told.lift_10 == pytest.approx(1 / 0.5)
