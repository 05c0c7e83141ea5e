"""Time of `parse` alone for the same events in three formats: native JSON, JSON through a mapping, CSV through one.

    python -m benchmarks.parse_forms [--events 60000] [--runs 5]

Blocks of 16 MB, one thread, no Beam. The mapping names every field of the native format, so all three yield the same
events; CSV has no `properties`. What it does not show: a mapping with many functions, or records that mostly go to
`extra`.
"""

import argparse
import io
import time
from collections.abc import Iterable
from statistics import median

import polars as pl

from pipelines.apps.simulator.simulate import faults, simulate_lines
from transforms.block import RAW_SCHEMA, tag_input
from transforms.mapping import Mapping, load_mapping
from transforms.parse import parse
from transforms.records.payloads import encode_json

BLOCK_BYTES = 16 << 20
TEXTS = ("user_id", "anonymous_id", "session_id", "content_id", "content_type", "category", "channel", "campaign")
REST = ("referrer", "country", "device", "value", "currency", "quantity", "is_bot", "text", "rating")
FIELDS = ("event_id", "event_type", *TEXTS, *REST)
TIMES = ("event_time", "sent_time", "received_time")
MAPPING = "source: events\nfields:\n" + "".join(
    f"  {name}: {{path: {name}{', time: rfc3339' if name in TIMES else ''}}}\n" for name in (*TIMES, *FIELDS)
)


def native(events: int) -> list[bytes]:
    """Lines of simulated events that can all be read."""
    return [line for _, line in simulate_lines(events=events, seed=7, faults=faults(malformed=0))]


def as_csv(lines: list[bytes]) -> tuple[list[str], list[bytes]]:
    """(header, the same events as CSV records)."""
    frame = pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None)
    flat = frame.select(name for name in (*TIMES, *FIELDS) if name in frame.columns)
    return flat.columns, flat.write_csv(include_header=False).encode().splitlines()


def blocks_of(payloads: list[bytes], attributes: str | None) -> list[pl.DataFrame]:
    """RECORD_SCHEMA blocks of about BLOCK_BYTES."""
    made, start, size = [], 0, 0
    for at, payload in enumerate(payloads, 1):
        size += len(payload)
        if size >= BLOCK_BYTES or at == len(payloads):
            made.append(_block(payloads[start:at], start, attributes))
            start, size = at, 0
    return made


def _block(payloads: list[bytes], start: int, attributes: str | None) -> pl.DataFrame:
    rows = len(payloads)
    columns = {
        "payload": payloads,
        "received_time": [None] * rows,
        "source": ["events"] * rows,
        "position": [f"events:{start + at}" for at in range(rows)],
        "attributes": [attributes] * rows,
    }
    return tag_input(pl.DataFrame(columns, schema=RAW_SCHEMA), "events")


def microseconds(blocks: Iterable[pl.DataFrame], mapping: Mapping | None, runs: int) -> tuple[int, float]:
    """(events made, microseconds an event: the median of the runs)."""
    took, made = [], 0
    for _ in range(runs):
        started = time.perf_counter()
        made = sum(parse(block, mapping, "events").passed.height for block in blocks)
        took.append(time.perf_counter() - started)
    return made, median(took) / made * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    lines, mapping = native(given.events), load_mapping(MAPPING, "parse_forms")
    header, rows = as_csv(lines)
    csv = encode_json({"format": "csv", "header": header, "delimiter": ",", "quote": '"'}).decode()
    forms = {
        "native JSON": (blocks_of(lines, None), None),
        "JSON, mapped": (blocks_of(lines, None), mapping),
        "CSV, mapped": (blocks_of(rows, csv), mapping),
    }
    base = 0.0
    print(f"{'form':<14}{'MB':>8}{'events':>10}{'us an event':>13}{'to native':>11}")
    for name, (blocks, spec) in forms.items():
        events, each = microseconds(blocks, spec, given.runs)
        base = base or each
        size = sum(block["payload"].bin.size().sum() for block in blocks) / 1e6
        print(f"{name:<14}{size:>8.1f}{events:>10,}{each:>13.2f}{each / base:>11.2f}")


if __name__ == "__main__":
    main()
