"""Small but expensive inputs for benchmarks/bombs.py: each function writes one into a folder.

make(folder) -> the words of the command, without the program and the warehouse
"""

import bz2
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

EVENT = b'{"event_type":"page_view","event_time":"2026-03-01T10:00:00Z","user_id":"u1"}\n'
MB = 1 << 20
Make = Callable[[Path], list[str]]


def lines(name: str, *parts: tuple[bytes, int]) -> Make:
    """A plain file, or by its ending a gzip, bzip2 or zstd one, of parts that are repeated."""

    def make(folder: Path) -> list[str]:
        return ["backfill", "--input", str(_written(folder / name, _repeated(parts)))]

    return make


def csv(name: str, header: bytes, *parts: tuple[bytes, int]) -> Make:
    """A CSV file whose header also names the fields of the mapping."""

    def make(folder: Path) -> list[str]:
        path = _written(folder / name, _repeated(((b"event_id,event_type,event_time," + header + b"\n", 1), *parts)))
        return ["backfill", "--input", str(path), "--mapping", str(_mapping(folder))]

    return make


def mapped(name: str, *parts: tuple[bytes, int], explode: str | None = None) -> Make:
    """JSON lines through a mapping."""

    def make(folder: Path) -> list[str]:
        path = _written(folder / name, _repeated(parts))
        return ["backfill", "--input", str(path), "--mapping", str(_mapping(folder, explode))]

    return make


def parquet(value: str, rows: int, batch: int) -> Make:
    """A Parquet file of one row group in which a column holds one value again and again."""

    def make(folder: Path) -> list[str]:
        path = folder / "equal.parquet"
        value_column = pa.DictionaryArray.from_arrays(pa.array([0] * batch, pa.int32()), [value])
        schema = pa.schema({"event_type": pa.dictionary(pa.int32(), pa.string())})
        # Written with its dictionary, so that neither the file nor the program that makes it is large.
        with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as file:
            table = pa.table([value_column], schema=schema)
            file.write_table(pa.concat_tables([table] * (rows // batch)), row_group_size=rows)
        return ["backfill", "--input", str(path)]

    return make


def zstd_rle(size: int) -> Make:
    """A zstd frame whose blocks are one byte repeated 131,072 times: 4 bytes each."""

    def make(folder: Path) -> list[str]:
        path = folder / "rle.jsonl.zst"
        blocks = size // 131_072
        block = struct.pack("<I", (131_072 << 3) | 2)[:3] + b"0"
        last = struct.pack("<I", (131_072 << 3) | 3)[:3] + b"0"
        # Magic number, a frame without a content size, a window of 1 MB.
        path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([10 << 3]) + block * (blocks - 1) + last)
        return ["backfill", "--input", str(path)]

    return make


def zstd_window(bits: int) -> Make:
    """A zstd frame that asks for a window of 2**bits bytes and fills it."""

    def make(folder: Path) -> list[str]:
        zstd_rle(1 << bits)(folder)
        path = folder / "rle.jsonl.zst"
        data = path.read_bytes()
        path.write_bytes(data[:5] + bytes([(bits - 10) << 3]) + data[6:])
        return ["backfill", "--input", str(path)]

    return make


def tiny_files(count: int, name: str = "{:05d}.jsonl") -> Make:
    """Files of one event each."""

    def make(folder: Path) -> list[str]:
        for n in range(count):
            (folder / name.format(n)).write_bytes(EVENT.replace(b"u1", b"u%d" % n))
        return ["backfill", "--input", str(folder / "*.jsonl")]

    return make


def distinct(count: int, field: str) -> Make:
    """Events of which each has a value of its own in a field that metrics are grouped by."""

    def make(folder: Path) -> list[str]:
        event = EVENT.replace(b'"u1"', b'"u%%d","%s":"c%%d"' % field.encode())
        path = _written(folder / "distinct.jsonl", (event % (n, n) for n in range(count)))
        return ["backfill", "--input", str(path)]

    return make


def aliases(levels: int, as_config: bool = False) -> Make:
    """YAML in which each level repeats the one below ten times, by alias."""

    def make(folder: Path) -> list[str]:
        nested = ["&a0 [x, x, x, x, x, x, x, x, x, x]"]
        nested += [f"&a{n} [{', '.join(repeat(f'*a{n - 1}', 10))}]" for n in range(1, levels)]
        laughs = f"{{{', '.join(f'l{n}: {level}' for n, level in enumerate(nested))}}}"
        data = _written(folder / "one.jsonl", [EVENT])
        path = folder / "laughs.yaml"
        if as_config:
            path.write_text(f"metrics: {laughs}\n")
            return ["backfill", "--input", str(data), "--config", str(path)]
        path.write_text(_mapping(folder).read_text() + f"tests:\n  - record: {laughs}\n    events: []\n")
        return ["backfill", "--input", str(data), "--mapping", str(path)]

    return make


def nested(depth: int) -> bytes:
    """A record nested so deep."""
    return b'{"event_type":"page_view","properties":' + b"[" * depth + b"]" * depth + b"}\n"


def keys(count: int) -> bytes:
    """A record of so many keys, in order but for the last."""
    return EVENT[:-2] + b"".join(b',"k%06d":1' % n for n in range(count)) + b',"a":1}\n'


def elements(element: bytes, count: int) -> bytes:
    """A record with a list of so many elements."""
    return EVENT[:-2] + b',"items":[' + b",".join(repeat(element, count)) + b"]}\n"


def dense(element: bytes, size: int) -> bytes:
    """An event of about `size` bytes of which nearly all are small values."""
    return elements(element, size // (len(element) + 1))


def number(text: bytes) -> bytes:
    """An event with this number as its value."""
    return EVENT[:-2] + b',"value":' + text + b"}\n"


def names(count: int, form: bytes = b"c%05d") -> bytes:
    """The names of so many columns."""
    return b",".join(form % n for n in range(count))


def _mapping(folder: Path, explode: str | None = None) -> Path:
    path = folder / "wide.yaml"
    rule = f"explode: {json.dumps(explode)}\n" if explode else ""
    path.write_text(
        f"source: wide\n{rule}fields:\n  event_type: {{path: event_type}}\n"
        "  event_time: {path: event_time, time: rfc3339}\n"
    )
    return path


def _repeated(parts: tuple[tuple[bytes, int], ...]) -> Iterator[bytes]:
    for part, times in parts:
        at_once = max(1, min(times, MB // len(part)))
        yield from repeat(part * at_once, times // at_once)
        yield part * (times % at_once)


def _written(path: Path, chunks) -> Path:
    packed = {".gz": lambda: zlib.compressobj(9, wbits=31), ".bz2": bz2.BZ2Compressor}.get(path.suffix)
    with path.open("wb") as file:
        if packed is None:
            file.writelines(chunks)
        else:
            packer = packed()
            file.writelines(map(packer.compress, chunks))
            file.write(packer.flush())
    return path
