"""Frames of a log: any cut leaves the entries before it, and what is wrong is never an entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.log.frames import HEADER, MOST_BODY, Entry, end_of_frames, find_frame, frame_of, read_frames

ENTRIES = st.builds(
    Entry,
    st.text(max_size=20),
    st.integers(0, 2**62),
    st.text(max_size=8),
    st.binary(max_size=60),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def joined(entries) -> bytes:
    return b"".join(map(frame_of, entries))


@given(st.lists(ENTRIES, max_size=8), st.data())
def test_any_cut_of_the_end_leaves_a_prefix_of_the_entries(entries, data):
    whole = joined(entries)
    cut = data.draw(st.integers(0, len(whole)))
    found = read_frames(whole[:cut])
    ends = read_frames(whole).ends
    assert found.entries == entries[: sum(end <= cut for end in ends)]
    assert (found.problem is None) == (cut in {0, *ends})
    assert found.is_short == (found.problem is not None), "more bytes complete it"
    last = end_of_frames(whole[:cut])
    assert (last.entries, last.ends, last.problem) == (found.entries[-1:], found.ends[-1:], found.problem)


@given(st.lists(ENTRIES, min_size=1, max_size=5), st.data())
def test_a_byte_that_changed_is_found_and_the_entries_before_it_are_read(entries, data):
    whole = bytearray(joined(entries))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    found = read_frames(bytes(whole))
    good = sum(end <= at for end in read_frames(joined(entries)).ends)
    assert (found.entries, found.problem is None) == (entries[:good], False)


@given(st.lists(ENTRIES, max_size=12), st.integers(1, 5), st.integers(1, 200))
def test_where_reading_stops_for_a_while_does_not_matter(entries, most_entries, most_bytes):
    whole, at, found = joined(entries), 0, []
    while at < len(whole):
        part = read_frames(whole, at, most_entries, most_bytes)
        assert 1 <= len(part.entries) <= most_entries
        found += part.entries
        at = part.ends[-1]
    assert found == entries


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        (bytes(4_096), "a frame states 0 bytes"),  # pages that the disk never wrote
        (HEADER.pack(MOST_BODY + 1, 0) + b"x" * 50, f"a frame states {MOST_BODY + 1:,} bytes"),
        (HEADER.pack(1, 0xFFFFFFFF) + b"x", "the checksum of a frame is wrong"),
        (HEADER.pack(1, 0x8CDC1683) + b"x", "a frame holds no entry: "),
    ],
)
def test_a_frame_that_is_wrong_is_described(held, problem):
    found = read_frames(held)
    assert (found.entries, found.is_short) == ([], False)
    assert found.problem is not None and found.problem.startswith(problem)


def test_an_entry_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match=r"an entry has 33,554,4.. bytes; allowed: up to 33,554,432"):
        frame_of(Entry("m", 0, "s", bytes(MOST_BODY), {}))


def test_frames_go_on_behind_a_wrong_one_also_where_its_length_is_wrong():
    inner = frame_of(Entry("inner", 0, "s", b"", {}))
    one, two, three = (frame_of(Entry(name, 0, "s", inner + b"\x95" * 9, {})) for name in "abc")
    wrong = bytearray(one + two + three)
    wrong[len(one) + 20] ^= 1
    assert find_frame(bytes(wrong), len(one)) == len(one + two), "not a frame in the payload of the wrong one"
    assert find_frame(bytes(one + two[:30]), len(one)) is None
    wrong = bytearray(one.replace(inner, bytes(len(inner))) + two)
    wrong[:4] = b"\xff" * 4
    assert find_frame(bytes(wrong), 0) == len(one)
    assert find_frame(b"abc", 0) is None


@given(st.lists(ENTRIES, min_size=1, max_size=5), st.binary(max_size=100))
def test_the_next_frame_is_found_behind_whatever_is_no_frame(entries, noise):
    whole = b"\xff\xff\xff\xff" + noise + joined(entries)
    found = find_frame(whole, 0)
    assert found is not None and read_frames(whole, found).entries[-len(entries) :] == entries
