"""The table of docs/why/local-sockets.md: what every command, and every server of the tests, listens on.

python -m tests.servers.list_sockets    prints it (two minutes; it needs what `make tools` installs, and Java)

A command is inspected twenty times a second from its start to its end, with all processes that it starts; one that
others could reach ends the program with an error.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipelines.apps.demo.emulators import pubsub_emulator
from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.bigquery import bigquery_emulator
from tests.servers.collector import collecting
from tests.servers.dataflow import dataflow_service
from tests.servers.needed import wait_until
from tests.servers.pubsub import Queue
from tests.servers.sockets import Listening, listening, watched
from tests.servers.storage import storage_at

AUDIENCE = [sys.executable, "-m", "pipelines.cli"]
EVERY_SECONDS = 0.05
JOB = "--project=my-project --region=europe-west1 --bucket=my-bucket --image=europe-docker.pkg.dev/p/r/audience:t"
STREAM = "--dataset my-project.audience --input_subscription projects/my-project/subscriptions/events"
COMMANDS = (
    "simulate --events 5000 --seed 7 --output e.jsonl",
    "mapping --from e.jsonl",
    "backfill --input e.jsonl --workers 1",
    "backfill --input e.jsonl --workers 2 --warehouse two",
    "recompute --workers 2",
    "replay --workers 2",
    "query 'SELECT 1'",
    "report",
    "person --find nobody",
    "plan --events_per_second 1000",
    "config --show",
    "doctor",
    f"deploy stream {JOB} {STREAM} --dry_run",
)


def main() -> None:
    """Run all, and print the rows as they come."""
    print("| command | Unix sockets in the private folder | TCP, on 127.0.0.1 alone |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for words in COMMANDS:
            shown = words.partition(" --project")[0]
            print(row(f"`audience {shown}`", of_command(words)), flush=True)
        print(row("`audience collect --log collected`", of_collector(Path(folder))), flush=True)
        print(row("`audience demo`", of_command("demo")), flush=True)
        print(row("`audience demo --stream`", of_command("demo --stream --minutes 0.1")), flush=True)
        with pubsub_emulator(Path("emulator.log")) as emulator:
            os.environ[EMULATOR] = emulator.host
            for name in ("PrismRunner", "BundleBasedDirectRunner"):
                print(row(f"`audience run --runner={name}`", of_stream(emulator.host, name)), flush=True)
            print(row("Pub/Sub emulator", listening(emulator.process.pid)))
        print(row("BigQuery emulator, for tests", of_servers(bigquery_emulator())))
        print(row("Cloud Storage server, for tests", of_servers(storage_at(Path(folder)))))
        print(row("stand-in for Dataflow, for tests", of_servers(dataflow_service())))


def row(title: str, found: Iterable[Listening]) -> str:
    """A row of the table: how many sockets of each program."""
    cells = []
    for kind in ("unix", "tcp"):
        programs = sorted(each.program for each in found if each.kind == kind)
        counts = {name: programs.count(name) for name in programs}
        cells.append(", ".join(f"{name} {count}" for name, count in counts.items()) or "none")
    return f"| {title} | {' | '.join(cells)} |"


def of_collector(folder: Path) -> set[Listening]:
    """Of a collector that answers."""
    with collecting(folder) as made:
        return listening(made.process.pid)


def of_command(words: str) -> set[Listening]:
    """Of a command and what it starts, from its start to its end."""
    line = f"exec {sys.executable} -m pipelines.cli {words}"
    with (
        open("log", "wb") as log,
        subprocess.Popen(line, shell=True, stdout=log, stderr=log) as process,
        watched(process.pid, EVERY_SECONDS) as found,
    ):
        status = process.wait()
    assert status == 0, Path("log").read_text()
    return found


def of_stream(host: str, runner: str) -> set[Listening]:
    """Of a stream, until it has read a message and is stopped."""
    queue, log, place = Queue(host), Path(f"{runner}.log"), ["--warehouse", runner]
    words = [*AUDIENCE, "run", f"--runner={runner}", "--input_subscription", queue.subscription, *place]
    with log.open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as process:
        try:
            with watched(process.pid, EVERY_SECONDS) as found:
                queue.publish(b"no event")
                wait_until(lambda: "reading projects/" in log.read_text(), 60, "the stream reads")
                wait_until(lambda: list(Path(runner).rglob("*.parquet")), 90, "what it read is written")
        finally:
            process.terminate()
    return found


def of_servers(server) -> set[Listening]:
    """What a server adds to what this process and its children listen on."""
    before = listening(os.getpid())
    with server:
        return listening(os.getpid()) - before


if __name__ == "__main__":
    main()
