"""Where simulated lines go: a file, compressed by its name, or stdout; all at once, or at a rate.

write_whole(output, parts)       a file appears whole or not at all and replaces what was there
write_paced(output, lines, rate) written as it comes, for whoever reads along
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
Line = TypeVar("Line")  # with or without what is told beside it
NAMES_IN_WORDS = "a file, compressed if it ends in .gz or .zst, or - for stdout"
_OTHER = (".bz2", ".xz", ".zip", ".parquet", ".csv", ".lz4", ".tar", ".tgz")  # forms that are not written
SHORTEST_SLEEP = 0.01  # seconds: lines that are due within it go together
MOST_LINES = 1_000  # of a batch: a slow reader does not make it grow


def check_output(option: str, output: str) -> None:
    """Raises OptionError for a folder, a name that promises another form than JSON lines, or one in no folder."""
    if output.lower().endswith(_OTHER) or not output:
        raise OptionError(f"--{option}: got {output!r}; allowed: {NAMES_IN_WORDS}")
    if output != STDOUT and Path(output).is_dir():
        raise OptionError(f"--{option}: got {output!r}, a folder; allowed: {NAMES_IN_WORDS}")
    if output != STDOUT:
        with _named(Path(output)):
            Path(output).parent.stat()


def write_whole(output: str | Path, parts: Iterable[bytes]) -> None:
    """Write the parts one after the other; raises OptionError for a file that cannot be written."""
    path = Path(output)
    if str(output) == STDOUT or (path.exists() and not path.is_file()):  # a pipe or a device is never replaced
        with _opened(output) as file:
            _write(file, parts)
        return
    partial = path.with_name(path.name + ".partial")
    with suppress(OSError):  # of a run that was killed
        partial.unlink()
    try:
        with _opened(partial, path) as file:
            _write(file, parts)
        with _named(path):
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_paced(output: str | Path, lines: Iterable[bytes], rate: float) -> None:
    """Write lines, `rate` a second, flushed as they come; raises OptionError for a file that cannot be written."""
    with _opened(output) as file:
        for batch in paced(lines, rate):
            file.write(b"\n".join([*batch, b""]))
            file.flush()


def paced(
    lines: Iterable[Line],
    rate: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[Line]]:
    """The lines in batches of at most MOST_LINES; line n comes n / rate seconds after the first, or a moment later.

    Each line has its own deadline, so what a sleep takes too long is not added up.
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
def _opened(output: str | Path, named: Path | None = None) -> Iterator[IO[bytes]]:
    """The file to write to, compressed as the name says that a person gave it; stdout is flushed, not closed."""
    if str(output) == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    named = named or path
    with _named(named), ExitStack() as files:
        # What is made aside is new: a link that somebody put there is not followed.
        file: IO[bytes] = files.enter_context(path.open("wb" if named == path else "xb"))
        match named.suffix.lower():
            case ".gz":  # with no name and time in its header: the same lines, the same bytes
                packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
                file = cast(IO[bytes], files.enter_context(packed))
            case ".zst":
                file = files.enter_context(zstandard.ZstdCompressor().stream_writer(file, closefd=False))
        yield file


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the file system as OptionErrors that name the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror
        raise OptionError(f"{path}: cannot be written ({reason}); name a file in a writable folder") from error
