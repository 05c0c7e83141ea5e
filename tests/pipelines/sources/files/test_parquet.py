"""Parquet: every value that a file may hold becomes JSON, every row is read, and what cannot be is one line."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.sources.files.read import BLOCK_BYTES, check_inputs, cut, read
from pipelines.sources.files.split import CsvFormat
from transforms.block import tag_input
from transforms.errors import SourceError
from transforms.event_time import settle_event_time
from transforms.mapping import load_mapping, states_zone
from transforms.parse import parse
from transforms.validate import Validator

LAST = 2**63 - 1
UUID = "699ade83-5ee1-4759-96ad-528b2fc9c918"


def written(folder: Path, table: pa.Table, **how) -> str:
    path = folder / "x.parquet"
    pq.write_table(table, path, **how)
    return str(path)


def blocks(path: str, block_bytes: int = BLOCK_BYTES) -> list[pl.DataFrame]:
    """What a backfill reads of a file, after its look at it."""
    [file] = check_inputs([path])
    parts = cut(file, CsvFormat(), block_bytes)
    return [block for part in parts for block in read(part, "shop", CsvFormat(), block_bytes)]


def rows(path: str, block_bytes: int = BLOCK_BYTES) -> list[dict]:
    payloads = [payload for block in blocks(path, block_bytes) for payload in block["payload"]]
    return [json.loads(payload) for payload in payloads]


def column(folder: Path, values: pa.Array, name: str = "x") -> list:
    """The values of a column as they are read."""
    return [row[name] for row in rows(written(folder, pa.table({name: values})))]


def times(unit: str, *numbers: int | None, zone: str | None = None) -> pa.Array:
    return pa.array(numbers, pa.int64()).cast(pa.timestamp(unit, zone))


EDGE = [
    ("infinity", times("us", LAST, -LAST, 0), ["infinity", "-infinity", "1970-01-01T00:00:00+00:00"]),
    (
        "beyond the calendar",
        times("us", 10**18, 1_717_243_200_123_456),
        ["1000000000000000000us", "2024-06-01T12:00:00.123456+00:00"],
    ),
    ("no date", times("us", 253402300799999999, -62135596800000000), ["9999-12-31T23:59:59.999999+00:00"]),
    ("an unknown zone", times("us", 1_500, zone="Mars/Base"), ["1970-01-01T00:00:00.001500+00:00"]),
    ("an offset", times("ms", 1_500, zone="+02:00"), ["1970-01-01T00:00:01.500+00:00"]),
    ("infinity of days", pa.array([2**31 - 1, 1], pa.int32()).cast(pa.date32()), ["infinity", "1970-01-02"]),
    ("days after 9999", pa.array([2932897], pa.int32()).cast(pa.date32()), ["2932897d"]),
    (
        "infinity in lists",
        pa.ListArray.from_arrays([0, 2, 2], times("us", LAST, 0)),
        [["infinity", "1970-01-01T00:00:00+00:00"], []],
    ),
    (
        "infinity in structs",
        pa.StructArray.from_arrays([times("us", LAST, None)], names=["at"]),
        [{"at": "infinity"}, {"at": None}],
    ),
    ("a time of no day", pa.array([86_400_000_000, 1], pa.int64()).cast(pa.time64("us")), ["86400000000us"]),
    ("a long duration", pa.array([LAST, -1_500, 0], pa.duration("ms")), ["PT9223372036854775.807S", "-PT1.5S", "P0D"]),
    ("decimal256", pa.array([Decimal("9" * 50 + ".25"), None], pa.decimal256(60, 2)), [float("9" * 50), None]),
    ("decimal256 within", pa.array([[Decimal("1.50")]], pa.list_(pa.decimal256(60, 2))), [["1.50"]]),
    ("decimal within", pa.array([[Decimal("1.50")]], pa.list_(pa.decimal128(5, 2))), [["1.50"]]),
    ("bytes within", pa.array([[b"a", b"\xff", None]], pa.list_(pa.binary())), [["a", "/w==", None]]),
    ("views of bytes", pa.array([b"a", b"\xff"], pa.binary_view()), ["a", "/w=="]),
    ("a text that is none", pa.array([b"\xff", b"a"]).view(pa.string()), ["/w==", "a"]),
    ("such a text within", pa.ListArray.from_arrays([0, 1], pa.array([b"\xff"]).view(pa.string())), [["/w=="]]),
    ("a uuid", pa.array([bytes.fromhex(UUID.replace("-", "")), None], pa.uuid()), [UUID, None]),
    ("16 bytes", pa.array([b"\xff" * 16], pa.binary(16)), ["/////////////////////w=="]),
    (
        "a map of numbers",
        pa.array([[(1, "x"), (2, None)], None], pa.map_(pa.int64(), pa.string())),
        [{"1": "x", "2": None}],
    ),
    (
        "a map of lists",
        pa.array([[([1], "x")]], pa.map_(pa.list_(pa.int64()), pa.string())),
        [[{"key": [1], "value": "x"}]],
    ),
    ("a dictionary", pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    ("a dictionary of times", times("us", LAST, 0).dictionary_encode(), ["infinity", "1970-01-01T00:00:00+00:00"]),
    ("no number", pa.array([[float("nan"), float("inf"), 1.5]]), [[None, None, 1.5]]),
    ("the largest", pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    ("nothing", pa.array([None, None]), [None, None]),
]


@pytest.mark.parametrize(("values", "expected"), [case[1:] for case in EDGE], ids=[case[0] for case in EDGE])
def test_a_value_without_a_json_form_becomes_a_text_and_ends_no_run(values, expected, tmp_path):
    assert column(tmp_path, values)[: len(expected)] == expected


def test_a_decimal_keeps_all_its_digits_as_a_number(tmp_path):
    many = Decimal("123456789012345678901234567890123456789012345.25")
    [block] = blocks(written(tmp_path, pa.table({"x": pa.array([many], pa.decimal256(60, 2))})))
    assert block["payload"][0] == b'{"x":%s}' % str(many).encode()


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\0b", "", "\\", "\u202e", "x" * 10_000])
def test_a_column_keeps_its_name_whatever_it_is(name, tmp_path):
    for values in (pa.array([1, 2]), times("us", LAST, 0), pa.array([{name: 1}, {name: 2}])):
        assert len(column(tmp_path, values, name)) == 2


def test_slow_and_fast_columns_stand_in_one_row_and_blocks_are_cut_anywhere(tmp_path):
    table = pa.table(
        {
            "fast": list(range(100)),
            "slow": times("us", *([0, LAST] * 50)),
            "bytes": [b"\xff"] * 100,
            "text": ["t" * 100] * 100,
        }
    )
    path = written(tmp_path, table, row_group_size=30)
    found = rows(path)
    assert rows(path, 500) == found
    assert [row["fast"] for row in found] == list(range(100))
    assert {row["slow"] for row in found[1::2]} == {"infinity"}


REFUSED = [
    (pa.table([[1], [2]], names=["a", "a"]), "column 'a' occurs 2 times; give each a name of its own"),
    (
        pa.table({"s": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])}),
        "column 's': field 'a' occurs 2 times",
    ),
]


@pytest.mark.parametrize(("table", "said"), REFUSED)
def test_a_name_that_stands_twice_is_one_line(table, said, tmp_path):
    with pytest.raises(SourceError) as refused:
        check_inputs([written(tmp_path, table)])
    assert f"x.parquet: cannot be read: {said}" in str(refused.value)


def test_a_column_that_is_nested_without_end_is_one_line(tmp_path):
    values = pa.array([1])
    for _ in range(100):
        values = pa.StructArray.from_arrays([values], names=["a"])
    with pytest.raises(SourceError, match="is nested more than 64 deep"):
        check_inputs([written(tmp_path, pa.table({"x": values}), store_schema=False)])


def test_files_without_columns_rows_or_row_groups_have_no_records(tmp_path):
    for table in (pa.table({"a": pa.array([], pa.int8())}), pa.table({"a": [1, 2]}).select([])):
        assert rows(written(tmp_path, table)) == []
    pq.ParquetWriter(tmp_path / "none.parquet", pa.schema([("a", pa.int8())])).close()
    assert rows(str(tmp_path / "none.parquet")) == []


# Any type, any value

UNITS = ("s", "ms", "us", "ns")
scalars = st.sampled_from(
    [
        *(pa.null(), pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary(16), pa.uuid()),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Asia/Kolkata", "-03:30")),
        *(pa.duration(unit) for unit in UNITS),
        *(pa.decimal32(5, 2), pa.decimal64(12, 2), pa.decimal128(38, 9), pa.decimal256(76, 20)),
        *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.timestamp("us"))),
    ]
)
names = st.text(max_size=4)
types = st.recursive(
    scalars,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.list_(kind, 2)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{n}", k) for n, k in enumerate(kinds)])
        ),
        st.tuples(scalars.filter(lambda kind: kind != pa.null()), inner).map(lambda pair: pa.map_(*pair)),
    ),
    max_leaves=4,
)


def leaf(draw, kind: pa.DataType, count: int, nulls: bool = True) -> pa.Array:
    """Values of a type without parts, of its whole range."""
    present = [not nulls or draw(st.integers(0, 4)) > 0 for _ in range(count)]
    if kind == pa.null():
        return pa.nulls(count)
    if isinstance(kind, pa.UuidType):
        return pa.ExtensionArray.from_storage(kind, leaf(draw, kind.storage_type, count, nulls))
    if pa.types.is_dictionary(kind):
        return leaf(draw, kind.value_type, count, nulls).dictionary_encode()
    if pa.types.is_decimal(kind):
        digits = st.integers(1 - 10**kind.precision, 10**kind.precision - 1)
        made = [Decimal(f"{draw(digits)}E-{kind.scale}") if there else None for there in present]
        return pa.array(made, kind)
    if pa.types.is_floating(kind) or kind == pa.bool_():
        some = st.booleans() if kind == pa.bool_() else st.floats(width=kind.bit_width)
        return pa.array([draw(some) if there else None for there in present]).cast(kind)
    if pa.types.is_integer(kind) or pa.types.is_temporal(kind):
        bits, signed = kind.bit_width, not pa.types.is_unsigned_integer(kind)
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        some = st.one_of(st.integers(least, most), st.sampled_from([least, least + 1, most, 0, 1]))
        plain = pa.array(
            [draw(some) if there else None for there in present], getattr(pa, f"{'' if signed else 'u'}int{bits}")()
        )
        return plain.view(kind)
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([draw(st.binary(min_size=16, max_size=16)) if there else None for there in present], kind)
    made = pa.array([draw(st.binary(max_size=6)) if there else None for there in present], pa.binary())
    return made.view(pa.string()).cast(kind, safe=False) if kind == pa.string() else pa.array(_as(kind, made), kind)


def _as(kind: pa.DataType, made: pa.Array) -> list:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return made.to_pylist()
    return [None if value is None else value.decode("latin-1") for value in made.to_pylist()]


def array_of(draw, kind: pa.DataType, count: int) -> pa.Array:
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([array_of(draw, field.type, count) for field in kind], fields=list(kind))
    if pa.types.is_map(kind):
        inner = [leaf(draw, kind.key_type, 2 * count, nulls=False), array_of(draw, kind.item_type, 2 * count)]
        return pa.MapArray.from_arrays(range(0, 2 * count + 1, 2), *inner)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(array_of(draw, kind.value_type, 2 * count), 2)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        return made.from_arrays(range(0, 2 * count + 1, 2), array_of(draw, kind.value_type, 2 * count))
    return leaf(draw, kind, count)


@st.composite
def tables(draw) -> pa.Table:
    count, kinds = draw(st.integers(1, 4)), draw(st.lists(types, min_size=1, max_size=3))
    return pa.table([array_of(draw, kind, count) for kind in kinds], names=[draw(names) for _ in kinds])


@given(tables(), st.sampled_from([True, False]))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_each_row_of_any_file_is_accepted_or_refused_and_the_file_is_read_or_one_line(tmp_path_factory, table, schema):
    path = str(tmp_path_factory.mktemp("any") / "x.parquet")
    try:
        pq.write_table(table, path, store_schema=schema, coerce_timestamps=None)
    except (pa.ArrowException, OSError, UnicodeEncodeError):
        return  # no such file
    try:
        found = blocks(path)
    except SourceError as refused:
        assert "\n" not in str(refused)
        assert "occurs" in str(refused)
        return
    assert sum(map(len, found)) == table.num_rows
    for block in found:
        for payload in block["payload"]:
            assert msgspec.json.decode(payload).keys() == set(table.column_names)
        passed, _, rejected = _sorted_out(block)
        assert passed.height + rejected.height == block.height


def _sorted_out(block: pl.DataFrame) -> tuple[pl.DataFrame, None, pl.DataFrame]:
    passed, refused = parse(tag_input(block, "x"), None, "shop")
    kept = [refused]
    for rule in (Validator(), settle_event_time):
        passed, refused = rule(passed)
        kept.append(refused)
    return passed, None, pl.concat(kept)


def test_int96_times_beyond_the_range_of_nanoseconds_keep_their_year(tmp_path):
    # Spark and Impala write them. Days are counted by the Julian calendar: 9999-12-31 is beyond what 64 bits hold.
    table = pa.table({"x": times("us", 253_402_300_799_000_000, 1_717_243_200_123_456)})
    path = written(tmp_path, table, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(path).schema.column(0).physical_type == "INT96"
    assert [row["x"][:26] for row in rows(path)] == ["9999-12-31T23:59:59+00:00", "2024-06-01T12:00:00.123456"]


@pytest.mark.parametrize(("unit", "per"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+02:00"])
def test_a_timestamp_before_1970_is_no_time_and_others_are_that_moment(unit, per, zone, tmp_path):
    at = 1_772_366_400 * per
    path = written(tmp_path, pa.table({"at": times(unit, -1, 0, at, at + per - 1, None, zone=zone)}))
    block = tag_input(pl.concat(blocks(path)), "in")
    spec = load_mapping("{source: s, fields: {event_type: {const: a}, event_time: {path: at}}}", "m.yaml")
    passed = parse(block, spec, "s").passed
    micros = [None if at is None else at * 10**6 // per for at in (None, 0, at, at + per - 1, None)]
    assert passed["client_time"].dt.epoch("us").to_list() == micros
    lost = [text and json.loads(text)["at"][-25:] for text in passed["extra"]]
    assert [text is not None for text in lost] == [True, False, False, unit == "ns", False]


LOCAL = """
source: till
fields:
  event_id: {path: id}
  event_type: {const: purchase}
  event_time: {path: at, time_zone: Europe/Berlin}
