"""The writer of a log: what is acknowledged is in it, what failed is not, whatever the disk does."""

import errno
import os
import resource
import stat
import subprocess
import sys
import threading

import pytest

from pipelines.sources.log.folder import LogError, Position, segments, write_position
from pipelines.sources.log.frames import frame_of
from pipelines.sources.log.writer import LogFull, LogWriter
from tests.pipelines.sources.log.log_hand import MIB, entries, entry, fill, stored, writer_of
from tests.servers.needed import LIMIT, wait_until


class Disk:
    """A sync that fails for as long as it has an error."""

    def __init__(self):
        self.error: int | None = None
        self.syncs = 0

    def __call__(self, number: int) -> None:
        self.syncs += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        os.fdatasync(number)


class Held:
    """A sync that waits until the test lets it go."""

    def __init__(self):
        self.begun, self.go, self.syncs = threading.Semaphore(0), threading.Event(), 0

    def __call__(self, number: int) -> None:
        self.begun.release()
        assert self.go.wait(LIMIT)
        self.syncs += 1


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a" / "log"


def test_what_is_acknowledged_is_in_the_log_in_its_order(folder):
    sent = [entries(3), entries(1), [], entries(200, size=1_000)]
    writer = writer_of(folder)
    for future in [writer.append(each) for each in sent]:
        assert future.result(LIMIT) is None
    assert stored(folder) == [one for each in sent for one in each]
    assert writer.size() == sum(len(frame_of(one)) for each in sent for one in each)
    writer.close()


def test_a_log_is_private(folder):
    before = os.umask(0)
    try:
        fill(folder, entries(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_appends_that_wait_share_a_sync(folder):
    held = Held()
    writer = writer_of(folder, sync=held)
    futures = [writer.append([entry()])]
    assert held.begun.acquire(timeout=LIMIT)
    futures += [writer.append([entry()]) for _ in range(50)]
    assert not any(future.done() for future in futures)
    held.go.set()
    for future in futures:
        future.result(LIMIT)
    assert held.syncs == 2
    writer.close()


def test_a_group_is_bounded_and_a_large_append_is_whole(folder):
    held = Held()
    writer = writer_of(folder, sync=held)
    first = writer.append([entry()])
    assert held.begun.acquire(timeout=LIMIT)
    futures = [writer.append(entries(1, size=600_000)) for _ in range(4)] + [writer.append(entries(3, size=MIB))]
    held.go.set()
    for future in [first, *futures]:
        future.result(LIMIT)
    assert held.syncs == 6
    writer.close()


def test_what_waits_in_memory_is_bounded(folder, monkeypatch):
    monkeypatch.setattr("pipelines.sources.log.writer.MOST_WAITING", 1_000)
    held = Held()
    writer = writer_of(folder, sync=held)
    first = writer.append([entry()])
    assert held.begun.acquire(timeout=LIMIT)
    large = writer.append(entries(1, size=2_000))
    with pytest.raises(LogFull, match="bytes wait for the disk; retry later"):
        writer.append([entry()]).result(LIMIT)
    held.go.set()
    assert (first.result(LIMIT), large.result(LIMIT)) == (None, None)
    assert len(stored(folder)) == 2
    writer.close()


def test_a_full_segment_is_followed_by_another_and_a_new_writer_begins_its_own(folder):
    fill(folder, *([one] for one in entries(10, size=1_000)), segment_bytes=3_500)
    assert list(segments(folder)) == [1, 2, 3, 4]
    assert len(stored(folder)) == 10
    fill(folder, entries(1))
    assert list(segments(folder)) == [1, 2, 3, 4, 5]
    fill(folder)
    assert list(segments(folder)) == [1, 2, 3, 4, 5], "no segment without an entry"


def test_the_number_of_a_segment_is_never_used_again(folder):
    fill(folder, entries(1))
    fill(folder, entries(1))
    write_position(folder, Position(2, 50))
    for path in segments(folder).values():
        path.unlink()
    fill(folder, entries(1))
    assert list(segments(folder)) == [3]


def test_a_log_has_one_writer(folder):
    writer = writer_of(folder)
    with pytest.raises(LogError, match=f"{folder} is written by process {os.getpid()}; end that one, or use another f"):
        writer_of(folder)
    writer.close()
    fill(folder, entries(1))


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="file/log cannot be created: Not a directory; "):
        writer_of(tmp_path / "file" / "log")


def test_a_closed_log_takes_nothing_and_what_waited_is_written(folder):
    writer = writer_of(folder)
    futures = [writer.append([entry()]) for _ in range(20)]
    writer.close()
    assert [future.result(0) for future in futures] == [None] * 20
    with pytest.raises(LogError, match="the log is closed"):
        writer.append([entry()]).result(0)
    assert len(stored(folder)) == 20


def test_a_full_log_refuses_until_it_was_read_on(folder):
    writer = writer_of(folder, most_bytes=20_000)
    sent = []
    for one in entries(30, size=1_000):
        future = writer.append([one])
        if future.exception(30) is not None:
            break
        sent.append(one)
    with pytest.raises(
        LogFull, match=r"holds .* bytes that are not read yet; allowed: 20,000; start `audience run --i"
    ):
        future.result()
    assert 15 <= len(sent) < 20
    assert stored(folder) == sent
    next(iter(segments(folder).values())).unlink()  # as the reader does
    writer.append([entry(b"x" * 1_000)]).result(LIMIT)
    writer.close()


def test_a_full_log_whose_last_segment_is_large_goes_on_once_that_is_read(folder):
    writer = writer_of(folder, most_bytes=10_000)
    writer.append([entry(b"x" * 6_000)]).result(LIMIT)
    for _ in range(2):
        with pytest.raises(LogFull):
            writer.append([entry(b"x" * 6_000)]).result(LIMIT)
    assert list(segments(folder)) == [1, 2], "a reader deletes what is behind the last segment"
    segments(folder)[1].unlink()
    writer.append([entry(b"x" * 6_000)]).result(LIMIT)
    with pytest.raises(ValueError, match=r"an append has 11,0.. bytes; allowed: up to 10,000, of the whole log"):
        writer.append([entry(b"x" * 11_000)])
    writer.close()


def test_a_full_log_counts_what_an_earlier_writer_left(folder):
    fill(folder, entries(10, size=1_000))
    writer = writer_of(folder, most_bytes=11_000)
    with pytest.raises(LogFull):
        writer.append(entries(2, size=1_000)).result(LIMIT)
    writer.close()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, LogFull, "cannot be written: No space left on device; free space on its disk"),
        (errno.EDQUOT, LogFull, "cannot be written: Disk quota exceeded; free"),
        (errno.EIO, LogError, "cannot be written: Input/output error; check its disk"),
    ],
)
def test_what_a_failed_sync_had_is_not_in_the_log_and_a_new_segment_begins(folder, number, kind, said):
    disk = Disk()
    writer = writer_of(folder, sync=disk)
    writer.append(good := entries(2)).result(LIMIT)
    disk.error = number
    with pytest.raises(kind, match=said) as raised:
        writer.append(entries(2)).result(LIMIT)
    assert type(raised.value) is kind
    assert stored(folder) == good
    disk.error = None
    writer.append(more := entries(2)).result(LIMIT)
    writer.close()
    assert stored(folder) == good + more
    assert list(segments(folder)) == [1, 2]


