"""The score of the Numenta Anomaly Benchmark: values computed by hand from its description, and its files."""

import importlib
import json
import math

import numpy as np
import pytest

from benchmarks.insight import __main__ as benchmark
from benchmarks.insight.anomalies import detect
from benchmarks.insight.nab import File, files, score, worth


def series(length: int = 1000, windows: tuple[tuple[int, int], ...] = ((400, 499),)) -> File:
    times = np.datetime64("2026-03-01") + np.arange(length) * np.timedelta64(5, "m")
    return File("artificial/one.csv", times, np.zeros(length), windows)


def at(length: int, *rows: int) -> np.ndarray:
    given = np.zeros(length)
    given[list(rows)] = 1
    return given


def test_a_detector_that_never_fires_has_0_and_a_perfect_one_100():
    file = series(windows=((400, 499), (700, 799)))
    assert score([(file, np.zeros(1000))]).score == 0
    best = score([(file, at(1000, 400, 700))])
    assert best.score == pytest.approx(100)
    assert (best.windows, best.found, best.false_alarms) == (2, 2, 0)


def test_the_earliest_detection_of_a_window_counts_by_a_sigmoid_of_its_place():
    middle = (2 / (1 + math.exp(-2.5)) - 1) / (2 / (1 + math.exp(-5)) - 1)
    assert score([(series(), at(1000, 450, 480))]).score == pytest.approx(100 * (middle + 1) / 2, abs=1e-9)


def test_a_detection_behind_a_window_costs_by_its_distance_and_one_before_all_windows_costs_all():
    earned, number = worth(series(), 0.11)
    assert earned[399] == pytest.approx(-0.11)
    assert earned[500] == pytest.approx(0.11 * (2 / (1 + math.exp(5 / 99)) - 1))
    assert earned[499 + 3 * 99 + 1] == pytest.approx(-0.11)
    assert number[399:401].tolist() == [-1, 0]


def test_one_threshold_holds_for_all_files():
    quiet, loud = at(1000, 400), 10 * at(1000, 400)
    loud[[200, 210, 220, 230, 240]] = 5  # false alarms that only this file would pay for
    both = score([(series(), quiet), (series(), loud)])
    assert both.threshold == 1 and both.false_alarms == 5
    assert both.score == pytest.approx(100 * (4 - 5 * 0.11) / 4)


def test_the_first_rows_do_not_count():
    assert series().probation == 150 and series(20_000).probation == 750
    assert score([(series(), at(1000, 10, 20, 400))]).false_alarms == 0


def test_the_benchmark_prints_ours_beside_the_published_scores_and_keeps_figures_of_others(
    tmp_path, capsys, monkeypatch
):
    random = np.random.default_rng(6)
    values = random.normal(10, 1, 1500)
    values[900:930] += 30
    times = [str(np.datetime64("2026-03-01 00:00:00") + at * np.timedelta64(300, "s")) for at in range(1500)]
    lines = [f"{time.replace('T', ' ')},{value}" for time, value in zip(times, values.tolist(), strict=True)]
    copy = tmp_path / "anomalies"
    for folder in ("data/artificial", "labels", "results"):
        (copy / folder).mkdir(parents=True)
    (copy / "data/artificial/one.csv").write_text("\n".join(["timestamp,value", *lines]) + "\n")
    windows = {"artificial/one.csv": [[times[850].replace("T", " "), times[999].replace("T", " ")]]}
    (copy / "labels/combined_windows.json").write_text(json.dumps(windows))
    (copy / "results/final_results.json").write_text(json.dumps({"windowedGaussian": {"standard": 39.6}}))
    [file] = files(copy)
    assert file.windows == ((850, 999),)
    results = tmp_path / "insight.json"
    results.write_text(json.dumps({"day_question_ratio": {"live_now": 1.5}, "nab_standard": 1}))
    monkeypatch.setattr(benchmark, "RESULTS", results)
    benchmark.main([str(tmp_path), "--only", "anomalies", "--write"])
    assert "39.6  windowedGaussian" in capsys.readouterr().out
    written = json.loads(results.read_text())
    assert written["nab_standard"] > 80
    assert written["day_question_ratio"] == {"live_now": 1.5}


def test_each_part_of_the_benchmark_is_there():
    parts = [importlib.import_module(f"benchmarks.insight.{name}") for name in benchmark.PARTS]
    assert [each.__name__ for each in parts if not hasattr(each, "measure")] == []
    assert {"anomalies", "lifetimes"} <= set(benchmark.PARTS)


def test_a_detection_does_not_depend_on_what_comes_later():
    values = np.random.default_rng(7).normal(10, 1, 1500)
    values[900:930] += 30
    file = series(1500)._replace(values=values)
    early = file._replace(values=values[:1000], times=file.times[:1000])
    assert detect(file)[:1000].any()
    assert np.array_equal(detect(file)[:1000], detect(early))
