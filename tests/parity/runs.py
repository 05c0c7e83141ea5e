"""The same raw records through the bounded path and through a stream, each into a warehouse of its own."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.audience import Job, build
from pipelines.settings.config import read_config
from pipelines.warehouse import books
from pipelines.warehouse.file_sinks import FileSink, read_confirmed
from pipelines.warehouse.local.notes import note_files
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS
from tests.support.rows import asked
from transforms.block import RAW_SCHEMA, BlockCoder
from transforms.metrics.aggregations import MetricAggregation
from transforms.publication import Launch

STAMPS = {"firing", "generation", "revision", "emitted_time", "failed_time", "pipeline_version"}


class Message(NamedTuple):
    """A record as a queue delivers it."""

    number: int
    received: float  # seconds since 1970
    payload: bytes


def messages(lines: Sequence[bytes]) -> list[Message]:
    """Lines in order of receipt; one that does not say when it was received came with the one before it."""
    out, last = [], 0.0
    for number, line in enumerate(lines, 1):
        last = received_seconds(line) or last
        out.append(Message(number, last, line))
    return out


def raw_block(delivered: Iterable[Message]) -> pl.DataFrame:
    """Messages as a raw block."""
    rows = [
        {
            "payload": each.payload,
            "source": "events",
            "position": f"f:{each.number}",
            "received_time": utc(each.received),
        }
        for each in delivered
    ]
    return pl.DataFrame(rows, schema=RAW_SCHEMA)


def received_seconds(line: bytes) -> float | None:
    """When a line says that it was received."""
    try:
        return datetime.fromisoformat(msgspec.json.decode(line)["received_time"]).timestamp()
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return None


def run(folder: Path, source: beam.PTransform, runner: str, **how) -> LocalWarehouse:
    """One run of the whole graph into a new warehouse."""
    metrics = read_config(None).metrics
    warehouse = LocalWarehouse.open(folder, create=True)
    tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, *map(table_of, metrics))}
    with warehouse.writer() as writer:
        writer.declare(tables.values())
        job = Job(
            source=source,
            sink=FileSink(str(writer.staging), tables, "UTC", note=note_files if how.get("streaming") else None),
            input="f",
            launch=Launch(1, "test"),
            metrics=tuple(MetricAggregation(spec, "UTC") for spec in metrics),
            **how,
        )
        appender = Appender(writer) if job.streaming else None
        options = ["--streaming"] if job.streaming else []
        with beam.Pipeline(runner, options=PipelineOptions(options)) as pipeline:
            build(pipeline, job)
        if appender:
            appender.stop()
        else:
            books.commit(writer, read_confirmed(writer.staging), [], [], job.launch, job.input)
    return warehouse


def bounded(folder: Path, lines: Sequence[bytes], seed: int, block_rows: int = 500, shards: int = 4) -> LocalWarehouse:
    """The bounded path, on the in-process runner: shuffled, cut anywhere."""
    numbered = messages(lines)
    random.Random(seed).shuffle(numbered)
    blocks = [raw_block(numbered[at : at + block_rows]) for at in range(0, len(numbered), block_rows)]
    return run(folder, beam.Create(blocks, reshuffle=False), "FnApiRunner", shards=shards)


def streamed(folder: Path, lines: Sequence[bytes], seed: int, jump: float | None = None, clock=float) -> LocalWarehouse:
    """The streaming path, on the legacy local runner: delivered in order of receipt, shuffled within and between polls.

    The watermark follows at random, and may jump to `jump` before anything is delivered. Processing time starts at
    0, as TestStream has it, and advances past the early intervals.
    """
    rand, numbered = random.Random(seed), messages(lines)
    stream = TestStream(coder=BlockCoder())
    mark = jump or 0.0
    if jump:
        stream = stream.advance_watermark_to(jump)
    polls = []
    while numbered:
        size = rand.randint(1, 120)
        polls.append(numbered[:size])
        del numbered[:size]
    for at in range(len(polls) - 1):
        if rand.random() < 0.2:
            polls[at], polls[at + 1] = polls[at + 1], polls[at]
    for poll in polls:
        rand.shuffle(poll)
        earliest = min(message.received for message in poll)
        stream = stream.add_elements([TimestampedValue(raw_block(poll), earliest)])
        stream = stream.advance_processing_time(rand.choice([1, 15, 70]))
        if rand.random() < 0.4 and earliest > mark:
            mark = earliest
            stream = stream.advance_watermark_to(mark)
    stream = stream.advance_processing_time(7200).advance_watermark_to_infinity()
    source = stream.with_output_types(pl.DataFrame)
    return run(folder, source, "BundleBasedDirectRunner", streaming=True, clock=clock)


def rows(warehouse: LocalWarehouse, sql: str) -> pl.DataFrame:
    """A query's rows without the stamps of their publication, in one order."""
    frame = asked(warehouse, sql)
    frame = frame.select(name for name in frame.columns if name not in STAMPS)
    return frame.sort([name for name, dtype in frame.schema.items() if not dtype.is_nested() and dtype != pl.Binary])


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a time."""
    return datetime.fromtimestamp(seconds, UTC)
