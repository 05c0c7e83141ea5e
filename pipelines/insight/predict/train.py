"""Train: fit a model for each target to what is stored before a time, measure it on later rows, write it with its card.

    first cuts ... last cut | its days ahead = the test cut | its days ahead = as_of

A cut is a time of which each person is a row: its features before the cut, and what it did in the days ahead of it.
The days ahead of the last training cut end where the test cut is, so nothing of the test is known to the model. Cuts
are 3 days apart, which visits each day of the week in 7 of them. The rows are in memory only, and never written.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib.metadata import version as version_of_package
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipelines.insight.moment import newest_closed, refuse_time
from pipelines.insight.predict.card import Card
from pipelines.insight.predict.fit import Rows, by_recency, fit, measures, tenths
from pipelines.insight.predict.folder import folder_of, read_file, version_of, write_model
from pipelines.insight.predict.forms import FILES, LOGISTIC, load
from pipelines.insight.predict.rows import WINDOW, features, outcomes, seen
from pipelines.insight.shape import Inputs
from pipelines.settings.config import Configuration
from pipelines.settings.resolve import Place
from pipelines.version import VERSION
from pipelines.warehouse.conditions import DAY, midnight
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OptionError, WarehouseError
from transforms.insight.predict.drift import bins_of
from transforms.insight.predict.features import NAMES, TARGETS, Target
from transforms.insight.predict.scored import matrix

CUTS, STEP = 7, 3 * DAY
MOST_ROWS = 500_000  # of a training or a test; of more, each second or third person counts, and so on
LEAST = 50  # rows of each outcome, in the training and in the test


class Trained(NamedTuple):
    """What came of a target: its card and where it is, or why there is none."""

    target: str
    card: Card | None = None
    folder: str = ""
    problem: str = ""


class Part(NamedTuple):
    """Rows of one or more cuts."""

    rows: Rows
    cuts: list[datetime]


def train(
    place: Place,
    configuration: Configuration,
    model_dir: str | None = None,
    as_of: datetime | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trained]:
    """Train each target as of a time; None: the end of the newest closed bucket.

    A target that fails keeps no other back.

    Errors: OptionError for a dataset without --model_dir, or a time of the future or before the first event;
    WarehouseError for a warehouse that cannot be read.
    """
    folder = folder_of(place, configuration, model_dir)
    if folder is None:
        raise OptionError("--model_dir is missing: with --dataset, name a folder or bucket for the models")
    done = []
    with open_warehouse(*place) as warehouse:
        found = newest_closed(warehouse) if as_of is None else refuse_time(warehouse, as_of)
        first = _first(warehouse)
        for target in TARGETS:
            say(f"{target.name}: as of {found:%Y-%m-%d %H:%M} UTC")
            try:
                with warehouse.asking() as ask:
                    inputs = Inputs(ask, found, warehouse.time_zone, warehouse.names(), configuration)
                    card, content = trained(inputs, target, first)
                done.append(Trained(target.name, card, write_model(folder, card, content)))
            except OptionError as problem:
                done.append(Trained(target.name, problem=str(problem)))
    return done


def trained(inputs: Inputs, target: Target, first: datetime) -> tuple[Card, bytes]:
    """The card and the model file of a target, from data since `first`. Errors: OptionError for too little of it."""
    test_cut = inputs.as_of - target.days * DAY
    known = _part(inputs, target, training_cuts(target, first, inputs.as_of))
    test = _part(inputs, target, [test_cut])
    for part, name in ((known, "training"), (test, "test")):
        _refuse_few(part.rows.is_so, target, name)
    own = inputs.configuration.insight.predictions.own.get(target.name)  # type: ignore[call-overload]
    if own is None:
        form, content = LOGISTIC, msgspec.json.encode(fit(known.rows))
        fitted_by = f"Fitted by scikit-learn {version_of_package('scikit-learn')}: a calibrated logistic regression"
    else:
        form, content = own.form, read_file(own.file)
        fitted_by = "Fitted elsewhere, to rows that are not known here: it may have seen those of the test"
    probabilities = load(form, content, own.file if own else target.name)(test.rows.features)
    share = float(known.rows.is_so.mean())
    card = Card(
        target=target.name,  # type: ignore[arg-type]
        version=version_of(target.name, form, content),
        form=form,
        file=FILES[form],
        features=NAMES,
        data_from=known.cuts[0] - WINDOW,
        data_to=inputs.as_of,
        cuts=known.cuts,
        test_cut=test_cut,
        train_rows=known.rows.is_so.size,
        train_share=share,
        test_rows=test.rows.is_so.size,
        test_share=float(test.rows.is_so.mean()),
        model=measures(probabilities, test.rows.is_so),
        recency=measures(by_recency(known.rows, test.rows), test.rows.is_so),
        base_rate_brier=float(np.mean((test.rows.is_so - share) ** 2)),
        tenths=tenths(probabilities, test.rows.is_so),
        bins=[bins_of(column) for column in known.rows.features.T],
        pipeline_version=VERSION,
        fitted_by=fitted_by,
    )
    return card, content


def training_cuts(target: Target, first: datetime, as_of: datetime) -> list[datetime]:
    """The cuts of a training, the first first. Errors: OptionError if the days ahead of none fit."""
    last = as_of - 2 * target.days * DAY
    cuts = [last - at * STEP for at in range(CUTS) if last - at * STEP - WINDOW >= first]
    if not cuts:
        got, ahead = max(as_of - first, timedelta(0)).days, target.days
        parts = f"{WINDOW.days} of features, {ahead} ahead of them, {ahead} of the test"
        raise OptionError(
            f"{target.name}: got {got} days of data before {as_of:%Y-%m-%d %H:%M} UTC; allowed: "
            f"{WINDOW.days + 2 * ahead} and more ({parts}); train once more are stored"
        )
    return cuts[::-1]


def _part(inputs: Inputs, target: Target, cuts: list[datetime]) -> Part:
    parts = list(_cut(inputs, target, cuts))
    rows = pl.concat([rows for rows, _ in parts])
    persons = rows["person"].rank("dense").cast(pl.Int64).to_numpy()
    is_so = np.concatenate([is_so for _, is_so in parts])
    return Part(Rows(matrix(rows), is_so, persons), cuts)


def _cut(inputs: Inputs, target: Target, cuts: list[datetime]) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
    most = MOST_ROWS // len(cuts)
    for cut in cuts:
        at = inputs._replace(as_of=cut)
        rows = seen(features(at), target)
        rows = rows.gather_every(-(-rows.height // most) or 1)
        yield rows, outcomes(at, target, rows["person"]).to_numpy()


def _refuse_few(is_so: np.ndarray, target: Target, part: str) -> None:
    so, others = int(is_so.sum()), int((~is_so).sum())
    if min(so, others) < LEAST:
        raise OptionError(
            f"{target.name}: got {so:,} rows of the {part} that are so ({target.definition}) and {others:,} that are "
            f"not; allowed: {LEAST} of each; train once more are stored"
        )


def _first(warehouse: Warehouse) -> datetime:
    days = [day for day in warehouse.rows_by_day(EVENTS.name) if day is not None]
    if not days:
        raise WarehouseError(f"{warehouse.name} has no events: nothing to train on; backfill or run first")
    return midnight(min(days), warehouse.time_zone)
