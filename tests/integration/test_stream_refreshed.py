"""Refreshes beside a stream on Prism: they run by themselves, survive their own end, and end with the stream."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psutil

from pipelines.cli import main
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogWriter
from tests.integration.streams import LONG
from tests.servers.stream import Stream, ask, streaming


def line(n: int, at: datetime) -> bytes:
    return f'{{"event_id": "{n}", "event_type": "page_view", "event_time": "{at:%FT%TZ}", "user_id": "u{n}"}}'.encode()


def refreshes_of(stream: Stream) -> Sequence[psutil.Process]:
    """The processes of a stream that refresh."""
    return [part for part in psutil.Process(stream.process.pid).children(recursive=True) if "refresh" in words_of(part)]


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; nothing of one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_answers_follow_a_stream_by_themselves_and_a_killed_refresh_starts_again(prism, tmp_path):
    log, warehouse, yesterday = tmp_path / "log", tmp_path / "warehouse", datetime.now(UTC) - timedelta(days=1)
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(line(n, yesterday) for n in range(9)) + b"\n")
    assert main(["backfill", "--input", str(tmp_path / "events.jsonl"), "--warehouse", str(warehouse)]) == 0
    writer = LogWriter(log, most_bytes=1 << 30)
    with streaming(log, prism, tmp_path, "--refresh_every", "1s") as stream:
        answers = warehouse / "insight" / "manifest.json"
        stream.until(lambda: "refresh: as of " in stream.said(), LONG, "answers")
        [first] = refreshes_of(stream)
        assert first.nice() == 19
        before = answers.stat()
        now = datetime.now(UTC)
        writer.append([Entry("m", round(now.timestamp() * 1e6), "", line(99, now), {"dialect": "native"})]).result()
        stream.until_counted("SELECT COUNT(*) FROM events", 10, LONG)
        first.kill()
        stream.until(lambda: [each for each in refreshes_of(stream) if each.pid != first.pid], LONG, "a second one")
        said = stream.said()
        assert said.count("refresh: ended by signal 9; it starts again in 1s\n") == 1
        assert "Traceback" not in said
        parts = psutil.Process(stream.process.pid).children(recursive=True)
        assert stream.end() == 0
    assert [words for part in parts if (words := words_of(part))] == []
    assert ask(warehouse, "SELECT COUNT(*) - COUNT(DISTINCT (as_of, table_name)) FROM refreshes") == 0
    # The event of today is after the newest closed bucket until its own bucket closes, which it does on a slow machine:
    # as long as no answers are as of a later time, all are as before, and none is written again.
    if ask(warehouse, "SELECT COUNT(DISTINCT as_of) FROM refreshes") == 1:
        assert (answers.stat().st_ino, answers.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
