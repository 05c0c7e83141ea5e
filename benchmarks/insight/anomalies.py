"""NAB: our score beside the published ones, by the benchmark's own rules, in one pass over each series.

    python -m benchmarks.insight DATA --only anomalies      DATA/anomalies: a copy of it, data/, labels/, results/

The detector is that of transforms/insight/surprise.py: the mean of 24 distances from what was to be expected, in
deviations of such means before it; a detection, then quiet. It knows neither labels nor what comes later. Its four
numbers were chosen on series that we simulated and on the benchmark's artificial files: docs/why/anomalies.md.
"""

import json
from pathlib import Path

import numpy as np

from benchmarks.insight.nab import File, files, score, windowed_gaussian
from transforms.insight.surprise import alarms, baseline, mean_upto, unusual

FOLDER = Path("anomalies")
TOGETHER, MEMORY, WARM = 24, 4000, 60  # rows: of a mean, of the means that tell the spread, without a detection
THRESHOLD, QUIET = 3.0, 150  # deviations; rows after a detection without another
DIGITS = 12  # of the published scores of detectors
PUBLISHED = "results/final_results.json"
OURS, PLAIN = "ours", "windowedGaussian"


def detect(file: File) -> np.ndarray:
    """1 at the rows that are detections, else 0."""
    step = np.median(np.diff(file.times)) / np.timedelta64(1, "s")
    season = max(round(86_400 / float(step)), 2)
    distance = file.values - baseline(file.values[None], season)[0]
    surprise = unusual(np.abs(mean_upto(distance, TOGETHER)), MEMORY, WARM)
    found = np.zeros(len(file.values))
    found[alarms(surprise, THRESHOLD, QUIET)] = 1
    return found


def measure(folder: Path) -> dict[str, float]:
    """Print the table and return nab_standard. It looks at all files: each run with another detector is a look."""
    series = list(files(folder / FOLDER))
    published = json.loads((folder / FOLDER / PUBLISHED).read_text(encoding="utf-8"))
    table = {name: each["standard"] for name, each in published.items()}
    ours = score([(file, detect(file)) for file in series])
    again = score([(file, np.round(windowed_gaussian(file.values), DIGITS)) for file in series])
    print(f"the scorer on the published detector {PLAIN}: {again.score:.3f}, published {table[PLAIN]:.3f}")
    print(f"{OURS}: {ours.found} of {ours.windows} windows found, {ours.false_alarms} detections outside")
    for name, each in sorted((table | {OURS: ours.score}).items(), key=lambda row: -row[1]):
        print(f"{each:6.1f}  {name}")
    return {"nab_standard": round(ours.score, 2)}
