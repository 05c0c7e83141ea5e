"""Count what one block of a stream costs before its rows do: the calls of Polars and the Arrow IPC encodings.

    python -m benchmarks.block_calls [--rows N]

One block of simulated events in order goes through the whole graph of a stream into a local warehouse (driven.py), with
the shipped catalogue, sessions and one shard: from the block of a reader until its rows are in state and in staged
files. A block before it warms up; no timer fires. Counts do not depend on the machine, so a test can hold them
(tests/transforms/test_block_calls.py).

A call counts if our code makes it and it works over the rows: of a DataFrame, a Series or a group of rows, collect,
concat, a reader or a writer. Building an expression does not count, nor does asking for a size, a type, a column or one
value: that takes the same time whatever the block holds, a microsecond or two.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from benchmarks.capacity import START, raw_block
from benchmarks.driven import Driven, Figures
from pipelines.apps.simulator.faults import PRESETS
from pipelines.apps.simulator.live import Live
from pipelines.settings.config import read_config
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.local.notes import note_files
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS

ROWS = 350
AT = START + 630.0  # in the middle of a minute: the block lies in one window of each metric
POLARS = str(Path(pl.__file__).parent)
OURS = tuple(str(Path(__file__).parents[1] / folder) for folder in ("pipelines", "transforms"))
WRAPPERS = f"{POLARS}/_utils/"  # decorators: what they wrap is called from where they are
EXECUTES = ("dataframe/", "series/", "io/", "functions/eager.py", "lazyframe/frame.py", "convert/")
FREE = {
    "height",
    "width",
    "columns",
    "schema",
    "shape",
    "name",
    "dtype",
    "dtypes",
    "is_empty",
    "len",
    "__len__",
    "lazy",
    "alias",
    "clone",
    "get_columns",
    "item",
    "null_count",
    "row",
    "slice",
    "to_frame",
    "to_series",
    "estimated_size",
}
NAMESPACES = {"dt", "str", "bin", "list", "arr", "struct", "cat", "ext"}  # the accessor; its methods count
EXECUTING_LAZY = {"collect", "sink_parquet", "sink_ipc", "fetch"}
EAGER = {"repeat", "int_range", "int_ranges", "date_range", "datetime_range"}  # where `eager` is stated
WRITES_IPC = {"write_ipc", "write_ipc_stream", "sink_ipc"}


class BlockCalls(NamedTuple):
    """Of one block: the calls of Polars, how many of them encode Arrow IPC, and the calls of each part by name."""

    calls: int
    encodings: int
    parts: dict[str, Counter[str]]


def executed(frame: FrameType) -> str | None:
    """Return the name of a function of Polars that executes; None of another."""
    code = frame.f_code
    place, name, plain = code.co_filename.removeprefix(f"{POLARS}/"), code.co_qualname, code.co_name
    if place.startswith("functions/") and plain in EAGER:
        return name if frame.f_locals.get("eager") else None
    if not place.startswith(EXECUTES) or plain in FREE or plain in NAMESPACES:
        return None
    if place.startswith("lazyframe") and plain not in EXECUTING_LAZY:
        return None
    if plain == "__getitem__" and not isinstance(frame.f_locals.get("key"), (pl.Series, np.ndarray, slice)):
        return None  # a column, some columns, one value
    if plain == "__init__" and not name.startswith(("DataFrame.", "Series.")):
        return None  # of a namespace, of a group: the method that follows counts
    return name


class _Watch(Figures):
    """Counts the calls of each part in place of its time."""

    def __init__(self):
        super().__init__()
        self.parts: dict[str, Counter[str]] = {}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        found, before = self.parts.setdefault(part, Counter()), sys.getprofile()

        def watch(frame: FrameType, event: str, _: Any) -> None:
            if event != "call":
                return
            name = executed(frame)
            if name is not None and caller(frame).startswith(OURS):
                found[shown(name, frame)] += 1

        sys.setprofile(watch)
        try:
            yield
        finally:
            sys.setprofile(before)


def shown(name: str, frame: FrameType) -> str:
    """Return the name of a method; that of a Series which is executed as an expression is known to its wrapper only."""
    return f"Series: {frame.f_locals['func'].__qualname__}" if name.startswith("call_expr") else name


def caller(frame: FrameType) -> str:
    """Return the file that calls a function, through the decorators of Polars."""
    back = frame.f_back
    while back is not None and back.f_code.co_filename.startswith(WRAPPERS):
        back = back.f_back
    return "" if back is None else back.f_code.co_filename


def count_block(rows: int = ROWS, *, in_order: bool = True) -> BlockCalls:
    """Count the calls of a block of so many events; else as the simulator delays some of them, by up to ten minutes."""
    metrics, lines = read_config(None).metrics, _lines(2 * rows, in_order)
    tables = {table.name: table for table in (EVENTS, QUARANTINE, SESSIONS, QUALITY_1M)}
    with tempfile.TemporaryDirectory() as staging:
        sink = FileSink(staging, tables | {spec.name: table_of(spec) for spec in metrics}, "UTC", note=note_files)
        watch = _Watch()
        stream = Driven(metrics, shards=1, sink=sink, figures=watch)
        stream.at(AT)
        for first in (0, rows):
            watch.parts.clear()
            stream.deliver(raw_block(lines[first : first + rows], AT))
    every = sum(watch.parts.values(), Counter[str]())
    encodings = sum(number for name, number in every.items() if name.rpartition(".")[2] in WRITES_IPC)
    return BlockCalls(every.total(), encodings, watch.parts)


def _lines(rows: int, in_order: bool) -> list[tuple]:
    live = Live(rows + rows // 10, 7, PRESETS["none"])
    lines = live.lines(0, len(live), AT)
    minute = datetime.fromtimestamp(AT // 60 * 60, UTC).isoformat()
    at_once = [line for line in lines if msgspec.json.decode(line[1])["event_time"] >= minute]
    return (at_once if in_order else lines)[:rows]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--delayed", action="store_true", help="as the simulator delays some, by up to ten minutes")
    options = parser.parse_args()
    counted = count_block(options.rows, in_order=not options.delayed)
    print(
        f"A block of {options.rows:,} events: {counted.calls} calls of Polars, of which {counted.encodings} encode.\n"
    )
    print("| part | calls | which |\n|---|---:|---|")
    for part, names in sorted(counted.parts.items(), key=lambda each: -each[1].total()):
        if not names:
            continue
        which = ", ".join(f"{number} {name}" if number > 1 else name for name, number in names.items())
        print(f"| {part} | {names.total()} | {which} |")


if __name__ == "__main__":
    main()
