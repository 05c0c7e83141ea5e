"""Serving persons: latency of a request, beside a bare path of the same server, and memory for so many persons.

    python -m benchmarks.serving                          100,000 persons: two minutes
    python -m benchmarks.serving --persons 1000000        a million: some ten minutes
    python -m benchmarks.serving --persons --behind       only how far behind an event the answers are (make prism)
    python -m benchmarks.serving --persons 100000 1000000 --behind --write    to RESULTS-serving.md

`audience live --people_keys` runs over answers that this program writes: of each person a profile, 10 interests and 10
recommendations, of every fifth a value. This program asks for persons by chance over connections that stay open, on the
same machine: first in quiet, then while a hundred events are committed twice a second, then while a refresh replaces
all answers. `bare` is /healthz. Memory is the resident set, less that of the same process over answers of nobody.

With `--behind`, `audience live --collect` runs with a hundred simulated events a second (make prism), and events of one
person after another are sent to its collector: each is behind by the time from its request to the answer that has it.
"""

import argparse
import http.client
import json
import os
import random
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import polars as pl
import psutil

from benchmarks.live import committing, running
from benchmarks.machine import describe, measure_speed
from pipelines.apps.live.people.keys import add_reader
from pipelines.insight.place import answers_of
from pipelines.insight.profile_tables import RECOMMENDATIONS, USER_INTERESTS, USER_PROFILES, USER_VALUES
from pipelines.runners.choose import PRISM_HERE
from pipelines.warehouse.answers import AS_OF, REFRESHES
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import Table
from tests.servers.collector import free_port

RESULTS = Path(__file__).parent / "RESULTS-serving.md"
PERSONS = 100_000
EACH = 10  # interests, and recommendations, of a person
CONTENTS = 5_000
REQUESTS = 2_000  # of a figure
CONNECTIONS = 4
GOAL_MS = 5.0
EVENTS, WARM_EVENTS, BEHIND_GOAL, MOST_SECONDS = 100, 10, 3.0, 180.0
TABLES = (USER_PROFILES, USER_INTERESTS, USER_VALUES, RECOMMENDATIONS)


def person(number: int) -> str:
    """The name of a person, as long as a UUID without its signs."""
    return f"{number * 2654435761 % 2**32:08x}{number:024x}"


