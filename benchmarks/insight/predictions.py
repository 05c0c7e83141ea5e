"""Predictions of simulated persons whose truth is known, beside recency alone and an offline fit of the same rows.

A part of `python -m benchmarks.insight DATA --only predictions`; it reads nothing of DATA. The offline fit is gradient
boosting by scikit-learn, which finds by itself how features act together. The truth is the probability by which the
simulator drew: no model can rank better but by chance.
"""

import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.insight.events import warehouse_of
from benchmarks.insight.visitors import DAY, START, events, names, persons, truth, truth_of_absence
from pipelines.insight.predict.card import Measures
from pipelines.insight.predict.fit import measures
from pipelines.insight.predict.rows import features, outcomes, seen
from pipelines.insight.predict.train import train
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.insight.predict.features import Target, target_named
from transforms.insight.predict.scored import matrix

COUNT, DAYS, SEED = 4_000, 80, 11


def measure(folder: Path) -> dict[str, float | list[float]]:
    """AUC, calibration error and lift at 10 % of each target, by model, recency, offline fit and truth."""
    del folder
    found: dict[str, float | list[float]] = {}
    of = persons(COUNT, DAYS, SEED)
    with tempfile.TemporaryDirectory() as place:
        warehouse = warehouse_of(events(of, DAYS, SEED), Path(place))
        begin = time.process_time()
        done = train(Place(None, str(warehouse.folder)), read_config(None), f"{place}/models", START + DAYS * DAY)
        print(f"{COUNT:,} persons; training of both: {time.process_time() - begin:.1f} s of processor time")
        print(f"{'target':<14} {'by':<12} {'AUC':>6} {'Brier':>7} {'cal.':>7} {'lift':>5}")
        for each in done:
            if each.card is None:
                raise SystemExit(each.problem)
            target = target_named(each.target)
            known = [_rows(warehouse, cut, target) for cut in each.card.cuts]
            test, is_so = _rows(warehouse, each.card.test_cut, target)
            day = (each.card.test_cut - START) / DAY
            ahead = (truth_of_absence if target.is_absence else truth)(of, day, target.days)
            by_name = dict(zip(names(COUNT), ahead, strict=True))
            drawn = np.array([by_name[person] for person in test["person"]])
            rows = np.concatenate([matrix(rows) for rows, _ in known])
            offline = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, max_depth=4, random_state=0)
            offline.fit(rows, np.concatenate([so for _, so in known]))
            parts = {
                "model": each.card.model,
                "recency": each.card.recency,
                "offline": measures(offline.predict_proba(matrix(test))[:, 1], is_so),
                "truth": measures(drawn, is_so),
            }
            for name, part in parts.items():
                print(f"{target.name:<14} {name:<12} {_line(part)}")
                found[f"predictions {target.name} {name}"] = [
                    part.auc,
                    part.brier,
                    part.calibration_error,
                    part.lift_10,
                ]
    return found


def _rows(warehouse: LocalWarehouse, cut: datetime, target: Target) -> tuple[pl.DataFrame, np.ndarray]:
    with warehouse.asking() as ask:
        inputs = Inputs(ask, cut, warehouse.time_zone, warehouse.names(), read_config(None))
        rows = seen(features(inputs), target)
        return rows, outcomes(inputs, target, rows["person"]).to_numpy()


def _line(part: Measures) -> str:
    return f"{part.auc:>6.3f} {part.brier:>7.4f} {part.calibration_error:>7.4f} {part.lift_10:>5.2f}"
