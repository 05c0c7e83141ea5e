"""Mutated records through every rule up to deduplication: no exception, and each ends in exactly one place.

The lines are simulated, and real ones of the sets that mappings are shipped for; the mutations are those that transport
and broken writers make. 20 seconds in CI, some elsewhere; `FUZZ_INPUTS=1000000` runs until as many were tried.
"""

import gzip
import os
import random
import time
from datetime import timedelta

import polars as pl
import pytest

from pipelines.apps.simulator.simulate import faults, simulate_lines
from pipelines.settings.config import TEMPLATES, read_mapping
from tests.support.real_data import real_set
from transforms.block import RAW_SCHEMA, REJECTED_SCHEMA, tag_input
from transforms.event_time import settle_event_time
from transforms.lateness import Lateness
from transforms.parse import parse
from transforms.validate import Validator

FORMS = ("native", "github-events", "wikipedia-edits", "otto-sessions", "ad-impressions")
SECONDS = 20 / len(FORMS) if os.environ.get("CI") else 1.5  # for each form
INPUTS = int(os.environ.get("FUZZ_INPUTS", "0")) // len(FORMS)
BLOCK = 1_000
TOKENS = (
    *(b"null", b"{}", b"[]", b'""', b"NaN", b"-Infinity", b"1e999", b"1e-999", b"-0.0", b"9" * 40, b"0x10", b"true"),
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u0000",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
        b'"',
        b"\\",
        b"\r",
    ),
    *(b",", b";", b'""', b"2026-02-30T25:61:61Z", b"0000-00-00", b"1969-12-31T23:59:59Z", b"[" * 300, b'{"a":' * 300),
)
RULES = (Validator(), settle_event_time, Lateness(timedelta(days=1)))


def seeds(form: str) -> tuple[list[bytes], str | None]:
    """(records to begin with, the attributes by which they are read)"""
    if form == "native":
        return [line for _, line in simulate_lines(events=3_000, seed=5, faults=faults("many"))], None
    if form == "ad-impressions":
        lines = gzip.decompress((TEMPLATES / "samples/ad-impressions/men.csv.gz").read_bytes()).splitlines()
        header = '","'.join(lines[0].decode().split(","))
        return lines[1:2_000], f'{{"format":"csv","header":["{header}"],"delimiter":",","quote":"\\""}}'
    file = min(real_set(form).glob("*.json*"))
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()[:2_000], None


def mutated(line: bytes, others: list[bytes], draw: random.Random) -> bytes:
    for _ in range(draw.randint(0, 3)):
        at, to = sorted((draw.randint(0, len(line)), draw.randint(0, len(line))))
        head, middle, tail = line[:at], line[at:to], line[to:]
        token, other = draw.choice(TOKENS), draw.choice(others)
        changed = (
            head + bytes([draw.randrange(256)]) + line[at + 1 :],
            head + tail,
            head,
            head + token + middle + tail,
            head + token + tail,
            head + middle + middle + tail,
            head + other[draw.randint(0, len(other)) :],
        )
        line = draw.choice(changed)
    return line


def block_of(payloads: list[bytes], attributes: str | None) -> pl.DataFrame:
    rows = {"payload": payloads, "position": [f"f:{line}" for line in range(1, len(payloads) + 1)]}
    raw = pl.DataFrame(rows, schema={"payload": pl.Binary, "position": pl.String}).with_columns(
        received_time=pl.lit(None, RAW_SCHEMA["received_time"]), source=pl.lit("events"), attributes=pl.lit(attributes)
    )
    return tag_input(raw.select(pl.col(name).cast(dtype) for name, dtype in RAW_SCHEMA.items()), "f")


def ended(records: pl.DataFrame, mapping) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(passed, rejected) of all rules that a record's own fields decide."""
    passed, rejected = parse(records, mapping, "events")
    refused = [rejected]
    for rule in RULES:
        passed, rejected = rule(passed)
        refused.append(rejected)
    return passed, pl.concat(refused)


def assert_each_in_one_place(records: pl.DataFrame, passed: pl.DataFrame, rejected: pl.DataFrame) -> None:
    assert rejected.schema == REJECTED_SCHEMA
    where = pl.concat(each.select("position", "part", "payload") for each in (passed, rejected))
    base = pl.col("position").str.extract(r"^(f:[0-9]+)")
    parts = where.group_by(base).agg(pl.col("part").sort(), pl.col("payload").n_unique().alias("bytes"))
    assert sorted(parts["position"]) == sorted(records["position"])
    assert parts["bytes"].max() in (1, None)
    assert parts.select((pl.col("part") == pl.int_ranges(0, pl.col("part").list.len())).all()).item()
    kept = where.select(base, "payload").unique().join(records, on=["position", "payload"], how="semi")
    assert kept.height == records.height
    assert rejected.select("stage", "code", "errors", "source").null_count().sum_horizontal().sum() == 0
    told = passed.select("event_id", "event_type", "event_time", "received_time", "source", "time_source")
    assert told.null_count().sum_horizontal().sum() == 0


@pytest.mark.parametrize("form", FORMS)
def test_every_mutated_record_ends_in_exactly_one_place(form):
    lines, attributes = seeds(form)
    mapping = None if form == "native" else read_mapping(str(TEMPLATES / "mappings" / f"{form}.yaml"))
    draw = random.Random(os.environ.get("FUZZ_SEED", time.time_ns()))
    until, tried, passing, refused = time.monotonic() + SECONDS, 0, 0, 0
    while tried < INPUTS or (not INPUTS and time.monotonic() < until):
        state = draw.getstate()
        records = block_of([mutated(draw.choice(lines), lines, draw) for _ in range(BLOCK)], attributes)
        try:
            passed, rejected = ended(records, mapping)
            assert_each_in_one_place(records, passed, rejected)
        except BaseException:
            draw.setstate(state)
            print("the block:", records["payload"].to_list())
            raise
        tried, passing, refused = tried + BLOCK, passing + passed.height, refused + rejected.height
    print(f"{form}: {tried:,} records tried")
    assert passing > 0 and refused > 0
