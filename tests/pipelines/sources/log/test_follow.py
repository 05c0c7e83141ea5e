"""The follower of a log: each entry once and in order, however it is cut, and nothing wrong is passed over unsaid."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.log.folder import Position, segment_name, segments
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import frame_of
from tests.pipelines.sources.log.log_hand import MIB, entries, entry, fill

ALL = 10_000


def read_all(follower, most_entries=ALL, most_bytes=MIB):
    found = []
    while part := follower.read(most_entries, most_bytes):
        found += part
    assert follower.is_at_end
    return found


def write(folder, number, content):
    folder.mkdir(exist_ok=True)
    with open(folder / segment_name(number), "ab") as file:
        file.write(content)


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=5), st.integers(1, 4), st.data())
def test_where_segments_and_reads_are_cut_does_not_matter(tmp_path_factory, sizes, most_entries, data):
    folder = tmp_path_factory.mktemp("log")
    sent = [[entry(bytes(size)) for size in each] for each in sizes]
    flat = [one for each in sent for one in each]
    for number, each in enumerate(sent, 1):
        write(folder, number, b"".join(map(frame_of, each)))
    follower = Follower(folder, Position())
    first = data.draw(st.integers(0, 5))
    found = [one for _ in range(first) for one in follower.read(most_entries, 1)]
    follower.close()
    again = Follower(folder, follower.position)
    assert found + read_all(again, most_entries) == flat
    again.close()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=6), st.data())
def test_a_segment_that_grows_byte_by_byte_is_read_as_its_frames_are_complete(tmp_path_factory, sizes, data):
    folder = tmp_path_factory.mktemp("log")
    sent = [entry(bytes(size), "m") for size in sizes]  # of a length that no other test decides
    whole = b"".join(map(frame_of, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    follower, found = Follower(folder, Position()), []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        write(folder, 1, whole[begin:end])
        found += read_all(follower)
        follower.close()
    assert found == sent and not follower.passed_over


def test_an_entry_larger_than_a_read_is_read(tmp_path):
    fill(tmp_path, sent := [entry(b"x" * 3 * MIB), entry()])
    assert read_all(Follower(tmp_path, Position()), most_bytes=10) == sent


def test_an_empty_log_is_at_its_end_and_what_comes_is_read(tmp_path):
    follower = Follower(tmp_path, Position())
    assert read_all(follower) == []
    fill(tmp_path, one := entries(2))
    assert read_all(follower) == one
    fill(tmp_path, two := entries(2), entries(0))
    assert read_all(follower) == two


@pytest.mark.parametrize("position", [Position(1, 10_000), Position(0, 77)])
def test_a_position_behind_the_end_of_a_segment_or_in_one_that_is_gone_goes_on_with_the_next(tmp_path, position):
    fill(tmp_path, entries(1))
    if position.segment == 0:
        (tmp_path / segment_name(1)).unlink()
    fill(tmp_path, sent := entries(2))
    follower = Follower(tmp_path, position)
    assert (read_all(follower), follower.passed_over) == (sent, 0)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("at", [0, 2, 6, 30])  # of the length, of the checksum, of the body
def test_a_wrong_frame_in_the_middle_is_named_kept_and_passed_over(tmp_path, caplog, is_last, at):
    fill(tmp_path, sent := entries(5))
    (path,) = segments(tmp_path).values()
    damaged, size = bytearray(path.read_bytes()), len(frame_of(sent[0]))
    damaged[2 * size + at] ^= 0x10
    path.write_bytes(damaged)
    more = [] if is_last else entries(1)
    if more:
        fill(tmp_path, more)
    follower = Follower(tmp_path, Position())
    if is_last and at == 2:
        assert read_all(follower) == sent[:2], "a length that reaches beyond the end may be that of a large entry"
        return
    assert read_all(follower) == [*sent[:2], *sent[3:], *more]
    assert follower.passed_over == size
    path.unlink()  # as the reader does
    assert path.with_suffix(".damaged").read_bytes() == damaged
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith(f"{path}: passed over {size} bytes at offset {2 * size}: ")


@pytest.mark.parametrize("rest", [b"\x05\0\0\0", bytes(5_000), frame_of(entry())[:-1], b"x" * 100])
def test_a_wrong_end_is_waited_for_until_there_is_a_next_segment(tmp_path, caplog, rest):
    fill(tmp_path, sent := entries(2))
    write(tmp_path, 1, rest)
    follower = Follower(tmp_path, Position())
    assert (read_all(follower), caplog.records) == (sent, [])
    write(tmp_path, 2, frame_of(more := entry()))
    assert (read_all(follower), follower.passed_over) == ([more], len(rest))
    assert f"passed over {len(rest):,} bytes at offset" in caplog.text


def test_what_is_added_between_two_looks_is_not_missed(tmp_path, monkeypatch):
    """The writer adds an entry and begins the next segment after the reader has seen the end of this one."""
    fill(tmp_path, first := entries(1))
    follower, late = Follower(tmp_path, Position()), entries(2)
    assert read_all(follower) == first
    size, moments = os.fstat, iter([True])

    def look(number):
        seen = size(number)
        if next(moments, False):
            write(tmp_path, 1, frame_of(late[0]))
            write(tmp_path, 2, frame_of(late[1]))
        return seen

    monkeypatch.setattr(os, "fstat", look)
    assert follower.read(ALL, MIB) + read_all(follower) == late
