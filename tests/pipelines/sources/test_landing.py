"""The landing folder: what landed is there after any end, is read again by the minute, and goes when it is done."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import landing
from pipelines.sources.landing import (
    LANDED_SCHEMA,
    SEGMENT_SECONDS,
    Again,
    Lander,
    Landing,
    read_landed,
)
from tests.support.raw_block import NOON, block
from transforms.block import TIME
from transforms.errors import SourceError, WarehouseError

NONE_DONE = pl.DataFrame(schema={"input": pl.String, "bucket_start": TIME, "received": pl.Int64})


def minute(number: int) -> int:
    """The minute that many after noon, in us since 1970."""
    return int(NOON.timestamp() + 60 * number) * 1_000_000


def books(counted: pl.DataFrame) -> pl.DataFrame:
    """What the audit counts say once all of COUNTS_SCHEMA is received."""
    return counted.rename({"landed": "received"})


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_landed_is_read_again_as_it_was(tmp_path):
    raw = block(0, 30, 61)
    landed = Lander(str(tmp_path / "landing"), "pubsub:sub", "run", 0).land(raw)
    assert landed.schema == LANDED_SCHEMA
    assert landed.drop("input").equals(raw)
    (again,) = Landing(tmp_path / "landing").to_read_again(Landing(tmp_path / "landing").counts())
    assert read_landed(again).equals(landed)


def test_payloads_of_no_bytes_and_of_many_land(tmp_path):
    raw = block(0, 1).with_columns(payload=pl.Series([b"", bytes(range(256)) * 40_000]))
    Lander(str(tmp_path), "in", "run", 0).land(raw)
    (again,) = Landing(tmp_path).to_read_again(Landing(tmp_path).counts())
    assert read_landed(again)["payload"].equals(raw["payload"])


@given(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=20), max_size=8), st.sets(st.integers(0, 6)))
def test_reading_again_brings_exactly_the_minutes_that_are_not_done(tmp_path_factory, blocks, done):
    folder = tmp_path_factory.mktemp("landing")
    lander, here = Lander(str(folder), "in", "run", 0), Landing(folder)
    for seconds in blocks:
        lander.land(block(*seconds))
    is_done = pl.col("bucket_start").dt.epoch("us").is_in([minute(number) for number in done])
    undone = here.undone(books(here.counts().filter(is_done)))
    found = sorted(int(payload) for again in here.to_read_again(undone) for payload in read_landed(again)["payload"])
    assert found == sorted(second for seconds in blocks for second in seconds if second // 60 not in done)


def test_a_minute_is_undone_while_the_books_have_fewer_or_more(tmp_path):
    Lander(str(tmp_path), "in", "run", 0).land(block(0, 1, 2))
    here = Landing(tmp_path)
    for received, left in ((2, 1), (3, 0), (4, 1)):
        booked = books(here.counts()).with_columns(received=pl.lit(received, pl.Int64))
        assert here.undone(booked).height == left
    split = pl.concat([books(here.counts()).with_columns(received=pl.lit(n, pl.Int64)) for n in (1, 2)])
    assert here.undone(split).height == 0


def test_a_segment_is_retired_as_a_whole_and_only_when_it_is_closed(tmp_path):
    clock, here = Time(), Landing(tmp_path)
    lander = Lander(str(tmp_path), "in", "run", 0, clock)
    lander.land(block(0))
    lander.land(block(60))
    here.counts()
    assert here.retire(NONE_DONE, open_run="run") == set(), "its segment is open"
    clock.now = SEGMENT_SECONDS
    lander.land(block(0))
    first, second = here.counts()["input"].unique().sort()
    undone = here.counts().filter(input=first, bucket_start=NOON)
    assert here.retire(undone, open_run="run") == set(), "one of its minutes is not done, so none of its files may go"
    assert here.retire(undone.clear(), open_run="run") == {first}
    assert here.counts()["input"].to_list() == [second]
    assert here.retire(undone.clear(), open_run="another") == {second}, "its run is over"


def test_what_landed_since_the_books_were_asked_stays(tmp_path):
    clock, here = Time(), Landing(tmp_path)
    lander = Lander(str(tmp_path), "in", "run", 0, clock)
    lander.land(block(0))
    undone = here.undone(books(here.counts()))
    lander.land(block(60))  # of the same segment, which is closed a moment later
    clock.now = SEGMENT_SECONDS
    lander.land(block(0))
    assert here.retire(undone, open_run="run") == set()
    assert len(here.files()) == 3


def test_a_file_that_a_listing_missed_keeps_its_segment(tmp_path):
    lander, here = Lander(str(tmp_path), "in", "run", 0), Landing(tmp_path)
    lander.land(block(0))
    undone = here.undone(books(here.counts()))
    lander.land(block(0))
    assert here.retire(undone, open_run="another") == set()
    assert len(here.files()) == 2


def test_a_kill_while_a_segment_goes_leaves_nothing_of_it(tmp_path, monkeypatch):
    lander = Lander(str(tmp_path), "in", "run", 0)
    for _ in range(3):
        lander.land(block(0))
    here = Landing(tmp_path)
    undone = here.undone(books(here.counts()))
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Path, "unlink", killed)
        here.retire(undone)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    again = Landing(tmp_path)
    assert again.counts().is_empty(), "what is half gone would be read again without the rest"
    again.retire(undone)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_comes_again_lands_in_an_input_of_its_own(tmp_path):
    clock, here = Time(), Landing(tmp_path)
    lander = Lander(str(tmp_path), "in", "run", 0, clock)
    lander.land(block(0))
    done = books(here.counts())
    clock.now = SEGMENT_SECONDS
    lander.land(block(0))
    assert here.undone(done)["bucket_start"].to_list() == [NOON]
    assert here.undone(done)["input"].to_list() != done["input"].to_list()


def test_a_reader_that_takes_over_writes_beside_the_first(tmp_path):
    for _ in range(2):
        Lander(str(tmp_path), "in", "run", 0).land(block(0))
    assert len(Landing(tmp_path).files()) == 2


def test_what_a_crash_left_half_written_is_no_file_and_goes_at_the_start(tmp_path):
    (tmp_path / "run.0.000000.000000000.tmp").write_bytes(b"half")
    here = Landing(tmp_path)
    assert here.files() == []
    here.retire(NONE_DONE, open_run="run")
    assert list(tmp_path.iterdir()) != []
    here.retire(NONE_DONE)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path):
    Lander(str(tmp_path), "in", "run", 0).land(block(0))
    (file,) = Landing(tmp_path).files()
    file.path.write_bytes(file.path.read_bytes()[:-10])
    with pytest.raises(SourceError, match=rf"{file.path} cannot be read again: .*; restore it, or move it away"):
        Landing(tmp_path).files()
    with pytest.raises(SourceError, match="cannot be read again"):
        read_landed(Again(str(file.path), (minute(0),)))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match="cannot be written"):
        Lander(str(tmp_path / "file" / "landing"), "in", "run", 0).land(block(0))


def test_each_file_is_opened_once(tmp_path, monkeypatch):
    here, lander, looked = Landing(tmp_path), Lander(str(tmp_path), "in", "run", 0), []
    monkeypatch.setattr(landing, "_look", lambda path, look=landing._look: looked.append(path) or look(path))
    for _ in range(3):
        lander.land(block(0))
        here.counts()
    assert len(looked) == 3


LAND_FOR_EVER = """
import sys
from pipelines.sources.landing import Lander
from tests.support.raw_block import block
lander, number = Lander(sys.argv[1], "in", sys.argv[2], 0), 0
while True:
    lander.land(block(*range(number, number + 50)))
    number += 50
    print(number, flush=True)  # from here on the queue may be told
"""


def test_a_kill_at_any_moment_loses_nothing_that_had_landed(tmp_path):
    chance, landed = random.Random(7), {}
    for run in range(5):
        command = [sys.executable, "-c", LAND_FOR_EVER, str(tmp_path), f"run{run}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
        process.stdout.readline()
        end = time.monotonic() + chance.uniform(0, 0.2)
        while time.monotonic() < end:
            pass
        os.kill(process.pid, signal.SIGKILL)
        told = process.communicate()[0].split(b"\n")
        landed[f"run{run}"] = max([50, *(int(line) for line in told[:-1])])
    here = Landing(tmp_path)
    for run, number in landed.items():
        files = [again for again in here.to_read_again(here.counts()) if Path(again.path).name.startswith(run)]
        found = sorted(int(payload) for again in files for payload in read_landed(again)["payload"])
        assert found[:number] == list(range(number))
        assert found == list(range(len(found))), "a file is whole or not there"
