"""A stream from a write-ahead log into a local warehouse: the rows of a backfill, whoever is killed."""

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pipelines.batch.person.elsewhere import list_copies
from pipelines.batch.person.logs import logs_of
from pipelines.sources.log.folder import read_position, segments
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogWriter
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.streams import (
    BAD,
    EVENTS,
    LONG,
    RECEIVED,
    assert_nothing_lost_or_double,
    drained,
    until_all_is_there,
    until_balanced,
)
from tests.integration.test_stream_faults import KILLS, SEED
from tests.pipelines.sources.log.test_queue import Log
from tests.servers.stream import ROOT, ask, received_times, streaming

SEGMENT = 1 << 20
MAPPING = """
source: web
fields:
  event_id: {path: id}
  event_type: {path: $attributes.dialect, map: {plain: page_view}}
  event_time: {path: at}
  user_id: {path: who}
"""


def micros(text: str | None) -> int:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00")) if text else datetime.now(UTC)
    return round(moment.timestamp() * 1e6)


def entries_of(lines: list[bytes], numbers: range) -> list[Entry]:
    times = received_times(lines)
    return [
        Entry(f"m{number}", micros(at), "", line, {"dialect": "native"})
        for number, line, at in zip(numbers, lines, times, strict=True)
    ]


WRITING = """
import os, sys
from pathlib import Path
import msgspec
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogWriter
entries = msgspec.msgpack.decode(Path(sys.argv[2]).read_bytes(), type=list[Entry])
writer = LogWriter(Path(sys.argv[1]), most_bytes=1 << 30, segment_bytes=int(sys.argv[3]))
for start in range(int(sys.argv[4]), len(entries), 20):
    writer.append(entries[start : start + 20]).result()
    os.write(1, f"{start + 20}\\n".encode())
"""


def write_and_kill(log: Path, entries: list[Entry], folder: Path, rand: random.Random) -> None:
    """Append entries by a process that is killed at random moments; what was not acknowledged is sent again."""
    held, done = folder / "entries", 0
    held.write_bytes(msgspec.msgpack.encode(entries))
    while done < len(entries):
        words = [sys.executable, "-c", WRITING, str(log), str(held), str(SEGMENT), str(done)]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rand.randint(1, 12)):
                done = int(process.stdout.readline() or done)
            process.kill()  # what it acknowledged meanwhile is not heard, and sent again


def test_writer_and_stream_are_killed_and_the_rows_are_those_of_a_backfill(records, prism, tmp_path):
    log, lines, rand = tmp_path / "log", records.lines, random.Random(SEED)
    sent = entries_of(lines, range(len(lines)))
    parts = [sent[part :: KILLS + 1] for part in range(KILLS + 1)]
    print(f"STREAM_SEED={SEED}")
    (tmp_path / "log").mkdir(0o700)
    for part in parts[:-1]:
        write_and_kill(log, part, tmp_path, rand)
        with streaming(log, prism, tmp_path) as stream:
            seen = ask(stream.warehouse, EVENTS) or 0
            stream.until_counted(EVENTS, seen + 1, LONG)
            moment = time.monotonic() + rand.uniform(0.0, 1.0)
            stream.until(lambda moment=moment: time.monotonic() >= moment, LONG)
            assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    with streaming(log, prism, tmp_path) as stream:
        writer = LogWriter(log, most_bytes=1 << 30, segment_bytes=SEGMENT)
        writer.append(parts[-1]).result(60)
        writer.append(sent[:100]).result(60)  # of clients that did not hear an answer
        until_all_is_there(stream, records)
        stream.until(lambda: not Log(log).left(), LONG, "all is read", 0.5)  # a count has what was read twice
        stream.until_counted(RECEIVED, len(lines) + 100, LONG)
        until_balanced(stream)
        drained(stream)
    writer.close()
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)
    assert read_position(log).segment == max(segments(log))
    assert len(segments(log)) == 1, "what is read is deleted"
    warehouse = LocalWarehouse.open(stream.warehouse)
    assert logs_of(warehouse) == [log.resolve()]
    assert not any("write-ahead log" in line for line in list_copies(warehouse)), "a deletion reaches it"


def test_entries_are_mapped_by_their_source_and_what_no_mapping_reads_is_quarantined(prism, tmp_path):
    log, mapping = tmp_path / "log", tmp_path / "web.yaml"
    mapping.write_text(MAPPING)
    now = datetime.now(UTC)
    received = micros(now.isoformat())
    at = now.isoformat().encode()
    payloads = [b'{"id": "%d", "who": "ann", "at": "%s"}' % (number, at) for number in range(3)]
    native = b'{"event_id": "n", "event_type": "click", "user_id": "bob", "event_time": "%s"}' % at
    writer = LogWriter(log, most_bytes=1 << 30)
    kept = [Entry(f"m{number}", received, "web", each, {"dialect": "plain"}) for number, each in enumerate(payloads)]
    kept.append(Entry("n", received, "shop", native, {"dialect": "native"}))
    kept.append(Entry("bad", received, "web", b"no JSON at all", {"dialect": "plain"}))
    writer.append(kept).result(60)
    writer.close()
    with streaming(log, prism, tmp_path, "--mapping", str(mapping)) as stream:
        stream.until_counted(EVENTS, 4, LONG)
        stream.until_counted("SELECT count(*) FROM quarantine", 1, LONG)
        drained(stream)
    told = "SELECT string_agg(event_type || ' ' || source || ' ' || user_id, ', ' ORDER BY event_id) FROM events"
    assert ask(stream.warehouse, told) == "page_view web ann, page_view web ann, page_view web ann, click shop bob"
    held = "SELECT payload::VARCHAR || ' ' || source || ' ' || code FROM quarantine"
    assert ask(stream.warehouse, held) == "no JSON at all web invalid_json"
