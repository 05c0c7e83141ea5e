"""The picture of the live page that docs/live.md shows: the top of the page of a day so far, as Chromium draws it.

    python -m benchmarks.live_picture docs/live.png

It simulates two days of events up to now, writes those before now into a warehouse of a temporary folder, serves its
page, and takes the picture. Needs playwright (the extra `test`) and Chromium (Debian: apt-get install chromium).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.live import chromium, served

WIDTH, HEIGHT = 1240, 905  # the cards of numbers, both charts, and the head of the lists
EVENTS = 160_000


def warehouse_until_now(folder: Path, events: int = EVENTS) -> Path:
    """A warehouse of simulated events of yesterday and of today so far."""
    now, raw, known = datetime.now(UTC), folder / "raw.jsonl", folder / "known.jsonl"
    day = (now - timedelta(days=1)).date()
    audience = [sys.executable, "-m", "pipelines.cli"]
    simulate = ["simulate", "--events", str(events), "--days", "2", "--start", f"{day}", "--output", str(raw)]
    subprocess.run([*audience, *simulate], check=True, stderr=subprocess.DEVNULL)
    until = f"{now:%Y-%m-%dT%H:%M:%S}"
    with open(raw, errors="surrogateescape") as lines, open(known, "w", errors="surrogateescape") as kept:
        kept.writelines(line for line in lines if received(line) < until)
    warehouse = folder / "shop"
    backfill = ["backfill", "--input", str(known), "--warehouse", str(warehouse)]
    subprocess.run([*audience, *backfill], check=True, stderr=subprocess.DEVNULL)
    return warehouse


def received(line: str) -> str:
    """When a line was received, as text; of one that is no record the beginning of time."""
    try:
        return str(json.loads(line).get("received_time", ""))
    except (ValueError, AttributeError):
        return ""


def take_picture(url: str, output: Path) -> None:
    """Write the top of the page as a PNG."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("[data-question=minutes] canvas")
        page.screenshot(path=output)


def main() -> None:
    """Take the picture and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(warehouse_until_now(Path(folder))) as url:
        take_picture(url, values.output)
    print(f"{values.output}: {values.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