def answers(count: int, as_of: datetime) -> dict[str, pl.DataFrame]:
    """Rows of each table for so many persons."""
    number = pl.int_range(count, eager=True).alias("number")
    names = pl.Series("person", [person(each) for each in range(count)])
    content = pl.format("content-{}", pl.col("number").hash(1) % CONTENTS)
    base = pl.DataFrame([names, number])
    profiles = base.select(
        "person", is_user=pl.lit(True), first_seen=pl.lit(as_of - timedelta(days=90)),
        last_seen=pl.lit(as_of - timedelta(hours=1)), recency_days=pl.col("number") % 9 / 7, hour=pl.col("number") % 24,
        **{name: pl.col("number") % 97 for name in ("events", "events_1d", "events_7d", "events_28d", "active_days_28d",
                                                     "sessions_28d", "engaged_sessions_28d")},
        session_seconds_28d=pl.col("number") / 7, channel=pl.lit("email"), content_id=content,
        category=pl.format("category-{}", pl.col("number") % 40), segment=pl.lit("regular"),
    )  # fmt: skip
    many = base.select(pl.all().repeat_by(EACH)).explode("person", "number")
    many = many.with_columns(place=pl.int_range(pl.len()) % EACH + 1).with_columns(
        number=pl.col("number") * EACH + pl.col("place")
    )
    half = pl.col("place") <= EACH // 2
    interests = many.select(
        "person", dimension=pl.when(half).then(pl.lit("category")).otherwise(pl.lit("content")),
        place=(pl.col("place") - 1) % (EACH // 2) + 1,
        key=pl.when(half).then(pl.format("category-{}", pl.col("place"))).otherwise(content),
        weight=pl.col("number") / 13, share=pl.lit(0.2),
    )  # fmt: skip
    liked = many.select(
        "person", "place", content_id=content, reason=pl.lit("similar"),
        because=pl.format("content-{}", pl.col("number").hash(2) % CONTENTS), score=pl.col("number") / 17,
    )  # fmt: skip
    values = base.filter(pl.col("number") % 5 == 0).select(
        "person", currency=pl.lit("EUR"), purchases=pl.col("number") % 7,
        revenue=(pl.col("number") % 1000).cast(pl.Decimal(38, 9)), last_purchase=pl.lit(as_of - timedelta(days=3)),
        purchase_days=pl.col("number") % 7, alive=pl.lit(0.5), expected_value=pl.lit(12.5),
    )  # fmt: skip
    found = (profiles, interests, values, liked)
    return {table.name: rows for table, rows in zip(TABLES, found, strict=True)}


def _whole(rows: pl.DataFrame, table: Table, as_of: datetime) -> pl.DataFrame:
    missing = [pl.lit(None).alias(each.name) for each in table.columns if each.name not in rows.columns]
    stated = rows.with_columns(missing).with_columns(pl.lit(as_of).alias(AS_OF), pipeline_version=pl.lit("benchmark"))
    return shaped(stated, table).sort(table.key)


def refresh(folder: Path, count: int, as_of: datetime) -> None:
    """Write answers about so many persons in the place of those that are there, as a refresh does."""
    warehouse = LocalWarehouse.open(folder, create=True)
    with answers_of(warehouse) as inner, inner.writer(of_answers=True) as run:
        run.declare([*TABLES, REFRESHES])
        found = answers(count, as_of) if count else {}
        note = pl.DataFrame({"table_name": list(found), "row_count": [rows.height for rows in found.values()]})
        note = note.with_columns(content=pl.lit(secrets.token_hex(8)))
        tables = [(table, found[table.name]) for table in TABLES if found]
        entries = [
            write_file(run.staging, table.name, day, part)
            for table, rows in [*tables, (REFRESHES, note)]
            for day, part in by_day(_whole(rows, table, as_of), AS_OF, "UTC")
        ]
        run.commit(entries, {table.name: None for table in (*TABLES, REFRESHES)})


@contextmanager
def served(folder: Path, keys: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The port of the process that serves the persons of a folder, ready to be asked, and the process."""
    port, said = free_port(), folder.parent / "said.txt"
    command = ["live", "--warehouse", str(folder), "--port", str(port), "--people_keys", str(keys)]
    with running(command, said) as process:
        while process.poll() is None:
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                try:
                    connection.request("GET", "/healthz")
                    connection.getresponse().read()
                    break
                except OSError:
                    time.sleep(0.1)
        if process.poll() is not None:
            raise SystemExit(said.read_text())
        yield port, psutil.Process(process.pid)


class Client:
    """Asks over connections that stay open, and notes how long each answer takes, in milliseconds."""

    def __init__(self, port: int, key: str, count: int):
        self._port, self._key, self._count = port, key, count

    def measure(self, path: str, requests: int, connections: int, until: threading.Event | None = None) -> list[float]:
        """Ask so many times, or until an event is set; `{}` in the path stands for a person."""
        found: list[float] = []
        threads = [
            threading.Thread(target=self._ask, args=(path, requests // connections, seed, found, until))
            for seed in range(connections)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return found

    def as_of(self) -> datetime:
        """As of when the answers are that are served."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            headers = {"Authorization": f"Bearer {self._key}"}
            connection.request("GET", f"/v1/profiles/{person(0)}", headers=headers)
            return datetime.fromisoformat(json.loads(connection.getresponse().read())["as_of"])

    def _ask(self, path: str, requests: int, seed: int, found: list[float], until: threading.Event | None) -> None:
        chance, headers, done = random.Random(seed), {"Authorization": f"Bearer {self._key}"}, 0
        with closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            while (until is None and done < requests) or (until is not None and not until.is_set()):
                who = path.format(person(chance.randrange(self._count)))
                begun = time.perf_counter()
                connection.request("GET", who, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
                found.append((time.perf_counter() - begun) * 1e3)
                done += 1
                assert answer.status == 200, body


def described(found: list[float]) -> str:
    """50, 95 and 99 % of the answers within so many milliseconds."""
    parts = quantiles(found, n=100)
    return f"50 % within {parts[49]:.2f} ms, 95 % within {parts[94]:.2f}, 99 % within {parts[98]:.2f}"


def processor_seconds(process: psutil.Process) -> float:
    """What it has used so far; unlike latency it does not depend on what else runs on the machine."""
    return float(sum(process.cpu_times()[:2]))


def megabytes(process: psutil.Process) -> float:
    """Its resident set."""
    return float(process.memory_info().rss / 1e6)


def measure(count: int, scratch: Path, note: Any) -> None:
    """All figures for so many persons."""
    folder, keys, now = scratch / "warehouse", scratch / "keys.json", datetime.now(UTC).replace(microsecond=0)
    key, _ = add_reader(keys, "bench", timedelta(days=1))
    refresh(folder, 0, now)
    with served(folder, keys) as (_, process):
        nobody = megabytes(process)
    refresh(folder, count, now - timedelta(minutes=1))
    begun = time.monotonic()
    with served(folder, keys) as (port, process):
        took, rows = time.monotonic() - begun, megabytes(process) - nobody
        note(
            f"{count:,} persons: {rows:,.0f} MB beside the {nobody:,.0f} MB of the process, {rows * 1e6 / count:,.0f} "
            f"bytes each; ready after {took:.1f} s"
        )
        client = Client(port, key, count)
        kinds = {"bare": "/healthz", "profile": "/v1/profiles/{}", "recommendations": "/v1/recommendations/{}"}
        client.measure(kinds["profile"], REQUESTS // 4, 1)
        for connections in (1, CONNECTIONS):
            for name, path in kinds.items():
                before = processor_seconds(process)
                found = client.measure(path, REQUESTS, connections)
                each = (processor_seconds(process) - before) / len(found) * 1e3
                told = f"{described(found)}; {each:.2f} ms of processor time of the server each"
                note(f"{count:,} persons, {name}, {_connections(connections)}: {told}")
        with committing(folder):
            found = client.measure(kinds["profile"], 2 * REQUESTS, 1)
        note(f"{count:,} persons, profile, one connection, two commits a second: {described(found)} (goal {GOAL_MS:g})")
        _measure_refresh(count, folder, client, process, note)


def _measure_refresh(count: int, folder: Path, client: Client, process: psutil.Process, note: Any) -> None:
    """Latency and memory while new answers take the place of those that are served."""
    refreshed, most, stop = datetime.now(UTC).replace(microsecond=0), [0.0], threading.Event()
    watching = threading.Thread(target=lambda: _watch(process, most, stop))
    refresh(folder, count, refreshed)  # what writes it is a process of its own, and is not measured
    watching.start()
    asked: list[float] = []
    asking = threading.Thread(target=lambda: asked.extend(client.measure("/v1/profiles/{}", 0, 1, stop)))
    asking.start()
    begun = time.monotonic()
    while client.as_of() != refreshed:
        time.sleep(0.05)
    took = time.monotonic() - begun
    stop.set()
    asking.join()
    watching.join()
    note(
        f"{count:,} persons, profile, one connection, while a refresh is read ({took:.1f} s): {described(asked)}; "
        f"at most {most[0]:,.0f} MB of the process"
    )


def _watch(process: psutil.Process, most: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        most[0] = max(most[0], megabytes(process))


def behind(scratch: Path, note: Any) -> None:
    """Seconds from the request with an event of a person to the answer that has it."""
    folder, keys, found = scratch / "streamed", scratch / "streamed.json", []
    key, _ = add_reader(keys, "bench", timedelta(days=1))
    refresh(folder, PERSONS // 100, datetime.now(UTC).replace(microsecond=0))
    page, collector = free_port(), free_port()
    command = ["live", "--collect", str(scratch / "log"), "--collect_port", str(collector), "--port", str(page)]
    command += ["--warehouse", str(folder), "--people_keys", str(keys), "--simulate", "100", "--prism_location"]
    with running([*command, str(PRISM_HERE)], scratch / "streamed.txt") as process:
        for number in range(-WARM_EVENTS, EVENTS):
            who, what = person(number % 500), f"probe-{number}"
            begun = time.monotonic()
            while _send(collector, who, what) != 202:
                _wait(process, begun, scratch / "streamed.txt")
            sent = time.monotonic()
            while _last_content(page, key, who) != what:
                _wait(process, sent, scratch / "streamed.txt")
            if number >= 0:
                found.append(time.monotonic() - sent)
            time.sleep(number % 7 / 10)  # at any moment between two commits
    parts = quantiles(found, n=100)
    note(
        f"an event is in the answer: 50 % within {parts[49]:.2f} s, 95 % within {parts[94]:.2f}, 99 % within "
        f"{parts[98]:.2f}, all within {max(found):.2f} (goal {BEHIND_GOAL:g}); {len(found)} events, 100 others a second"
    )


def _wait(process: Any, since: float, said: Path) -> None:
    if process.poll() is not None or time.monotonic() - since > MOST_SECONDS:
        raise SystemExit(said.read_text())
    time.sleep(0.02)


def _send(port: int, who: str, what: str) -> int:
    event = {"event_id": what, "event_type": "click", "event_time": datetime.now(UTC).isoformat(), "user_id": who}
    return _asked(port, "POST", "/v1/events", {}, json.dumps(event | {"channel": "web", "content_id": what}))[0]


def _last_content(port: int, key: str, who: str) -> str | None:
    status, body = _asked(port, "GET", f"/v1/profiles/{who}", {"Authorization": f"Bearer {key}"})
    return (json.loads(body)["live"] or {}).get("last_content_id") if status == 200 else None


def _asked(port: int, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; status 0 while nobody listens."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""


def _connections(count: int) -> str:
    return "one connection" if count == 1 else f"{count} connections at once"


def main() -> None:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, nargs="*", default=[PERSONS])
    parser.add_argument("--behind", action="store_true")
    parser.add_argument("--write", action="store_true")
    values = parser.parse_args()
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    note(f"load of the machine before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    note(describe(measure_speed()))
    for count in values.persons:
        with tempfile.TemporaryDirectory() as name:
            measure(count, Path(name), note)
    if values.behind:
        with tempfile.TemporaryDirectory() as name:
            behind(Path(name), note)
    if values.write:
        listed = "\n".join(f"- {line}" for line in lines)
        command = f"python -m benchmarks.serving {' '.join(sys.argv[1:])}"
        head = f"# Serving persons\n\n`{command}`, {datetime.now(UTC):%Y-%m-%d}.\n\n"
        RESULTS.write_text(f"{head}{listed}\n")


if __name__ == "__main__":
    main()
