from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from apache_beam import coders

from transforms.block import (
    EVENT_SCHEMA,
    NUMERIC,
    PARSED_SCHEMA,
    RAW_SCHEMA,
    RECORD_SCHEMA,
    REJECTED_SCHEMA,
    TIME,
    BlockCoder,
    compacted,
    day_of,
    empty,
    hash64,
    hash128,
    tag_input,
)
from transforms.deduplicate import KEY, fingerprint, split
from transforms.records.native import derived_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
# Of the versions that ran before: state, shards and ids of warehouses stand on them, so they may not change.
HASHES64 = [
    3244421341483603138,
    16629034431890738719,
    17902194443078244626,
    16787580697867085465,
    3244421341483603138,
]
HASH128 = "ec3d09d86dc27bc5558857cb21f50fc9"
FINGERPRINT = 12453934403787514143
DERIVED = "derived:d0f5a514449f7bb70ec67bdcc3e6b263"


def test_the_hashes_are_those_of_every_earlier_version():
    texts = pl.Series(["", "a", "shop\x1fe1", "Grüße 🎉", None])
    assert hash64(texts).to_list() == HASHES64
    assert hash128([b"shop", b"f:1", b"{}"]) == HASH128
    assert hash128([]) == "99aa06d3014798d86001c324468d497f"


def test_dedup_keys_prints_and_shards_are_those_of_every_earlier_version():
    row = {
        "source": "shop",
        "event_id": "e1",
        "event_type": "purchase",
        "value": Decimal("1.5"),
        "client_time": NOON,
    }
    block = pl.DataFrame([row | {"received_time": NOON, "quantity": 2, "rating": 0.5}], schema=EVENT_SCHEMA)
    (piece,) = split(block, window=DAY, shards=7)
    assert (piece.window, piece.shard, piece.events[KEY].item()) == (20513, HASHES64[2] % 7, HASHES64[2])
    assert fingerprint(block).item() == FINGERPRINT
    assert derived_id("shop", {"b": [1, None], "a": Decimal("1.50")}) == DERIVED


@pytest.mark.parametrize("schema", [RAW_SCHEMA, PARSED_SCHEMA, REJECTED_SCHEMA, EVENT_SCHEMA])
def test_a_block_comes_out_of_its_coder_as_it_went_in(schema):
    samples = {
        pl.String: ["", "Grüße \x00 🎉", None],
        pl.Binary: [b"", b"\xff\x00", None],
        pl.Boolean: [True, False, None],
        pl.Int64: [-(2**63), 2**63 - 1, None],
        pl.Float64: [-0.0, 1e308, None],
        TIME: [NOON, datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), None],
        NUMERIC: [Decimal("-999999999999999999.999999999"), Decimal("1E-9"), None],
    }
    block = pl.DataFrame({name: samples[dtype] for name, dtype in schema.items()}, schema=schema)
    coder = BlockCoder()
    for sample in (block, block[:1], block[1:], empty(schema), pl.concat([block, block], rechunk=False)):
        again = coder.decode(coder.encode(sample))
        assert again.equals(sample, null_equal=True)
        assert again.schema == sample.schema


def test_a_list_column_survives_the_coder_and_beam_takes_the_coder_for_frames():
    block = pl.DataFrame({"hashes": [[1, 2], [], None]}, schema={"hashes": pl.List(pl.UInt64)})
    coder = coders.registry.get_coder(pl.DataFrame)
    assert isinstance(coder, BlockCoder)
    assert coder.decode(coder.encode(block)).equals(block, null_equal=True)


@pytest.mark.parametrize(
    ("time", "zone", "day"),
    [
        ("2026-03-01T23:59:59.999999", "UTC", date(2026, 3, 1)),
        ("2026-03-01T23:00:00", "Europe/Berlin", date(2026, 3, 2)),
        ("2026-03-01T22:59:59.999999", "Europe/Berlin", date(2026, 3, 1)),
        (
            "2026-03-29T22:00:00",
            "Europe/Berlin",
            date(2026, 3, 30),
        ),  # clocks went forward that morning: UTC+2
        ("2026-10-25T22:59:59", "Europe/Berlin", date(2026, 10, 25)),  # and back: UTC+1, a day of 25 hours
        ("2026-10-24T22:00:00", "Europe/Berlin", date(2026, 10, 25)),
        ("2026-03-01T04:59:59", "America/New_York", date(2026, 2, 28)),
        ("2026-03-01T18:30:00", "Asia/Kolkata", date(2026, 3, 2)),
    ],
)
def test_a_day_is_one_of_the_zone(time, zone, day):
    times = pl.DataFrame({"t": [datetime.fromisoformat(time).replace(tzinfo=UTC), None]}, schema={"t": TIME})
    assert times.select(day_of(pl.col("t"), zone)).to_series().to_list() == [day, None]


def test_a_record_enters_under_the_input_of_the_run_or_under_the_one_its_source_gave_it():
    raw = pl.DataFrame([(b"x", None, "events", "1", None)], schema=RAW_SCHEMA, orient="row")
    assert tag_input(raw, "queue")["input"].to_list() == ["queue"]
    assert tag_input(raw.with_columns(input=pl.lit("queue@segment")), "queue")["input"].to_list() == ["queue@segment"]
    assert tag_input(raw.with_columns(input=pl.lit("queue@segment")), "queue").schema == RECORD_SCHEMA


def buffered(block: pl.DataFrame) -> int:
    """The bytes of the buffers that the columns hold, whoever else holds them."""
    arrays = [column.to_arrow(compat_level=pl.CompatLevel.newest()) for column in block]
    return sum(buffer.size for array in arrays for buffer in array.buffers() if buffer)


def test_few_rows_of_a_block_hold_no_texts_but_their_own():
    payloads = pl.Series("payload", [b"%09d" % row * 20 for row in range(10_000)], pl.Binary)
    block = pl.DataFrame([payloads, payloads.cast(pl.String).rename("text")])
    few, most = block.filter(pl.int_range(pl.len()) % 100 == 7), block.filter(pl.int_range(pl.len()) % 100 != 7)
    assert buffered(few) > 1_000_000
    own = compacted(few, of=len(block))
    assert own.equals(few) and own.schema == few.schema
    assert buffered(own) < 100_000
    assert compacted(most, of=len(block)) is most
    assert compacted(few[:3], of=100).equals(few[:3])