"""


def test_a_mapping_states_the_zone_of_times_that_have_none(tmp_path):
    """10:00 by a local clock, in summer and in winter; a column of UTC beside it stays as it is."""
    mapping = load_mapping(LOCAL, "till.yaml")
    wall = [1_782_900_000_000_000, 1_768_471_200_000_000]  # 2026-07-01 and 2026-01-15, 10:00
    table = pa.table({"id": ["s", "w"], "at": times("us", *wall), "utc": times("us", *wall, zone="UTC")})
    path = written(tmp_path, table)
    found = {}
    for local in (states_zone(mapping), False):
        [file] = check_inputs([path], local_times=local)
        read_blocks = [block for part in cut(file, CsvFormat(), 1) for block in read(part, "till", CsvFormat(), 1)]
        parsed = [parse(tag_input(block, "f"), mapping, "till").passed for block in read_blocks]
        found[local] = pl.concat(parsed).sort("event_id")
    assert found[True]["client_time"].dt.strftime("%F %H:%M").to_list() == ["2026-07-01 08:00", "2026-01-15 09:00"]
    assert found[False]["client_time"].dt.strftime("%F %H:%M").to_list() == ["2026-07-01 10:00", "2026-01-15 10:00"]
    assert [json.loads(extra)["utc"][:19] for extra in found[True]["extra"]] == [
        "2026-07-01T10:00:00",
        "2026-01-15T10:00:00",
    ]
