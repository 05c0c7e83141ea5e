"""Distinct counts that do not depend on how blocks are split, on their order, or on how partials are merged.

A set of up to LIMIT values is kept as a sorted list of its 64-bit hashes; a larger set is kept as the 4096 registers of
an Apache DataSketches HLL (lg_k 12). Both depend only on the set, and so do the count and even the bytes of the sketch.
(The library's own updates make the sketch depend on the order of arrival: its estimate and its bytes differ between two
orders of the same values.)

Columns of a partial, for a measure `m`:

    m             List(UInt64)  the hashes in ascending order; empty if there are registers
    m_registers   Binary        4096 bytes, the largest rank seen in each slot; null if there is a list

The library estimates each set above LIMIT; the serialized form of a smaller one is written here, since a library object
per row would cost more than everything else in a metric of 150,000 rows.
"""

import datasketches
import numpy as np
import polars as pl
import pyarrow as pa

from transforms.records.ragged import binaries, bytes_of, lists, offsets, runs

LIMIT = 256  # above it, 8 bytes a value are more than half of the registers
LG_K = 12
SLOTS = 1 << LG_K
REGISTERS = "_registers"
SKETCH = "_sketch"

_U64 = np.uint64
_SEED = _U64(9001)  # the library's default; sketches of another seed do not merge
_LIST_MAX = 7  # a sketch of up to 7 coupons is in its list mode, above in its set mode
_SET_LG = np.array([5, 6, 7, 8, 9], np.uint8)  # log2 of the library's set, which grows at three quarters
_SET_MAX = np.array([24, 48, 96, 192, 384])
_RANK_WEIGHT = np.ldexp(1.0, -np.arange(64))


def _rotate(value: np.ndarray, bits: int) -> np.ndarray:
    return (value << _U64(bits)) | (value >> _U64(64 - bits))


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> _U64(33))) * _U64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> _U64(33))) * _U64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> _U64(33))


def coupons(hashes: np.ndarray) -> np.ndarray:
    """The library's 32-bit coupon of each uint64: rank in the upper 6 bits, slot address in the lower 26.

    It is murmur3_x64_128 over the 8 little-endian bytes, seed 9001.
    """
    with np.errstate(over="ignore"):
        first: np.ndarray = (
            _SEED ^ (_rotate(hashes * _U64(0x87C37B91114253D5), 31) * _U64(0x4CF5AD432745937F)) ^ _U64(8)
        )
        second = np.full_like(first, _SEED ^ _U64(8))
        first = first + second
        second = second + first
        first, second = _mix(first), _mix(second)
        first = first + second
        second = second + first
    rank = np.minimum(leading_zeros(second), 62) + 1
    return (rank.astype(np.uint32) << np.uint32(26)) | (first & _U64(0x3FFFFFF)).astype(np.uint32)


def leading_zeros(words: np.ndarray) -> np.ndarray:
    """Return the number of leading zero bits of each uint64."""
    # frexp counts bits exactly only below 2^53, hence two halves
    upper = np.frexp((words >> _U64(32)).astype(np.float64))[1]
    lower = np.frexp((words & _U64(0xFFFFFFFF)).astype(np.float64))[1]
    return 64 - np.where(upper > 0, upper + 32, lower)


def _raise_registers(registers: np.ndarray, group: np.ndarray, hashes: np.ndarray) -> None:
    """Update registers (groups x SLOTS, uint8) with hashes, in place."""
    coupon = coupons(hashes)
    slot = group * SLOTS + (coupon & np.uint32(SLOTS - 1))
    np.maximum.at(registers.reshape(-1), slot, (coupon >> np.uint32(26)).astype(np.uint8))


def _columns(name: str, groups: int, group: np.ndarray, hashes: np.ndarray, dense: np.ndarray, registers: np.ndarray):
    """Return both columns from sorted, distinct (group, hash) pairs and the existing registers of groups.

    dense       the groups with registers, ascending
    registers   uint8, a row of SLOTS for each of them
    """
    sizes = np.bincount(group, minlength=groups)
    full = np.union1d(np.flatnonzero(sizes > LIMIT), dense)
    if not len(full):
        return [
            lists(name, sizes, pa.array(hashes)),
            pl.repeat(None, groups, dtype=pl.Binary, eager=True).alias(name + REGISTERS),
        ]
    place = np.full(groups, -1)
    place[full] = np.arange(len(full))
    table = np.zeros((len(full), SLOTS), np.uint8)
    table[place[dense]] = registers
    inside = place[group] >= 0
    _raise_registers(table, place[group[inside]], hashes[inside])
    sizes[full] = 0
    packed = binaries("", np.full(len(full), SLOTS), table.reshape(-1))
    return [
        lists(name, sizes, pa.array(hashes[~inside])),
        packed.gather(pl.Series(np.where(place < 0, 0, place)))
        .zip_with(pl.Series(place >= 0), pl.repeat(None, groups, dtype=pl.Binary, eager=True))
        .alias(name + REGISTERS),
    ]


