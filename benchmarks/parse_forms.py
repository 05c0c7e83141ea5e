"""Processor time of `parse` alone, by form and by rows of a block, and of other ways to make columns of JSON.

    python -m benchmarks.parse_forms [--events 60000] [--runs 5]

One thread, no Beam; of each figure the lowest of the runs, which take turns. The mapping names every field of the
native format but `properties`, which goes to `extra`; CSV has none. The other ways read plain records only, and none of
them keeps what `parse` promises (exact numbers, an error for each record, derived ids): their figures are floors.
What it does not show: a mapping with many functions, or records that mostly go to `extra`.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.json

from pipelines.apps.simulator.simulate import faults, simulate_lines
from transforms.block import RAW_SCHEMA, tag_input
from transforms.contract import NativeEvent
from transforms.json_objects import encode_json
from transforms.mapping import load_mapping
from transforms.parse import parse

BLOCK_ROWS = (300, 3_000, 50_000)
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


def blocks_of(payloads: list[bytes], rows: int, attributes: str | None) -> list[pl.DataFrame]:
    """RECORD_SCHEMA blocks of so many rows, without what is left."""
    starts = range(0, len(payloads) - rows + 1, rows)
    return [_block(payloads[start : start + rows], start, attributes) for start in starts]


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


Way = tuple[Callable, Sequence]  # and the blocks that it reads


def microseconds(ways: dict[str, Way], rows: int, runs: int) -> dict[str, float]:
    """Processor time of each way in microseconds an event: the lowest of the runs."""
    lowest = dict.fromkeys(ways, float("inf"))
    for _ in range(runs):
        for name, (read, blocks) in ways.items():
            started = time.process_time()
            for block in blocks:
                read(block)
            lowest[name] = min(lowest[name], (time.process_time() - started) / (rows * len(blocks)) * 1e6)
    return lowest


def forms(events: int) -> Callable[[int], dict[str, Way]]:
    """The ways of `parse`, by the rows of a block."""
    lines, mapping = native(events), load_mapping(MAPPING, "parse_forms")
    header, records = as_csv(lines)
    csv = encode_json({"format": "csv", "header": header, "delimiter": ",", "quote": '"'}).decode()
    read, mapped = (partial(parse, mapping=each, source="events") for each in (None, mapping))
    return lambda rows: {
        "native JSON": (read, blocks_of(lines, rows, None)),
        "JSON, mapped": (mapped, blocks_of(lines, rows, None)),
        "CSV, mapped": (mapped, blocks_of(records, rows, csv)),
    }


NAMES = NativeEvent.__struct_fields__
TYPED: dict = {"value": pl.Float64, "quantity": pl.Int64, "is_bot": pl.Boolean, "rating": pl.Float64}
ARROW = {"value": pa.decimal128(38, 9), "quantity": pa.int64(), "is_bot": pa.bool_(), "rating": pa.float64()}


def plain(lines: list[bytes]) -> list[bytes]:
    """The lines that every reader takes: known fields without an object in them, times as texts."""
    records = [(line, msgspec.json.decode(line)) for line in lines]
    return [
        line
        for line, record in records
        if record.keys() <= set(NAMES) - {"properties"} and type(record.get("event_time")) is str
    ]


def readers(events: int) -> Callable[[int], dict[str, Way]]:
    """Ways to make columns of native JSON."""
    lines, connection = plain(native(events)), duckdb.connect(config={"threads": 1})
    types = encode_json(dict.fromkeys(NAMES, "VARCHAR")).decode()
    one = msgspec.json.Decoder(NativeEvent, float_hook=Decimal).decode
    many = msgspec.json.Decoder(list[NativeEvent], float_hook=Decimal).decode
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=64 << 20)
    fields = [(name, ARROW.get(name, pa.string())) for name in NAMES if name != "properties"]
    strict = pyarrow.json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error")

    def by_duckdb(payloads: list[bytes]) -> pa.Table:
        records = pa.table({"record": pa.array(payloads, pa.string())})
        return connection.from_arrow(records).project(f"from_json(record, '{types}')").to_arrow_table()

    def by_arrow(payloads: list[bytes]) -> pa.Table:
        return pyarrow.json.read_json(io.BytesIO(b"\n".join(payloads)), read_options=options, parse_options=strict)

    def by_polars(payloads: list[bytes]) -> pl.DataFrame:
        return pl.read_ndjson(
            io.BytesIO(b"\n".join(payloads)), schema={name: TYPED.get(name, pl.String) for name in NAMES}
        )

    ways: dict[str, Callable] = {
        "msgspec, each, no columns": lambda payloads: list(map(one, payloads)),
        "msgspec, joined, no columns": lambda payloads: many(b"[" + b",".join(payloads) + b"]"),
        "DuckDB, from_json": by_duckdb,
        "PyArrow, read_json": by_arrow,
        "Polars, read_ndjson": by_polars,
    }

    def of_rows(rows: int) -> dict[str, Way]:
        parts = [lines[start : start + rows] for start in range(0, len(lines) - rows + 1, rows)]
        parsed: Way = (partial(parse, mapping=None, source="events"), blocks_of(lines, rows, None))
        return {"parse, of these records": parsed} | {name: (way, parts) for name, way in ways.items()}

    return of_rows


def report(ways_of: Callable[[int], dict[str, Way]], runs: int) -> None:
    """Print microseconds an event, and in brackets how many times that of the first way it is."""
    measured = {rows: microseconds(ways_of(rows), rows, runs) for rows in BLOCK_ROWS}
    print(f"{'us an event, by rows of a block':<34}" + "".join(f"{rows:>16,}" for rows in BLOCK_ROWS))
    for name in measured[BLOCK_ROWS[0]]:
        figures = [(each[name], each[name] / next(iter(each.values()))) for each in measured.values()]
        print(f"{name:<34}" + "".join(f"{each:>9.2f} ({ratio:4.2f})" for each, ratio in figures))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    report(forms(given.events), given.runs)
    print()
    report(readers(2 * given.events), given.runs)


if __name__ == "__main__":
    main()
