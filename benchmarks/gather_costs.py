"""What it costs to gather the messages of small bundles into blocks, as on Dataflow. CPU microseconds, and bytes.

gathering(fitted)   -> lines of a table: a bundle as a block, split and coded, held, and taken up in a large block
"""

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apache_beam.io.gcp.pubsub import PubsubMessage

from benchmarks.cells import Key, arguments
from pipelines.apps.simulator.faults import PRESETS
from pipelines.apps.simulator.live import Live
from pipelines.sources.messages import block_of
from pipelines.sources.pubsub.beam_reader import poll_of_messages
from transforms import gather

BUNDLES = (10, 30, 100, 300)  # messages
BLOCKS = 100
START = 1_772_366_400.0
PARTS = ("block of a bundle", "split and coded", "held", "taken up")


def gathering(fitted: Callable) -> list[str]:
    """Bundles of one shard, of which `fitted` finds the cost of a call and of a row."""
    found = {rows: _costs(rows) for rows in BUNDLES}
    lines = ["| of a bundle | " + " | ".join(f"{rows} messages" for rows in BUNDLES) + " | a call | a row |"]
    lines.append("|---|" + "---:|" * (len(BUNDLES) + 2))
    for part in (*PARTS, "bytes to the shard"):
        call, row = fitted([((1.0, float(rows)), found[rows][part]) for rows in BUNDLES])
        cells = " | ".join(f"{found[rows][part]:,.0f}" for rows in BUNDLES)
        lines.append(f"| {part} | {cells} | {call:,.0f} | {row:.2f} |")
    return lines


def _costs(rows: int) -> dict[str, float]:
    live, spent = Live(rows * BLOCKS, 7, PRESETS["none"]), defaultdict[str, float](float)
    split, hold = gather._Split(1), gather._Hold(timedelta(seconds=1), lambda: START)
    held = Key((hold.BLOCKS, hold.GATHERED), (hold.SOON, hold.END))
    size = 0
    published = datetime.fromtimestamp(START, UTC)
    for first in range(0, len(live), rows):
        lines = [line for _, line in live.lines(first, rows, START)]
        messages = [PubsubMessage(line, {}, f"{first + at}", published) for at, line in enumerate(lines)]
        at = time.process_time()
        block = block_of([poll_of_messages(messages, None, START)], "events")
        at = _spend(spent, "block of a bundle", at)
        [small] = split.process(block)
        at = _spend(spent, "split and coded", at)
        size += len(small.value[1][2])
        emitted = list(hold.process(small.value, **arguments(hold.process, 0, held, START)))
        _spend(spent, "taken up" if emitted else "held", at)
    at = time.process_time()
    list(hold.emit_soon(**arguments(hold.emit_soon, 0, held)))
    _spend(spent, "taken up", at)
    return {part: seconds / BLOCKS * 1e6 for part, seconds in spent.items()} | {"bytes to the shard": size / BLOCKS}


def _spend(spent: dict[str, float], part: str, since: float) -> float:
    now = time.process_time()
    spent[part] += now - since
    return now