def build_sets(name: str, groups: int, group: np.ndarray, codes: np.ndarray, hashes: np.ndarray) -> list[pl.Series]:
    """Return the set of each group, from one row per event.

    group    int64, the group of each row, 0 to groups - 1
    codes    the index of each row's value in `hashes`
    hashes   uint64, ascending, distinct
    """
    owner, found = _pairs(group, codes, hashes)
    return _columns(name, groups, owner, found, np.empty(0, np.int64), np.empty((0, SLOTS), np.uint8))


def _pairs(group: np.ndarray, codes: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct (group int64, hash uint64) pairs sorted by both; the sort is on one number per row."""
    pairs = np.sort((group.astype(_U64) << _U64(32)) | codes.astype(_U64))
    pairs = pairs[runs(pairs)]
    return (pairs >> _U64(32)).astype(np.int64), hashes[pairs & _U64(0xFFFFFFFF)]


def merge(name: str, groups: int, group: np.ndarray, frame: pl.DataFrame) -> list[pl.Series]:
    """Return the union of the sets in each group.

    group   int64, the group of each row of `frame`, which has both columns of the measure
    """
    values = frame[name].explode(empty_as_null=False).to_numpy()
    hashes, codes = np.unique(values, return_inverse=True)
    owner, found = _pairs(np.repeat(group, frame[name].list.len().to_numpy()), codes, hashes)
    has = frame[name + REGISTERS].is_not_null().to_numpy()
    dense, place = np.unique(group[has], return_inverse=True)
    registers = np.zeros((len(dense), SLOTS), np.uint8)
    rows = bytes_of(frame[name + REGISTERS].drop_nulls()).reshape(-1, SLOTS)
    np.maximum.at(registers, place, rows)
    return _columns(name, groups, owner, found, dense, registers)


def finish(name: str, frame: pl.DataFrame) -> list[pl.Series]:
    """Return the count (Int64) and the serialized sketch (Binary, compact) of each set."""
    counts = frame[name].list.len().cast(pl.Int64).to_numpy().copy()
    sketches = _serialize(frame[name].explode(empty_as_null=False).to_numpy(), counts)
    full = np.flatnonzero(frame[name + REGISTERS].is_not_null().to_numpy())
    if len(full):
        found = [_read(row) for row in frame[name + REGISTERS].drop_nulls().to_list()]
        counts[full] = [round(sketch.get_estimate()) for sketch in found]
        sketches = sketches.scatter(full, pl.Series([sketch.serialize_compact() for sketch in found], dtype=pl.Binary))
    return [pl.Series(name, counts), sketches.alias(name + SKETCH)]


def _serialize(hashes: np.ndarray, sizes: np.ndarray) -> pl.Series:
    """Return the compact serialized sketch of each list of hashes.

    Up to 7 coupons: 8 bytes of preamble; above: 12; then the coupons, little-endian, here in ascending order. The
    library writes them in the order of its hash table, and reads them in any order.
    """
    pairs = np.repeat(np.arange(len(sizes), dtype=_U64), sizes) << _U64(32) | coupons(hashes).astype(_U64)
    pairs = np.sort(pairs)
    pairs = pairs[runs(pairs)]  # two hashes may share a coupon
    owner = (pairs >> _U64(32)).astype(np.int64)
    counts = np.bincount(owner, minlength=len(sizes))
    is_set = counts > _LIST_MAX
    heads = np.where(is_set, 3, 2)  # in words of 4 bytes
    starts = offsets(heads + counts)
    words = np.empty(starts[-1], np.uint32)
    words[starts[:-1]] = np.where(is_set, 0x0C070103, 0x0C070102)  # words of preamble, version 1, family 7, lg_k 12
    set_lg = _SET_LG[np.searchsorted(_SET_MAX, counts)].astype(np.uint32)
    flags = np.where(counts == 0, 0x0C, 0x08) << 8  # compact, and 4 for empty
    words[starts[:-1] + 1] = np.where(is_set, set_lg | flags | 0x01000000, 0x03 | flags | counts << 16)
    words[starts[:-1][is_set] + 2] = counts[is_set]
    places = np.arange(len(pairs)) + np.repeat(np.cumsum(heads), counts)
    words[places] = (pairs & _U64(0xFFFFFFFF)).astype(np.uint32)
    return binaries("", (heads + counts) * 4, words.astype("<u4").view(np.uint8))


def _read(registers: bytes) -> datasketches.hll_sketch:
    """Return the library's HLL_4 sketch of these registers, as the result of a union: its estimate is composite."""
    ranks = np.frombuffer(registers, np.uint8)
    weights = _RANK_WEIGHT[ranks]
    head = np.zeros(40, np.uint8)
    head[:8] = [10, 1, 7, LG_K, 0, 0x18, 0, 0x0A]  # flags compact and out of order, mode HLL, type HLL_8
    head[16:24] = np.frombuffer(np.array([weights[ranks < 32].sum()], "<f8").tobytes(), np.uint8)
    head[24:32] = np.frombuffer(np.array([weights[ranks >= 32].sum()], "<f8").tobytes(), np.uint8)
    head[32:36] = np.frombuffer(np.array([(ranks == 0).sum()], "<u4").tobytes(), np.uint8)
    sketch = datasketches.hll_sketch.deserialize(head.tobytes() + registers)
    union = datasketches.hll_union(LG_K)
    union.update(sketch)
    return union.get_result(datasketches.HLL_4)
