"""Entries are erased from a log that rests: others keep their places, and nothing that names the person is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.log.erase import Gone, erase_entries, parts_of, read_entries, resting
from pipelines.sources.log.folder import READER_LOCK, LogError, Position, hold, segments
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import HEADER, erased, frame_of, read_frames
from tests.pipelines.sources.log.log_hand import entry, fill, stored, writer_of
from tests.pipelines.sources.log.test_follow import read_all, write
from tests.servers.needed import LIMIT

PERSON = b"canary@example.org"


def names(entries) -> list[bool]:
    return [PERSON in each.payload for each in entries]


def holds(rest: bytes) -> bool:
    return PERSON in rest


def erase(folder) -> Gone:
    with resting(folder):
        return erase_entries(folder, names, holds)


def left(folder) -> list[str]:
    """Files in which the person is, or that are not of a log."""
    known = (".log", ".torn", ".damaged")
    files = [path for path in folder.iterdir() if path.name not in ("lock", "reader.lock", "position")]
    return sorted(path.name for path in files if PERSON in path.read_bytes() or path.suffix not in known)


@given(st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=4), st.integers(0, 12), st.integers(1, 4))
def test_the_others_are_read_from_any_position_as_if_it_had_never_been_there(tmp_path_factory, theirs, read, at_once):
    folder = tmp_path_factory.mktemp("log")
    sent = [[entry(PERSON + b"%d" % at if own else b"%d" % at) for at, own in enumerate(each)] for each in theirs]
    for number, each in enumerate(sent, 1):
        write(folder, number, b"".join(map(frame_of, each)))
    flat = [one for each in sent for one in each]
    before = Follower(folder, Position())
    seen = [one for _ in range(read) for one in before.read(at_once, 1 << 20)]
    before.close()
    sizes = [path.stat().st_size for path in segments(folder).values()]
    count = sum(map(sum, theirs))
    assert erase(folder) == Gone(count) and erase(folder) == Gone() and left(folder) == []
    assert [path.stat().st_size for path in segments(folder).values()] == sizes
    after = Follower(folder, before.position)
    assert read_all(after, at_once) == [one for one in flat[len(seen) :] if PERSON not in one.payload]
    assert after.passed_over == 0
    after.close()


@pytest.mark.parametrize("cut", [1, HEADER.size, HEADER.size + 1, 40])
def test_what_a_crash_left_half_written_goes_too_and_the_next_writer_goes_on(tmp_path, cut):
    folder = tmp_path / "log"
    fill(folder, [entry(b"one")])
    torn = frame_of(entry(PERSON * 3))
    (path,) = segments(folder).values()
    with open(path, "ab") as file:
        file.write(torn[: max(cut, len(torn) - 20)])
    assert left(folder) == [path.name]
    assert erase(folder).bytes > 0 and left(folder) == []
    fill(folder, [entry(b"two")])
    assert [each.payload for each in stored(folder)] == [b"one", b"two"] and left(folder) == []


def test_bytes_that_are_no_frame_and_what_was_kept_of_them_are_searched(tmp_path):
    folder = tmp_path / "log"
    whole = [frame_of(entry(each)) for each in (b"a", PERSON, b"b")]
    wrong = bytearray(frame_of(entry(PERSON)))
    wrong[-1] ^= 1
    write(folder, 1, whole[0] + bytes(wrong) + whole[1] + whole[2])
    write(folder, 2, b"")
    follower = Follower(folder, Position())
    assert [each.payload for each in read_all(follower)] == [b"a", PERSON, b"b"]  # and the segment is kept as damaged
    follower.close()
    (folder / "000000000009.torn").write_bytes(whole[1][:-1])
    (folder / "000000000008.torn").write_bytes(whole[0][:-3])
    assert len(left(folder)) == 3
    gone = erase(folder)
    assert gone.entries == 1 and left(folder) == []
    assert sorted(path.name for path in folder.glob("*.torn")) == ["000000000008.torn"]
    again = Follower(folder, Position())
    assert [each.payload for each in read_all(again)] == [b"a", b"b"] and again.passed_over == 0
    again.close()


def test_a_log_that_is_written_or_read_is_not_touched(tmp_path):
    folder = tmp_path / "log"
    writer = writer_of(folder)
    writer.append([entry(PERSON)]).result(LIMIT)
    with pytest.raises(LogError, match=r"is written by process \d+; stop it .*clients of a collector send again"):
        erase(folder)
    writer.close()
    with hold(folder, READER_LOCK, "read"), pytest.raises(LogError, match="is read by process"):
        erase(folder)
    assert len(left(folder)) == 1 and erase(folder) == Gone(1)


def test_a_writer_goes_on_behind_an_erased_entry(tmp_path):
    folder = tmp_path / "log"
    fill(folder, [entry(PERSON)])
    erase(folder)
    fill(folder, [entry(b"next")])
    assert [each.payload for each in stored(folder)] == [b"next"]


@given(st.binary(max_size=40), st.integers(0, 3))
def test_an_erased_frame_is_as_long_as_the_other_and_holds_nothing_of_it(payload, others):
    one = frame_of(entry(payload, "m"))
    made = erased(one)
    assert len(made) == len(one) and not made[HEADER.size + 1 :].strip(b"\0")
    found = read_frames(made * (others + 1))
    assert (found.entries, len(found.ends), found.problem) == ([], others + 1, None)


@given(st.lists(st.binary(max_size=30), max_size=5), st.binary(max_size=20))
def test_the_parts_of_a_file_are_all_of_it(payloads, junk):
    held = junk + b"".join(frame_of(entry(each)) for each in payloads) + junk
    parts = list(parts_of(held))
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert not held or (parts[0].begin, parts[-1].end) == (0, len(held))


def test_entries_are_read_while_the_log_is_written(tmp_path):
    writer = writer_of(tmp_path / "log")
    writer.append([entry(b"a")]).result(LIMIT)
    assert [each.payload for part, _ in read_entries(tmp_path / "log") for each in part] == [b"a"]
    writer.close()
