"""Simulated lines to a file, compressed or not, to stdout, and at a rate."""

import gzip
import os
import threading
from pathlib import Path

import pytest
import zstandard

from pipelines.apps.simulator.output import (
    MOST_LINES,
    SHORTEST_SLEEP,
    check_output,
    paced,
    write_paced,
    write_whole,
)
from pipelines.apps.simulator.simulate import simulate
from transforms.errors import OptionError


class Clock:
    """A clock that moves by its sleeps, each of which takes `too_long` more, and by `work`."""

    def __init__(self, too_long: float = 0.0):
        self.now, self.too_long = 100.0, too_long

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + self.too_long

    def work(self, seconds: float) -> None:
        self.now += seconds


def sent(clock: Clock, lines: int, rate: float, work: float = 0.0) -> list[tuple[float, list[bytes]]]:
    """[(seconds since the start, batch)] of a reader that works so long after each."""
    found = []
    for batch in paced((b"%d" % n for n in range(lines)), rate, clock, clock.sleep):
        found.append((clock.now - 100.0, batch))
        clock.work(work)
    return found


def test_slow_lines_come_one_by_one_each_when_it_is_due():
    found = sent(Clock(), 5, 2.0)
    assert found == [(n * 0.5, [b"%d" % n]) for n in range(5)]


@pytest.mark.parametrize("rate", [3.0, 700.0, 50_000.0])
@pytest.mark.parametrize("too_long", [0.0, 0.0004, 0.07])
def test_no_line_is_early_and_what_sleeps_take_too_long_is_not_added_up(rate, too_long):
    found = sent(Clock(too_long), 2_000, rate)
    assert [line for _, batch in found for line in batch] == [b"%d" % n for n in range(2_000)]
    number = 0
    for at, batch in found:
        last = number + len(batch) - 1
        assert at >= last / rate - 1e-6, "a line came before it was due"
        assert at <= number / rate + SHORTEST_SLEEP + too_long + 1e-6, (
            "a line came later than one sleep after it was due"
        )
        number = last + 1


def test_a_reader_that_is_too_slow_gets_batches_of_a_bounded_size():
    found = sent(Clock(), 10_000, 1_000_000.0, work=1.0)
    assert max(len(batch) for _, batch in found) == MOST_LINES
    assert sum(len(batch) for _, batch in found) == 10_000


def test_a_compressed_file_holds_the_same_lines_and_is_the_same_twice(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz", "b.jsonl.gz", "a.jsonl.zst", "a.JSONL.GZ"):
        simulate(500, 1, tmp_path / name)
    plain = (tmp_path / "a.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == plain
    assert gzip.decompress((tmp_path / "a.JSONL.GZ").read_bytes()) == plain
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    with zstandard.ZstdDecompressor().stream_reader((tmp_path / "a.jsonl.zst").read_bytes()) as file:
        assert file.read() == plain
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_at_a_rate_the_same_lines_are_written(tmp_path, name):
    simulate(200, 1, tmp_path / "whole.jsonl")
    simulate(200, 1, tmp_path / name, rate=1e6)
    written = (tmp_path / name).read_bytes()
    assert (gzip.decompress(written) if name.endswith(".gz") else written) == (tmp_path / "whole.jsonl").read_bytes()


def test_at_a_rate_a_reader_sees_each_line_before_the_next_is_made(tmp_path):
    path, seen = tmp_path / "events.jsonl", []

    def lines():
        for n in range(3):
            seen.append(path.read_bytes())
            yield b"%d" % n

    write_paced(path, lines(), 1e6 / SHORTEST_SLEEP)
    assert path.read_bytes() == b"0\n1\n2\n"
    seen.clear()
    write_paced(path, lines(), 20.0)
    # A line is handed on when the next is not due yet.
    assert seen == [b"", b"", b"0\n"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, [b"a\n", b"b\n"])
    reader.join()
    assert read == [b"a\nb\n"]
    assert pipe.is_fifo()


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(b"old\n")

    def parts():
        yield b"new\n"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_whole(tmp_path / "events.jsonl", parts())
    assert (tmp_path / "events.jsonl").read_bytes() == b"old\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["events.bz2", "events.csv", "events.parquet", "", "."])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(OptionError, match=r"--output: got '.*; allowed: a file, compressed if it ends in .gz or .zst"):
        check_output("output", name)


def test_a_full_disk_names_the_file():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OptionError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        write_whole(full, [b"x" * 100_000])
