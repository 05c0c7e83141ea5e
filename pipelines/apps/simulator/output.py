"""Write simulated lines to a file, compressed by its name, or to stdout; as fast as possible or at a rate.

write_whole(output, parts)       a file appears whole or not at all and replaces an existing one
write_paced(output, lines, rate) line by line, for a reader that follows
"""

import gzip
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar, cast

import zstandard

from transforms.errors import OptionError

STDOUT = "-"
Line = TypeVar("Line")  # bytes, or a pair with its time
NAMES_IN_WORDS = "a file, compressed if it ends in .gz or .zst, or - for stdout"
_OTHER = (".bz2", ".xz", ".zip", ".parquet", ".csv", ".lz4", ".tar", ".tgz")  # formats that are not supported
SHORTEST_SLEEP = 0.01  # seconds: lines due within it are written together
MOST_LINES = 1_000  # of a batch, so that a slow reader does not make it grow


def check_output(option: str, output: str) -> None:
    """Raises OptionError for a folder, a name of another format than JSON lines, or a file in a missing folder."""
    if output.lower().endswith(_OTHER) or not output:
        raise OptionError(f"--{option}: got {output!r}; allowed: {NAMES_IN_WORDS}")
    if output != STDOUT and Path(output).is_dir():
        raise OptionError(f"--{option}: got {output!r}, a folder; allowed: {NAMES_IN_WORDS}")
    if output != STDOUT:
        with _name_errors(Path(output)):
            Path(output).parent.stat()


def write_whole(output: str | Path, parts: Iterable[bytes]) -> None:
    """Write the parts one after the other; raises OptionError for a file that cannot be written."""
    path = Path(output)
    if str(output) == STDOUT or (path.exists() and not path.is_file()):  # a pipe or a device is never replaced
        with _open(output) as file:
            _write(file, parts)
        return
    partial = path.with_name(path.name + ".partial")
    with suppress(OSError):  # left by a killed run
        partial.unlink()
    try:
        with _open(partial, path) as file:
            _write(file, parts)
        with _name_errors(path):
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_paced(output: str | Path, lines: Iterable[bytes], rate: float) -> None:
    """Write lines, `rate` per second, and flush each batch; raises OptionError for a file that cannot be written."""
    with _open(output) as file:
        for batch in paced(lines, rate):
            file.write(b"\n".join([*batch, b""]))
            file.flush()


def paced(
    lines: Iterable[Line],
    rate: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[Line]]:
    """The lines in batches of at most MOST_LINES; line n is due n / rate seconds after the first.

    Each line has its own deadline, so the delays of sleeps do not add up.
    """
    batch: list[Line] = []
    begun = clock()
    for number, line in enumerate(lines):
        due = begun + number / rate
        if batch and (len(batch) == MOST_LINES or due > clock()):
            yield batch
            batch = []
        while (wait := due - clock()) > 0:
            sleep(max(wait, SHORTEST_SLEEP))
        batch.append(line)
    if batch:
        yield batch


def _write(file: IO[bytes], parts: Iterable[bytes]) -> None:
    for part in parts:  # not `writelines`, which zstandard lacks
        file.write(part)


@contextmanager
def _open(output: str | Path, named: Path | None = None) -> Iterator[IO[bytes]]:
    """Open the output, compressed according to its final name; stdout is flushed, not closed."""
    if str(output) == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    named = named or path
    with _name_errors(named), ExitStack() as files:
        # The temporary file is new: an existing link of that name is not followed.
        file: IO[bytes] = files.enter_context(path.open("wb" if named == path else "xb"))
        match named.suffix.lower():
            case ".gz":  # no name and no time in the header: the same lines give the same bytes
                packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
                file = cast(IO[bytes], files.enter_context(packed))
            case ".zst":
                file = files.enter_context(zstandard.ZstdCompressor().stream_writer(file, closefd=False))
        yield file


@contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file system into OptionErrors that name the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror
        raise OptionError(f"{path}: cannot be written ({reason}); name a file in a writable folder") from error
