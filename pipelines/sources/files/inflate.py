"""Compressed bytes as a stream of small chunks: what is held never grows with what the bytes expand to.

    chunks of gzip, zstd, bzip2 or xz -> chunks of what they hold, of at most `most` bytes each

A decoder is asked for so many bytes and keeps the rest of its input, since four bytes of zstd may stand for 131,072 and
a byte of bzip2 for a million.

Errors  EOFError where the data end within a member: Beam's own CompressedFile takes that for the end of the file, and
        the records behind it would be lost without a word. What a decoder raises for bytes that it cannot read.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

WINDOW_BYTES = 192 << 20  # that xz may ask for: its highest level takes 65 MB


def inflate(chunks: Iterable[bytes], compression: str, most: int = 1 << 20) -> Iterator[bytes]:
    """Uncompress a stream of one or more gzip, zstd, bzip2 or xz members into chunks of at most `most` bytes."""
    return _unzstd(chunks, most) if compression == "zstd" else _members(chunks, compression, most)


class _Gzip:
    """zlib's decoder with the interface of bz2's: it keeps the input that it had no room for."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW_BYTES)


DECODERS: dict[str, Callable[[], Any]] = {"gzip": _Gzip, "bzip2": bz2.BZ2Decompressor, "xz": _xz}


def _members(chunks: Iterable[bytes], compression: str, most: int) -> Iterator[bytes]:
    decoder: Any = None
    begun = False
    for chunk in chunks:
        while chunk:
            if decoder is None:
                chunk = chunk.lstrip(b"\0")  # padding behind a member, which no member begins with
                if not chunk:
                    break
                decoder, begun = DECODERS[compression](), True
            yield from _drained(decoder, chunk, most)
            if not decoder.eof:
                break
            chunk, decoder = decoder.unused_data, None
    if decoder is not None or not begun:
        raise EOFError(f"the {compression} data ends too early")


def _drained(decoder: Any, chunk: bytes, most: int) -> Iterator[bytes]:
    """What a decoder makes of a chunk, until it wants another."""
    while True:
        data = decoder.decompress(chunk, most)
        if data:
            yield data
        chunk = b""
        # zlib may hold output back although it has taken all its input.
        if decoder.eof or (decoder.needs_input and len(data) < most):
            return


class _Chunks(io.RawIOBase):
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]):
        super().__init__()
        self._chunks, self._held = iter(chunks), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._held = memoryview(chunk)
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


def _unzstd(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    # By Arrow, which asks zstd for a bounded output: a decoder of `zstandard` returns all that its input expands to.
    # Both need the window that a frame asks for in memory; Arrow refuses one of more than 128 MB, as zstd itself does.
    rest = iter(chunks)
    first = next(rest, None)
    if not first:
        raise EOFError("the zstd data ends too early")
    source = _Chunks(_then(first, rest))
    try:
        with pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd") as stream:
            while data := stream.read(most):
                yield data
    except OSError as problem:
        raise _explained(problem) from problem


def _then(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _explained(problem: OSError) -> Exception:
    text = str(problem)
    if "Truncated compressed stream" in text:
        return EOFError("the zstd data ends too early")
    if "too much memory" in text:
        return OSError("its zstd frame asks for a window of over 128 MB; compress it again without --long or --ultra")
    return problem
