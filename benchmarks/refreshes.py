"""A refresh after one new day, in a history of many: the seconds and the memory of `audience refresh`.

    python -m benchmarks.refreshes --folder /tmp/refreshes                     # keeps its warehouses there
    python -m benchmarks.refreshes --folder /tmp/refreshes --share 1 --write   # 90 days of a million events each
    python -m benchmarks.refreshes --folder /tmp/refreshes --days 15 90 --events 300000    # and what that adds

A day of a million events is simulated and backfilled once. The days before it are copies of its rows, each moved back
by so many days, with ids of its own, of a share of the people; minutes stay whole. So people return each day, and
nothing but the day differs. First the history is refreshed, then the new day is committed, whole, and refreshed, then
one late event of an old day: each by the command, with its processor time and largest memory. Of several histories the
ratio of the last one's processor time to that of the first is printed, too.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.run import timed
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.staged import write_file

RESULTS = Path(__file__).parent / "results" / "insight.json"
AUDIENCE = str(Path(sys.executable).with_name("audience"))
LAST = date(2026, 3, 31)
EVENTS = 1_000_000
PEOPLE = {
    "events": pl.coalesce("anonymous_id", "user_id"),
    "sessions": pl.coalesce("anonymous_id", "user_id"),
    "user_days": pl.col("person"),
}
IDS = ("event_id", "session_id", "visit_id")


def the_day(folder: Path, number: int) -> LocalWarehouse:
    """The warehouse of the one day of so many events, made if it does not exist."""
    place = folder / f"day-{number}"
    if not (place / "manifest.json").exists():
        events = folder / "day.jsonl.zst"
        simulate = ["simulate", "--events", f"{number}", "--days", "1", "--start", f"{LAST}", "--output", f"{events}"]
        backfill = ["backfill", "--input", f"{events}", "--warehouse", f"{place}", "--allow_quarantine"]
        for command in (simulate, backfill):
            subprocess.run([AUDIENCE, *command], check=True, stdout=subprocess.DEVNULL)
        events.unlink()
    return LocalWarehouse.open(place)


def history(one: LocalWarehouse, place: Path, days: int, share: float) -> LocalWarehouse:
    """A warehouse of the days before the one day: copies of it."""
    many = LocalWarehouse.open(place, one.time_zone, create=True)
    with many.writer() as run:
        run.declare(one.tables().values())
        entries = []
        for name, table in one.tables().items():
            rows = one.scan(name, [LAST]).collect()
            if name in PEOPLE:
                rows = rows.filter(PEOPLE[name].hash() % 1000 < share * 1000)
            for back in range(1, days + 1):
                for day, moved in by_day(_moved(rows, back), table.partition, one.time_zone):
                    entries.append(write_file(run.folder, name, day, moved, synced=False))
        run.commit(entries)
    return many


def _moved(rows: pl.DataFrame, back: int) -> pl.DataFrame:
    """The rows, so many days earlier, with ids of their own."""
    times = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
    ids = [name for name in IDS if name in rows.columns]
    earlier = pl.col(times) - pl.duration(days=back)
    return rows.with_columns(earlier, *(pl.col(name) + f".{back}" for name in ids))


def add_the_day(one: LocalWarehouse, many: LocalWarehouse) -> None:
    """Commit the one day to the history."""
    with many.writer() as run:
        entries = []
        for name, table in one.tables().items():
            for day, rows in by_day(one.scan(name, [LAST]).collect(), table.partition, one.time_zone):
                entries.append(write_file(run.folder, name, day, rows))
        run.commit(entries)


def add_late(one: LocalWarehouse, many: LocalWarehouse, back: int) -> None:
    """Commit one event of the day so many days before the one day, of a person and a content of its own."""
    row = one.scan("events", [LAST]).head(1).collect()
    late = _moved(row, back).with_columns(event_id=pl.lit("late"), user_id=pl.lit("late"), content_id=pl.lit("late"))
    with many.writer() as run:
        parts = by_day(late, one.table("events").partition, one.time_zone)
        run.commit([write_file(run.folder, "events", day, rows) for day, rows in parts])


def measured(one: LocalWarehouse, place: Path, days: int, share: float) -> dict[str, dict[str, float]]:
    """What each refresh took: the first, after the new day, after a late event, after nothing."""
    begun = time.monotonic()
    many = history(one, place, days, share)
    held = sum(many.rows_by_day("events").values())
    print(f"{days} days, {held:,} events, {time.monotonic() - begun:.0f} s", flush=True)
    figures: dict[str, dict[str, float]] = {"first": refreshed(place)}
    add_the_day(one, many)
    figures["day"] = refreshed(place)
    add_late(one, many, days // 2)
    figures["late_event"] = refreshed(place)
    figures["unchanged"] = refreshed(place)
    for name, each in figures.items():
        print(f"{name:<10}", *(f"{key} {value:,}" for key, value in each.items()), flush=True)
    size: dict[str, float] = {"days": days, "events": held}
    return {"history": size} | figures


def refreshed(place: Path) -> dict[str, float]:
    """Refresh a warehouse by the command: seconds of a clock and of processors, and megabytes of memory."""
    seconds, processor, peak = timed([AUDIENCE, "refresh", "--warehouse", str(place)])
    return {"seconds": round(seconds, 2), "processor_seconds": round(processor, 2), "memory_mb": peak >> 20}


def main() -> None:
    """Refresh a history, add a day and a late event, refresh again, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--days", type=int, nargs="+", default=[90], help="days of each history (default: 90)")
    parser.add_argument("--share", type=float, default=0.1, help="of the people on each of them (default: 0.1)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of the new day (default: {EVENTS:,})")
    parser.add_argument("--write", action="store_true", help="write the last figures to results/insight.json")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    one = the_day(given.folder, given.events)
    places = {days: given.folder / f"{days}-days-{given.share}-{given.events}" for days in given.days}
    if there := [place.name for place in places.values() if place.exists()]:
        parser.error(f"--folder: got {given.folder}, with {there[0]}; allowed: one without; remove it")
    found = [measured(one, place, days, given.share) for days, place in places.items()]
    for name in list(found[0])[1:] if len(found) > 1 else ():
        ratio = found[-1][name]["processor_seconds"] / found[0][name]["processor_seconds"]
        print(f"{name:<10} processor time of {given.days[-1]} days / {given.days[0]} days: {ratio:.2f}")
    if given.write:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        size = {"history_days": given.days[-1], "history_events": found[-1]["history"]["events"]}
        figures = {name: each for name, each in found[-1].items() if name != "history"}
        RESULTS.write_text(json.dumps(before | {"refresh": size | figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