def test_nothing_is_written_before_what_failed_is_cut_away(folder, monkeypatch):
    disk, cut = Disk(), os.ftruncate
    writer = writer_of(folder, sync=disk)
    writer.append(good := entries(1)).result(LIMIT)

    def refuse(number, size):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", refuse)
    disk.error = errno.EIO
    for _ in range(2):
        with pytest.raises(LogError):
            writer.append(entries(1)).result(LIMIT)
        disk.error = None
    assert list(segments(folder)) == [1]
    monkeypatch.setattr(os, "ftruncate", cut)
    writer.append(more := entries(1)).result(LIMIT)
    writer.close()
    assert stored(folder) == good + more


def test_a_segment_whose_name_is_not_durable_holds_nothing(folder, monkeypatch):
    writer = writer_of(folder)

    def refuse(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.sources.log.writer.sync_folder", refuse)
        with pytest.raises(LogError):
            writer.append(entries(1)).result(LIMIT)
    writer.append(sent := entries(1)).result(LIMIT)
    writer.close()
    assert stored(folder) == sent


def test_a_segment_that_somebody_deletes_is_no_place_for_more(folder):
    writer = writer_of(folder)
    writer.append(entries(1)).result(LIMIT)
    segments(folder)[1].unlink()
    with pytest.raises(LogError, match="its segment was deleted while it was written"):
        writer.append(entries(1)).result(LIMIT)
    writer.append(sent := entries(1)).result(LIMIT)
    writer.close()
    assert stored(folder) == sent


def test_a_defect_fails_the_append_and_the_writer_goes_on(folder):
    wrong = [RuntimeError("as a defect may")]
    writer = writer_of(folder, sync=lambda number: (_ for _ in ()).throw(wrong.pop()) if wrong else os.fsync(number))
    with pytest.raises(LogError, match="as a defect may"):
        writer.append(entries(1)).result(LIMIT)
    writer.append(sent := entries(1)).result(LIMIT)
    writer.close()
    assert stored(folder) == sent


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_a_full_log_and_a_segment_that_is_read_makes_room(small_disk):
    writer = writer_of(small_disk / "log", most_bytes=64 * MIB, segment_bytes=200_000)
    sent, refused = [], []
    for one in entries(60, size=30_000):
        future = writer.append([one])
        (sent if future.exception(30) is None else refused).append(one)
    assert 25 <= len(sent) <= 34
    with pytest.raises(LogFull, match="cannot be written: No space left on device; free space on its disk"):
        writer.append(entries(1, size=30_000)).result(LIMIT)
    assert stored(small_disk / "log") == sent
    segments(small_disk / "log")[1].unlink()
    for one in refused[:3]:
        writer.append([one]).result(LIMIT)
    writer.close()
    assert stored(small_disk / "log")[-3:] == refused[:3]


LIMITED = """
import resource, sys
from pathlib import Path
from pipelines.sources.log.writer import LogWriter, LogFull
from tests.pipelines.sources.log.log_hand import entries
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
writer = LogWriter(Path(sys.argv[1]), most_bytes=1 << 20)
for one in entries(50, size=1_000):
    try:
        writer.append([one]).result()
    except LogFull as error:
        print(f"{one.message_id} {error}")
    else:
        print(one.message_id)
writer.close()
"""


def test_a_disk_that_stays_full_leaves_no_empty_segments_behind_and_gives_no_number_twice(folder):
    disk = Disk()
    writer = writer_of(folder, sync=disk)
    writer.append(entries(1)).result(LIMIT)
    disk.error, seen = errno.ENOSPC, set(segments(folder))
    for _ in range(30):
        with pytest.raises(LogFull):
            writer.append(entries(2)).result(LIMIT)
        assert len(segments(folder)) <= 2
        assert max(segments(folder)) >= max(seen)
        seen |= set(segments(folder))
    writer.close()
    again = writer_of(folder)
    again.append(entries(3)).result(LIMIT)
    assert max(segments(folder)) > max(seen) and len(stored(folder)) == 4
    again.close()


def test_a_file_that_may_not_grow_is_a_full_log_and_a_new_segment_goes_on(folder):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    run = subprocess.run([sys.executable, "-c", LIMITED, folder], capture_output=True, text=True, timeout=LIMIT)
    said = run.stdout.splitlines()
    refused = [line for line in said if " " in line]
    assert (run.returncode, len(said), len(refused)) == (0, 50, 2)
    assert all("File too large; free space on its disk" in line for line in refused)
    assert [one.message_id for one in stored(folder)] == [line for line in said if " " not in line]


@pytest.mark.parametrize("rest", [b"\x05", b"\x05\0\0\0\0\0\0\0ab", bytes(9_000), frame_of(entry())[:-1], b"x" * 500])
def test_what_a_crash_left_behind_the_last_frame_is_cut_kept_and_said(folder, rest, caplog):
    fill(folder, sent := entries(3))
    (path,) = segments(folder).values()
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(rest)
    fill(folder, more := entries(1))
    assert stored(folder) == sent + more
    assert path.stat().st_size == size
    aside = path.with_suffix(".torn")
    assert (aside.read_bytes(), stat.S_IMODE(aside.stat().st_mode)) == (rest, 0o600)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: cut {len(rest):,} bytes behind offset {size:,}, which a crash left")
    fill(folder, entries(1))
    assert len(caplog.records) == 1


def test_nothing_is_cut_where_it_cannot_be_kept(folder, caplog):
    fill(folder, entries(1))
    (path,) = segments(folder).values()
    with open(path, "ab") as file:
        file.write(b"rest")
    path.with_suffix(".torn").mkdir()
    fill(folder, entries(1))
    assert path.read_bytes().endswith(b"rest")
    assert "they cannot be kept elsewhere: Is a directory" in caplog.text


def test_nothing_is_cut_where_whole_frames_follow(folder, caplog):
    fill(folder, entries(3))
    (path,) = segments(folder).values()
    damaged = bytearray(path.read_bytes())
    damaged[10] ^= 1
    path.write_bytes(damaged)
    fill(folder)
    assert (path.read_bytes(), caplog.records) == (damaged, [])


KILLED = """
import os, sys, threading
from pathlib import Path
from pipelines.sources.log.writer import LogWriter
from tests.pipelines.sources.log.log_hand import entry
writer = LogWriter(Path(sys.argv[1]), most_bytes=1 << 30, segment_bytes=200_000)
def work(thread):
    for number in range(1_000_000):
        name = f"{sys.argv[2]}.{thread}.{number}"
        writer.append([entry(os.urandom(1 + number % 3_000), f"{name}.{part}") for part in range(3)]).result()
        os.write(1, f"{name}\\n".encode())
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for each in threads: each.start()
"""


def test_what_is_acknowledged_survives_a_kill_and_nothing_is_twice(folder):
    acknowledged: list[str] = []
    for turn in range(6):
        command = [sys.executable, "-c", KILLED, str(folder), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(1 + 37 * turn):
                acknowledged.append(process.stdout.readline().strip())
            process.kill()
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    fill(folder, [])
    names = [one.message_id for one in stored(folder)]
    assert len(names) == len(set(names))
    wanted = {f"{name}.{part}" for name in acknowledged for part in range(3)}
    assert len(acknowledged) > 500
    assert wanted - set(names) == set()


def test_the_lock_of_a_process_that_died_holds_nobody_up(folder):
    command = [sys.executable, "-c", KILLED, str(folder), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(LogError, match=f"is written by process {process.pid}"):
            LogWriter(folder, most_bytes=MIB)
        process.kill()
    wait_until(lambda: process.poll() is not None)
    fill(folder, [entry()], most_bytes=1 << 30)
