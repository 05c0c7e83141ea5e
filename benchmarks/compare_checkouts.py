"""Compare two checkouts, each with its own .venv: the same inputs must give the same tables.

    python -m benchmarks.compare_checkouts OLD NEW DATA [WORK]

Each checkout backfills the real sets under DATA (those that are there) and simulated events, and streams simulated
events from Google's Pub/Sub emulator. Every table and view is compared by its number of rows and sums of their hashes,
without what names a publication. Prints a line for each input, and ends with 1 if one differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.apps.demo.emulators import pubsub_emulator
from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.pubsub import Queue
from tests.servers.stream import publish, received_times

SETS = {
    "github-events": "github-events/*.json.gz",
    "otto-sessions": "otto-sessions/train.jsonl",
    "retail-orders": "retail-orders/*.parquet",
    "wikipedia-edits": "wikipedia-edits/*.jsonl.gz",
    "ad-impressions": "ad-impressions/men.csv.gz",
}
# What names a run, or the moment at which it wrote.
STAMPS = ("generation", "revision", "emitted_time", "pipeline_version", "failed_time", "run_id", "firing")
TIMES_OF_A_STREAM = ("received_time", "sent_time", "position", "input", "attributes", "quarantine_id", "part")
SIMULATED = ("--events", "20000", "--seed", "7")


def audience(checkout: Path, *words: str, **environment: str) -> str:
    """The stdout of a command of a checkout; its stderr where it fails."""
    ran = subprocess.run(
        [checkout / ".venv/bin/audience", *words],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise SystemExit(f"{checkout}: audience {words[0]}: {ran.stderr[:500]}")
    return ran.stdout


def tables_of(checkout: Path, warehouse: Path) -> list[str]:
    """Every table and view."""
    sql = "SELECT table_name FROM information_schema.tables ORDER BY 1"
    return [row["table_name"] for row in ask(checkout, warehouse, sql)]


def ask(checkout: Path, warehouse: Path, sql: str) -> list[dict]:
    """The rows of an answer."""
    lines = audience(checkout, "query", sql, "--json", "--warehouse", str(warehouse)).splitlines()
    return [json.loads(line) for line in lines]


def sums_of(checkout: Path, warehouse: Path, tables: list[str], left_out: tuple[str, ...]) -> dict[str, dict]:
    """table -> its rows, and two sums of their hashes, which do not depend on their order."""
    columns = f"COLUMNS(lambda c: c NOT IN ({', '.join(map(repr, left_out))}))"
    parts = [
        f"SELECT '{table}' AS name, count(*) AS n, bit_xor(hash(t))::VARCHAR AS x, "
        f'sum(hash(t)::HUGEINT)::VARCHAR AS s FROM (SELECT {columns} FROM "{table}") t'
        for table in tables
    ]
    return {row["name"]: row for row in ask(checkout, warehouse, " UNION ALL ".join(parts))}


def compare(name: str, old: tuple[Path, Path], new: tuple[Path, Path], left_out: tuple[str, ...]) -> bool:
    """Print how the tables of two (checkout, warehouse) compare; whether they are equal."""
    names = tables_of(*old)
    if names != tables_of(*new):
        print(f"{name}: the tables differ: {set(names) ^ set(tables_of(*new))}", flush=True)
        return False
    before, after = sums_of(*old, names, left_out), sums_of(*new, names, left_out)
    differing = [
        f"{table} ({before[table]['n']} rows, {after[table]['n']})" for table in names if before[table] != after[table]
    ]
    rows = sum(row["n"] for row in before.values())
    print(f"{name}: {len(names)} tables and views, {rows:,} rows: {'; '.join(differing) or 'equal'}", flush=True)
    return not differing


def stream(checkout: Path, warehouse: Path, lines: list[bytes], host: str) -> None:
    """Stream the lines from the emulator until all are counted, and drain."""
    queue = Queue(host)
    publish(queue, lines, received_times(lines))
    environment = {**os.environ, EMULATOR: host}
    words = [
        checkout / ".venv/bin/audience",
        "run",
        "--input_subscription",
        queue.subscription,
        "--warehouse",
        warehouse,
        "--timestamp_attribute",
        "received_time",
        "--readers",
        "1",  # audit counts are by reader, and which reader gets a message is chance
    ]
    process = subprocess.Popen(words, cwd=checkout, env=environment, stderr=subprocess.DEVNULL)
    try:
        received = 0
        while received < len(lines):
            process.poll()
            assert process.returncode is None, "the stream ended"
            if (warehouse / "manifest.json").exists():
                sql = "SELECT coalesce(sum(received), 0)::BIGINT AS n FROM quality_1m_current"
                received = ask(checkout, warehouse, sql)[0]["n"]
        audience(checkout, "stop", "--drain", "--warehouse", str(warehouse))
        assert process.wait(120) == 0
    finally:
        process.kill()
        queue.pubsub.close()


def main() -> int:
    """Run it; 1 if something differs."""
    old, new, data = (Path(word).absolute() for word in sys.argv[1:4])
    work = Path(sys.argv[4]).absolute() if len(sys.argv) > 4 else Path(tempfile.mkdtemp())
    simulated = work / "simulated.jsonl"
    audience(new, "simulate", *SIMULATED, "--output", str(simulated))
    inputs = [(name, ["--input", str(data / files), "--mapping", name]) for name, files in SETS.items()]
    inputs = [(name, words) for name, words in inputs if list(data.glob(SETS[name]))]
    equal = True
    for name, words in [*inputs, ("simulated", ["--input", str(simulated)])]:
        places = [(checkout, work / f"{side}-{name}") for side, checkout in (("old", old), ("new", new))]
        for checkout, warehouse in places:
            given = [str(checkout / f"templates/mappings/{w}.yaml") if w == name else w for w in words]
            audience(checkout, "backfill", *given, "--warehouse", str(warehouse), "--workers", "1")
        equal &= compare(name, *places, STAMPS)
    emulator = pubsub_emulator(work / "emulator.log")
    emulator.start()
    try:
        recent, day = work / "recent.jsonl", (datetime.now(UTC) - timedelta(hours=42)).date().isoformat()
        given = ("--events", "1000", "--seed", "7", "--days", "1", "--start", day)
        audience(new, "simulate", *given, "--output", str(recent))
        # Without a time of its own a record has that of its publishing.
        lines = [line for line in recent.read_bytes().splitlines() if received_times([line])[0]]
        places = [(checkout, work / f"{side}-stream") for side, checkout in (("old", old), ("new", new))]
        for checkout, warehouse in places:
            stream(checkout, warehouse, lines, emulator.host)
        equal &= compare("stream", *places, STAMPS + TIMES_OF_A_STREAM)
    finally:
        emulator.kill()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
