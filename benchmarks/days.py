"""Ask the same question about one day of two warehouses of the same density: one of few days, one of many.

    python -m benchmarks.days --folder /tmp/days        # keeps the warehouses there, and takes them if they are there
    python -m benchmarks.days --folder /tmp/days --write   # and writes day_question_ratio to results/insight.json

An answer about a day should cost the same whatever the history: the ratio of the processor times should be near 1. Both
warehouses end on the same day, and the day asked is in the middle of the shorter one. Counted is the processor time of
an answer in this process, the least of a few repeats: with opening the warehouse, without starting Python. Both are
refreshed first (`audience refresh`). It does not show a disk: what is read is in the memory of the system.

Attribution is asked with a look-back that the shorter warehouse holds, too: what it reads is the look-back, and not the
history. The line below it is what the longer one takes with the look-back of the configuration.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from pipelines.settings.attribution import Attribution
from pipelines.warehouse.local.kept_views import refresh
from pipelines.warehouse.local.warehouse import LocalWarehouse

RESULTS = Path(__file__).parent / "results" / "insight.json"
LAST = date(2026, 3, 31)
DAY = LAST - timedelta(days=2)
HELD = Attribution(look_back_days=2)  # days before DAY that both warehouses hold
SHORT, LONG = 5, 80
OF_A_DAY = f"WHERE day = DATE '{DAY}'"
# Views of which a question names a day, or a span of days up to now.
QUESTIONS = {
    "events_unique": f"SELECT COUNT(*) AS n, COUNT(DISTINCT person) AS p FROM events_unique {OF_A_DAY}",
    "sessions_current": "SELECT COUNT(*) AS n, SUM(events) AS e FROM sessions_current "
    f"WHERE session_start >= TIMESTAMP '{DAY} 00:00:00+00' "
    f"AND session_start < TIMESTAMP '{DAY + timedelta(days=1)} 00:00:00+00'",
    "activity_by_day": f"SELECT * FROM activity_by_day {OF_A_DAY}",
    "lifecycle_by_day": f"SELECT * FROM lifecycle_by_day {OF_A_DAY}",
    "engagement_by_day": f"SELECT * FROM engagement_by_day {OF_A_DAY}",
    "engagement_by_device": f"SELECT * FROM engagement_by_device {OF_A_DAY}",
    "engagement_by_channel": f"SELECT * FROM engagement_by_channel {OF_A_DAY}",
    "conversion_by_campaign": f"SELECT * FROM conversion_by_campaign {OF_A_DAY}",
    "conversion_by_channel": f"SELECT * FROM conversion_by_channel {OF_A_DAY}",
    "conversion_by_country": f"SELECT * FROM conversion_by_country {OF_A_DAY}",
    "funnel_by_day": f"SELECT * FROM funnel_by_day {OF_A_DAY}",
    "revenue_by_day": f"SELECT * FROM revenue_by_day {OF_A_DAY}",
    "attribution_by_day": f"SELECT * FROM attribution_by_day {OF_A_DAY}",
    "retention_by_day": f"SELECT * FROM retention_by_day WHERE cohort_day = DATE '{DAY}'",
    "engagement_by_content": f"SELECT COUNT(*) AS n, SUM(views) AS v FROM engagement_by_content {OF_A_DAY}",
    "content_leaderboard": "SELECT COUNT(*) AS n, SUM(views) AS v FROM content_leaderboard",
    "live_now": "SELECT * FROM live_now",
    "rfm_segments": "SELECT segment, COUNT(*) AS n FROM rfm_segments GROUP BY segment",
    "identities": "SELECT COUNT(*) AS n, SUM(sessions) AS s FROM identities",
}


def make_warehouse(folder: Path, days: int, events_a_day: int) -> LocalWarehouse:
    """The warehouse of this many days up to LAST, made if it does not exist."""
    place = folder / f"{days}-days"
    if not (place / "manifest.json").exists():
        events = folder / f"{days}.jsonl.zst"
        first = LAST - timedelta(days=days - 1)
        run = [str(Path(sys.executable).with_name("audience"))]
        simulate = ["simulate", "--events", f"{days * events_a_day}", "--days", f"{days}", "--start", f"{first}"]
        subprocess.run([*run, *simulate, "--output", str(events)], check=True, stdout=subprocess.DEVNULL)
        backfill = ["backfill", "--input", str(events), "--warehouse", str(place), "--allow_quarantine"]
        subprocess.run([*run, *backfill], check=True, stdout=subprocess.DEVNULL)
        events.unlink()
    return LocalWarehouse.open(place)


def seconds_of(warehouse: LocalWarehouse, sql: str, repeats: int, attribution: Attribution = HELD) -> float:
    """Processor seconds of an answer, the least of the repeats."""
    least = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        opened = LocalWarehouse.open(warehouse.folder)
        opened.use_attribution(attribution)
        opened.answer(sql).frame()
        least = min(least, time.process_time() - begun)
    return least


def main() -> None:
    """Ask each question of both warehouses, and print the processor seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--events_a_day", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the figures to results/insight.json")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    short, long = (make_warehouse(given.folder, days, given.events_a_day) for days in (SHORT, LONG))
    ratios = {}
    for each in (short, long):
        begun = time.process_time()
        done = refresh(each)
        print(f"refresh of {each.folder.name}: {sum(view.is_new for view in done)} views written, ", end="")
        print(f"{time.process_time() - begun:.2f} s")
    for name, sql in QUESTIONS.items():
        few, many = (seconds_of(each, sql, given.repeats) for each in (short, long))
        ratios[name] = round(many / few, 2)
        print(f"{name:<24} {few:8.4f} s of {SHORT} days {many:8.4f} s of {LONG} days  ratio {many / few:6.2f}")
    whole = seconds_of(long, QUESTIONS["attribution_by_day"], given.repeats, Attribution())
    print(f"attribution_by_day with {Attribution().look_back_days} days {whole:8.4f} s of {LONG} days")
    worst = max(ratios, key=ratios.__getitem__)
    print(f"worst: {worst} {ratios[worst]}")
    if given.write:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        figures = {"day_question_ratio": ratios[worst], "day_question_ratios": ratios}
        figures |= {"day_question_events_a_day": given.events_a_day}
        RESULTS.write_text(json.dumps(before | figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
