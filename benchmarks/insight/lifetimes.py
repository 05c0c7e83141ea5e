"""Lifetime values beside published fits: the purchases of CDNOW's sample as events through the graph, and a refresh.

The parameters are those of P. Fader, B. Hardie and K. Lee (Marketing Science 24, 2005) for BG/NBD, and of P. Fader and
B. Hardie ("The Gamma-Gamma Model of Monetary Value", 2013). `purchases/` of the data has the file.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.insight.events import warehouse_of
from pipelines.insight.profiles import compute
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from transforms.insight.lifetime.purchases import BgNbd, Buyers, expected_purchases
from transforms.insight.lifetime.values import GammaGamma
from transforms.insight.settings import Insight, Profiles

FILE = Path("purchases") / "CDNOW_sample.txt"
AS_OF, WEEKS = datetime(1997, 10, 1, tzinfo=UTC), 39
ONE = Buyers(np.array([2.0]), np.array([30.43]), np.array([38.86]))
PUBLISHED = {
    **{"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426},
    **{"p": 6.25, "q": 3.74, "v": 15.44},
}


def measure(folder: Path) -> dict[str, float | list[float]]:
    """cdnow_bgnbd [r, alpha, a, b], cdnow_gamma_gamma [p, q, v], and what the fit expects and what came in 39 weeks."""
    with tempfile.TemporaryDirectory() as made:
        warehouse = warehouse_of(_events(folder / FILE), Path(made), max_days="600")
        begun = time.monotonic()
        settings = Profiles(days_ahead=7 * WEEKS)
        configuration = read_config(None)._replace(insight=Insight(profiles=settings))
        with warehouse.asking() as ask:
            found = compute(Inputs(ask, AS_OF, "UTC", warehouse.names(), configuration))
            end = AS_OF + timedelta(weeks=WEEKS)
            came = ask(
                "SELECT COUNT(*) AS n FROM (SELECT DISTINCT user_id, CAST(event_time AS DATE) FROM events "
                f"WHERE event_time >= TIMESTAMP '{AS_OF:%Y-%m-%d}' AND event_time < TIMESTAMP '{end:%Y-%m-%d}')"
            )["n"][0]
        seconds = time.monotonic() - begun
    (fit,) = found["lifetime_fits"].to_dicts()
    one = float(expected_purchases(BgNbd(*(fit[name] for name in BgNbd._fields)), ONE, WEEKS)[0])
    expected = float(found["user_values"]["expected_purchases"].sum())
    print(f"CDNOW's sample, {fit['buyers']:,} buyers as of {AS_OF:%Y-%m-%d}, profiles in {seconds:.1f} s")
    with pl.Config(tbl_rows=-1, tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True):
        print(
            pl.DataFrame(
                {"": PUBLISHED.keys(), "fit": [fit[name] for name in PUBLISHED], "as published": PUBLISHED.values()}
            )
        )
    print(f"E[39 weeks | x = 2, t_x = 30.43, T = 38.86] {one:.3f}, as published 1.226")
    print(f"days with a purchase in the next 39 weeks: {expected:,.0f} expected, {came:,} came")
    return {
        "cdnow_bgnbd": [fit[name] for name in BgNbd._fields],
        "cdnow_gamma_gamma": [fit[name] for name in GammaGamma._fields],
        "cdnow_expected_of_one": one,
        "cdnow_expected_share": expected / came,
    }


def _events(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text().splitlines():
        _, buyer, day, quantity, dollars = line.split()
        yield {
            "event_type": "purchase",
            "event_time": f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00Z",
            "source": "cdnow",
            "user_id": buyer,
            "quantity": int(quantity),
            "value": float(dollars),
            "currency": "USD",
        }
