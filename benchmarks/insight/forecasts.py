"""Forecasts beside the published table of the M4 competition's hourly series: 414 series, 48 hours ahead.

Measures and methods are those of S. Makridakis and others ("The M4 Competition", 2018): OWA is the mean of sMAPE and
MASE, each divided by that of Naive2; MSIS is that of the 95 % intervals. `forecasts/` of the data has the files.
"""

import gzip
import time
from pathlib import Path

import numpy as np

from transforms.insight.forecast.model import Forecast, forecast
from transforms.insight.forecast.plans import HOURS

FOLDER = Path("forecasts")
DAY, WEEK, AHEAD = 24, 168, 48
NAIVE2_SMAPE, NAIVE2_MASE = 18.383, 2.395
# sMAPE, MASE, OWA, MSIS as published; None: not among what we have of the table.
PUBLISHED = {
    "seasonal naive": (13.912, 1.193, 0.627, None),
    "Theta": (18.138, 2.455, 1.006, None),
    "Damped": (19.265, 2.956, 1.141, None),
    "winner (118)": (9.328, 0.893, 0.440, None),
    "best for hours (238)": (8.913, 0.801, 0.410, 6.139),
    "ARIMA": (None, None, None, 7.538),
    "ETS": (None, None, None, 17.487),
}


def measure(folder: Path) -> dict[str, float]:
    """m4_hourly_owa, _msis, _coverage95, _coverage80, and the seconds that all series took."""
    train, after = (_read(folder / FOLDER / f"Hourly-{part}.csv.gz") for part in ("train", "test"))
    history = np.full((len(train), max(map(len, train))), np.nan)
    for row, values in zip(history, train, strict=True):
        row[len(row) - len(values) :] = values
    places = np.arange(history.shape[1] + AHEAD)
    begun, cpu = time.monotonic(), time.process_time()
    told = forecast(history, (places % DAY, places % WEEK), HOURS)
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    found = scores(told, history, np.array(after))
    _print(found, seconds, cpu)
    kept = {name: found[name] for name in ("owa", "msis", "coverage95", "coverage80")}
    return {f"m4_hourly_{name}": value for name, value in kept.items()} | {"m4_hourly_processor_seconds": cpu}


def scores(told: Forecast, history: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """The competition's measures of forecasts of (series, buckets), NaN before a series begins."""
    step = np.nanmean(np.abs(history[:, DAY:] - history[:, :-DAY]), axis=1)
    off = np.abs(told.expected - after)
    smape = float((200 * off / (np.abs(told.expected) + np.abs(after))).mean())
    mase = float((off.mean(1) / step).mean())
    lower, upper = told.intervals[1]
    missed = np.clip(lower - after, 0, None) + np.clip(after - upper, 0, None)
    found = {"smape": smape, "mase": mase, "owa": (smape / NAIVE2_SMAPE + mase / NAIVE2_MASE) / 2}
    found["msis"] = float(((upper - lower + 2 / 0.05 * missed).mean(1) / step).mean())
    for name, (low, high) in zip(("coverage80", "coverage95"), told.intervals, strict=True):
        found[name] = float(((after >= low) & (after <= high)).mean())
    return found


def _print(found: dict[str, float], seconds: float, cpu: float) -> None:
    print(f"{'M4 hourly, 48 ahead':<22}{'sMAPE':>9}{'MASE':>8}{'OWA':>8}{'MSIS':>9}")
    ours = tuple(found[name] for name in ("smape", "mase", "owa", "msis"))
    for name, figures in (("Audience Insights", ours), *PUBLISHED.items()):
        shown = ["-" if each is None else f"{each:.3f}" for each in figures]
        print(f"{name:<22}{shown[0]:>9}{shown[1]:>8}{shown[2]:>8}{shown[3]:>9}")
    print(f"coverage: {found['coverage80']:.3f} of 80 %, {found['coverage95']:.3f} of 95 %", end="; ")
    print(f"{seconds:.1f} s, {cpu:.1f} s of processor time")


def _read(file: Path) -> list[list[float]]:
    with gzip.open(file, "rt") as lines:
        next(lines)
        rows = [line.strip().split(",")[1:] for line in lines]
    return [[float(text) for text in (each.strip('"') for each in row) if text not in ("", "NA")] for row in rows]
