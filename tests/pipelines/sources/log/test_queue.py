"""A log by the contract of a queue, and what only a log has: segments, a position, entries of many sources."""

import json
import os
import stat
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.settings.resolve import resolve
from pipelines.sources import queues
from pipelines.sources.log.folder import Position, read_position, segments
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.queue import LogQueue
from pipelines.sources.log.source import LogSource
from pipelines.sources.log.writer import LogFull
from tests.pipelines.sources.log.log_hand import RECEIVED, entries, entry, fill, writer_of
from tests.pipelines.sources.queue_contract import Clock, QueueContract
from tests.servers.needed import LIMIT, wait_until
from transforms.errors import OptionError, SourceError


@dataclass
class Log:
    folder: Path

    def publish(self, *payloads: bytes) -> None:
        fill(self.folder, [entry(payload) for payload in payloads])

    def left(self) -> list[bytes]:
        follower = Follower(self.folder, read_position(self.folder))
        found = follower.read(100_000, 1 << 30)
        while more := follower.read(100_000, 1 << 30):
            found += more
        follower.close()
        return [one.payload for one in found]

    def wait_for(self, messages: int, seconds: float = 40.0) -> list[bytes]:
        wait_until(lambda: len(self.left()) >= messages, seconds)
        return sorted(self.left())


class TestLogQueue(QueueContract):
    kind = LogQueue
    malformed = "log@home"
    missing = "/var/lib/audience/no-such-log"
    runners_read_it = False

    @pytest.fixture
    def broker(self, tmp_path):
        fill(tmp_path / "log")
        return Log(tmp_path / "log")

    def values(self, broker):
        return {"input_log": str(broker.folder)}

    def source_of(self, read):
        return LogSource(read.reading)

    def timed(self, queue: LogQueue, clock: Clock):
        return replace(queue, wall=clock, monotonic=clock)

    def test_a_message_keeps_its_id_time_and_attributes(self, broker, by_hand):
        sent = Entry("m-1", RECEIVED, "", b"\xef\xbb\xbf{}", {"dialect": "segment", "header": "x"})
        fill(broker.folder, [sent])
        block = by_hand().read(1)
        assert block.select("payload", "source", "position").row(0) == (b"{}", "shop", "m-1")
        assert block["received_time"].dt.epoch("us").to_list() == [RECEIVED]
        assert json.loads(block["attributes"][0]) == {
            "received_time": "2026-03-01T10:00:00.000000Z",
            "message": {"dialect": "segment", "header": "x"},
        }

    def test_a_block_has_one_source_and_all_that_was_read_together_is_acknowledged_together(
        self, broker, opened, by_hand
    ):
        names = ["web", "app", "web", "", "app"]
        fill(broker.folder, [Entry(f"m{at}", RECEIVED + at, name, b"", {}) for at, name in enumerate(names)])
        hand = by_hand()
        wait_until(lambda: hand.step() or hand.blocks)
        hand.finalize()
        assert read_position(broker.folder) == Position(1, 0), "the rest is not finalized"
        hand.read(5)
        blocks = [(block["source"].to_list(), block["position"].to_list()) for block in hand.blocks]
        assert blocks == [(["web"] * 2, ["m0", "m2"]), (["app"] * 2, ["m1", "m4"]), (["shop"], ["m3"])]
        hand.finalize()
        assert broker.left() == []

    def test_a_drain_hands_on_the_rest_of_what_was_read_together(self, broker, opened, by_hand, tmp_path):
        fill(broker.folder, [Entry(name, RECEIVED, name, b"", {}) for name in "abc"])
        hand = by_hand()
        wait_until(lambda: hand.step() or hand.blocks)
        (tmp_path / "drain").touch()
        assert hand.read(3).height == 3
        hand.finalize()
        assert broker.left() == []

    def test_segments_behind_what_is_finalized_are_deleted_and_no_others(self, broker, opened, by_hand):
        fill(broker.folder, *([one] for one in entries(9, size=1_000)), segment_bytes=3_500)
        fill(broker.folder, entries(1))
        hand = by_hand()
        hand.read(10)
        assert list(segments(broker.folder)) == [1, 2, 3, 4], "not finalized"
        hand.finalize()
        assert list(segments(broker.folder)) == [4]
        assert read_position(broker.folder).segment == 4
        assert stat.S_IMODE((broker.folder / "position").stat().st_mode) == 0o600
        fill(broker.folder, entries(1))
        assert list(segments(broker.folder)) == [4, 5]
        hand.read(11)
        hand.finalize()
        assert list(segments(broker.folder)) == [5]

    def test_bundles_finalized_in_another_order_move_the_position_over_what_is_complete(self, broker, opened, by_hand):
        hand = by_hand()
        marks, places = [], []
        for number in range(3):
            fill(broker.folder, entries(2))
            hand.read(2 * (number + 1))
            marks.append(hand.readers[0].get_checkpoint_mark())
        for number in (2, 0, 0, 1):
            marks[number].finalize_checkpoint()
            places.append(read_position(broker.folder).segment)
        assert places == [1, 2, 2, 3]
        assert broker.left() == []

    def test_no_more_is_read_than_may_be_in_flight(self, broker, opened, by_hand):
        fill(broker.folder, entries(500))
        hand = by_hand()
        opened.close()
        hand.readers = [
            LogSource(replace(hand.source.reading, most_messages=130, block_rows=50)).create_reader(None, None)
        ]
        hand.read(130)
        for _ in range(20):
            hand.step()
        assert opened.snapshot().backlog.messages == 130
        hand.finalize()
        hand.read(260)
        assert opened.snapshot().backlog.messages == 130

    def test_entries_that_no_bundle_finalizes_are_read_again_after_the_limit(self, broker, opened, by_hand, clock):
        fill(broker.folder, entries(3))
        hand = by_hand()
        hand.read(3)
        late = hand.readers[0].get_checkpoint_mark()
        clock.now += 3_700
        hand.read(6)
        late.finalize_checkpoint()
        assert hand.readers[0].reader.counts.acked == 0
        assert read_position(broker.folder) == Position(1, 0)
        hand.finalize()
        assert broker.left() == []

    def test_a_wrong_frame_is_counted_and_what_follows_it_is_read(self, broker, opened, by_hand):
        fill(broker.folder, sent := entries(3))
        (path,) = segments(broker.folder).values()
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        hand = by_hand()
        assert hand.read(2)["position"].to_list() == [sent[0].message_id, sent[2].message_id]
        assert hand.readers[0].reader.counts.passed_over == len(damaged) // 3

    def test_a_full_log_takes_more_once_it_is_read_and_finalized(self, broker, opened, by_hand):
        writer = writer_of(broker.folder, most_bytes=10_000)
        hand, appended = by_hand(), 0
        for _ in range(5):
            while not writer.append(entries(1, size=700)).exception(30):
                appended += 1
            hand.read(appended)
            with pytest.raises(LogFull):
                writer.append(entries(1, size=700)).result(LIMIT)
            hand.finalize()
            hand.step()  # sees the segment that the full log began
            hand.finalize()
        assert appended >= 50
        writer.close()

    def test_the_watermark_stays_behind_what_waits(self, broker, opened, by_hand, clock):
        fill(broker.folder, [entry()._replace(received=int((clock.now - 500) * 1e6))])
        hand = by_hand()
        hand.step()
        assert float(hand.watermarks()[0]) == clock.now - 500 - 0.2 - 10
        hand.read(1)
        hand.step()
        assert float(hand.watermarks()[0]) == pytest.approx(clock.now - 10)

    def test_the_watermark_stays_behind_the_rest_of_what_was_read_together(self, broker, opened, by_hand, clock):
        at = int((clock.now - 500) * 1e6)
        fill(broker.folder, [Entry(name, at, name, b"", {}) for name in "ab"])
        hand = by_hand()
        wait_until(lambda: hand.step() or hand.blocks)
        clock.now += 100
        assert float(hand.watermarks()[0]) == at / 1e6 - 10
        hand.read(2)
        hand.step()
        assert float(hand.watermarks()[0]) == pytest.approx(clock.now - 10)

    def test_a_log_has_one_reader(self, broker, opened):
        said = f"{broker.folder} is read by process {os.getpid()}; end that one, or use another folder"
        with pytest.raises(SourceError, match=said), LogQueue(str(broker.folder)).open():
            pass

    def test_a_position_that_cannot_be_stored_is_stored_later(self, broker, opened, by_hand, caplog):
        fill(broker.folder, entries(3))
        hand = by_hand()
        hand.read(3)
        (broker.folder / "position.tmp").mkdir()
        hand.finalize()
        assert not opened.flush()
        assert "what is finalized cannot be noted: Is a directory; trying again" in caplog.text
        (broker.folder / "position.tmp").rmdir()
        assert opened.flush()
        assert broker.left() == []

    def test_a_position_that_is_damaged_is_named_before_anything_starts(self, broker):
        (broker.folder / "position").write_bytes(b"?")
        with pytest.raises(SourceError, match=r"position cannot be read: .*; restore it, or delete it: then"):
            LogQueue(str(broker.folder)).check()

    def test_a_log_that_goes_while_it_is_read_is_said_in_a_line(self, broker, opened, by_hand):
        hand = by_hand()
        hand.step()
        for path in broker.folder.iterdir():
            path.unlink()
        broker.folder.rmdir()
        with pytest.raises(SourceError, match="can no longer be read: No such file or directory; fix that and restart"):
            hand.step()
        broker.folder.mkdir()

    def test_what_is_finalized_after_a_close_acknowledges_nothing(self, broker, opened, by_hand):
        fill(broker.folder, entries(3))
        hand = by_hand()
        hand.read(3)
        mark = hand.readers[0].get_checkpoint_mark()
        opened.close()
        mark.finalize_checkpoint()
        assert len(broker.left()) == 3


