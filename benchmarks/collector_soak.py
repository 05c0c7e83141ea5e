"""Prove that what the collector acknowledged is in the warehouse once, while everything is killed.

    python -m benchmarks.collector_soak [--minutes 10] [--topic] [--seed N] [--write]

Official clients send at once: Segment, RudderStack, PostHog of both protocols, Snowplow and CloudEvents from Python,
Segment from Node (after `npm ci --ignore-scripts --prefix tests/soak/node`), and Plausible's tracker and our script in
Chromium. Without Chromium or the packages of Node, a sender of Plausible's form stands for its tracker. The collector
is killed with SIGKILL every few seconds, its disk is full and its clock is set back in some of its lives, and the
stream on Prism is killed too. A proxy between clients and collector writes down what was acknowledged, without any code
of the product; at the end each of these events has to be in `events` once, every metric has to be the number of events,
and the audit counts have to reconcile. With `--topic` the log is published to Google's emulator, which cannot be
reached for a minute, and the stream reads each message by the mapping of its source. Root gives the log a small disk
of its own, which is filled; for others a limit of the process stands for a full disk. `--write` adds the figures to
RESULTS-collector-soak.md.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.runners.choose import PRISM_HERE
from tests.servers.browser import NAMES as BROWSERS
from tests.servers.pubsub import Queue, make_emulator
from tests.soak.clients import CLIENTS
from tests.soak.faults import gate
from tests.soak.world import EMULATOR, Findings, Plan, World, assert_nothing_lost

NODE = Path(__file__).parents[1] / "tests/soak/node"
PAGE = Path(__file__).parent / "RESULTS-collector-soak.md"
DISK_BYTES = 512 << 20  # more than a stream that was killed leaves unread


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own for the log; None without the rights for it."""
    made = folder / "disk"
    made.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "soak", made], capture_output=True)
    if mounted.returncode:
        print("the log has no disk of its own: a limit of the process stands for a full one", file=sys.stderr)
    try:
        yield None if mounted.returncode else made
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", made], check=True)


def over_log(folder: Path, plan: Plan) -> Findings:
    """The collector's log, read by the stream."""
    with small_disk(folder) as plan.disk:
        return World(folder, str(PRISM_HERE), plan).run()


def over_topic(folder: Path, plan: Plan) -> Findings:
    """The collector's log, published to a topic that cannot be reached for a minute."""
    emulator = make_emulator(folder / "emulator.log")
    emulator.start()
    os.environ[EMULATOR] = emulator.host
    plan.topic_down = 60.0
    try:
        with gate(emulator.port) as door:
            return World(folder, str(PRISM_HERE), plan, Queue(emulator.host), door).run()
    finally:
        emulator.kill()


def main() -> None:
    """Run it, print what was found, and fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--topic", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    node = NODE if (NODE / "node_modules").exists() else None
    if node is None:
        print(
            f"without Segment's client for Node and Plausible's tracker: npm ci --ignore-scripts --prefix {NODE}",
            file=sys.stderr,
        )
    browser = any(map(shutil.which, BROWSERS))
    if not browser:
        print(
            f"without Plausible's tracker and our script: none of {', '.join(BROWSERS)} is installed", file=sys.stderr
        )
    senders = [name for name in CLIENTS if name != "plausible" or not browser or node is None]
    plan = Plan(asked.minutes * 60, asked.seed, senders, browser=browser, node=node)
    with tempfile.TemporaryDirectory() as made:
        found = (over_topic if asked.topic else over_log)(Path(made), plan)
    command = f"python -m benchmarks.collector_soak --minutes {asked.minutes:g}{' --topic' if asked.topic else ''}"
    lines = [f"`{command} --seed {asked.seed}`:", "", *(f"- {line}" for line in found.lines())]
    print("\n".join(lines))
    assert_nothing_lost(found)
    if asked.write:
        page = PAGE.read_text() if PAGE.exists() else "# Results of the soak of the collector\n"
        PAGE.write_text(page + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
