"""Measure forecasts, anomalies, sentiment, profiles over published data, beside the tables that others published.

    python -m benchmarks.insight DATA            # the folder of the data; make bench-insight DATA=folder
    python -m benchmarks.insight DATA --write    # and puts the figures into benchmarks/results/insight.json
    python -m benchmarks.insight DATA --only forecasts

Each part is a module beside this one with `measure(folder)`, which prints its table and returns its figures by name.
"""

import argparse
import importlib
import json
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "insight.json"
PARTS = ("anomalies", "forecasts", "lifetimes", "predictions", "recommended", "sentiment")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with forecasts/, anomalies/, sentiment/ and purchases/"
    )
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--write", action="store_true", help="write the figures to results/insight.json")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"DATA: got {options.data}; allowed: a folder that exists")
    figures: dict[str, float | list[float]] = {}
    for part in [options.only] if options.only else PARTS:
        figures |= importlib.import_module(f"benchmarks.insight.{part}").measure(options.data)
        print()
    if options.write:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept |= {name: rounded(value) for name, value in figures.items()}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name} {rounded(value)}")


def rounded(value: float | list[float]) -> float | list[float]:
    """A figure to four places."""
    return [round(each, 4) for each in value] if isinstance(value, list) else round(value, 4)


if __name__ == "__main__":
    main()