def test_the_options_of_a_stream_reach_the_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"input_log": "log", "expected_delay": "30s", "batch_delay": "700ms"}
    queue = queues.choose_queue(resolve(values, "run")._asdict())
    assert queue == LogQueue(f"{tmp_path}/log", timedelta(seconds=30), timedelta(milliseconds=700))
    reading = queue.read(source="shop", landing=None, again=(), drain_file="drain").reading
    assert (reading.expected_delay, reading.block_seconds) == (30.0, 0.7)
    assert (reading.source, reading.drain_file) == ("shop", "drain")


def test_an_option_that_a_log_does_not_have_is_refused_and_not_ignored(tmp_path):
    values = {"input_log": str(tmp_path), "timestamp_attribute": "at"}
    with pytest.raises(OptionError, match=r"--timestamp_attribute is not for --input_log, .*; leave it out"):
        queues.choose_queue(resolve(values, "run")._asdict()).check()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    fill(tmp_path / "log")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # of root, who may do all
    with pytest.raises(SourceError, match="log cannot be written: a reader notes there how far it is; check its perm"):
        LogQueue(str(tmp_path / "log")).check()


@pytest.mark.parametrize("folder", ["", "a@b", "a\nb"])
def test_a_name_that_is_no_path_is_refused(folder):
    with pytest.raises(OptionError, match=r"--input_log: got .*; allowed: the path of a folder"):
        LogQueue(folder).check()
