"""Ask Kinesis for records: threads that take the shard that is due, as long as the reader has room.

Pace     a shard is asked every OFTEN seconds while it has records, else every SELDOM: of five requests a second that a
         shard answers, four at most, which leaves one to others
Retries  what is throttled, and what fails for now, is asked again without limit, after waits that grow by shard
Refused  a refusal that lasts GRACE_SECONDS ends the reader with a SourceError
Gap      Kinesis deletes what is too old and says nothing. Where the time up to which a shard is known is longer ago
         than records are kept, the reader ends with a SourceError that says so
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.sources.kinesis.client import (
    EXPIRED_ITERATOR,
    MOST_THREADS,
    THROTTLED,
    About,
    Kinesis,
    code_of,
    describe_error,
    describe_refusal,
    is_refusal,
    server_time,
)
from pipelines.sources.kinesis.marks import (
    Mark,
    Marks,
    begin_anew,
    check_marks,
    describe_gap,
    path_of,
    read_marks,
    write_marks,
)
from pipelines.sources.kinesis.messages import parts_of
from pipelines.sources.kinesis.reader import KinesisReader
from pipelines.sources.kinesis.shards import Shard, Shards, parents_of
from pipelines.sources.retries import waits
from pipelines.system.disk import cannot_write
from transforms.errors import SourceError

OFTEN, SELDOM = 0.25, 0.5
GRACE_SECONDS = 5.0  # a permission may be granted, or credentials may be renewed
LIST_SECONDS = 60.0  # between two lists of the shards; after the end of a shard RELIST_SECONDS
RELIST_SECONDS = 1.0
GAP_SECONDS = 60.0  # for what Kinesis keeps a little longer, and for clocks
OPTION = "input_kinesis"
_log = logging.getLogger(__name__)


class Puller:
    """What asks for the records of one reader. Its threads end when the reader stops."""

    def __init__(self, reader: KinesisReader, kinesis: Kinesis):
        self.reader, self.kinesis = reader, kinesis
        self.about: About | None = None
        self._refused_at: float | None = None  # the list of shards
        self._list_at = 0.0
        self._changed = threading.Condition(reader.lock)
        self._threads = 0
        self._start_thread()

    def _start_thread(self) -> None:
        self._threads += 1
        name = f"pull {self.kinesis.stream} {self._threads}"
        threading.Thread(target=self._work, args=(self._threads == 1,), name=name, daemon=True).start()

    def _work(self, is_first: bool) -> None:
        """Ask until stopped: the body of a thread. The first one learns what there is, and starts the others."""
        try:
            if is_first:
                self._try_until_done(self._begin)
            while not self.reader.stopping.is_set():
                if is_first:
                    self._list_when_due()
                shard = self._next_shard()
                if shard is not None:
                    self._ask(shard)
        except BaseException as error:  # for the runner's thread: a thread that dies would be an empty queue
            self._fail(error if isinstance(error, Exception) else SourceError(f"the reader failed: {error!r}"))
        finally:
            if is_first and self.reader.stopping.is_set():
                self.kinesis.close()

    def _fail(self, error: Exception) -> None:
        if self.reader.failure is None and not self.reader.stopping.is_set():
            self.reader.failure = error
        self.reader.stopping.set()

    def _try_until_done(self, ask: Callable[[], None]) -> None:
        tries = waits()
        refused_at: float | None = None
        while not self.reader.stopping.is_set():
            try:
                return ask()
            except Exception as error:
                refused_at = self._note(error, refused_at)
                self.reader.stopping.wait(next(tries))

    def _note(self, error: Exception, refused_at: float | None) -> float | None:
        """Count a request that failed; returns since when it is refused. Raises what a retry cannot help."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not isinstance(error, (BotoCoreError, ClientError)):
            raise error
        is_throttled, now = code_of(error) in THROTTLED, time.monotonic()
        with self.reader.lock:
            self.reader.counts.throttled += is_throttled
            self.reader.counts.failed += not is_throttled
        _log.info("%s: %s; trying again", self.kinesis.stream, describe_error(error))
        if not is_refusal(error):
            return None
        if refused_at is not None and now - refused_at >= GRACE_SECONDS:
            raise describe_refusal(self.kinesis, error, OPTION) from error
        return now if refused_at is None else refused_at

    def _begin(self) -> None:
        reading = self.reader.reading
        self.about = self.kinesis.describe()
        listed = parents_of(self.kinesis.shards())
        path = path_of(Path(reading.drain_file).parent, self.about.arn)
        stored = read_marks(path)
        marks = stored if stored is not None else self._first_marks(path)
        if stored is not None:
            check_marks(path, stored, self.about, listed, self._now(None))
        shards = Shards(marks, self.reader.new_watermark)
        shards.update(listed)
        self._list_at = time.monotonic() + LIST_SECONDS
        self.reader.begin(shards, path, marks)

    def _first_marks(self, path: Path) -> Marks:
        """Those of a stream that was never read; stored, so that `latest` stays what it is now."""
        assert self.about is not None
        at = self.reader.reading.start_at
        start = None if at == "earliest" else self._now(None) if at == "latest" else float(at)
        marks = Marks(self.about.arn, self.about.created, start)
        try:
            write_marks(path, marks)
        except OSError as error:
            raise cannot_write(path, error) from error
        return marks

    def _now(self, answer: Mapping[str, Any] | None) -> float:
        """The time by the server's clock, where it states it."""
        told = server_time(dict(answer)) if answer is not None else self.about.now if self.about else None
        return told if told is not None else self.reader.reading.wall()

    def _list_when_due(self) -> None:
        with self.reader.lock:
            shards = self.reader.shards
            if shards is None:
                return
            missing = self._threads < min(MOST_THREADS, len(shards.readable()))
            is_due = time.monotonic() >= self._list_at
        if missing:
            self._start_thread()
        if not is_due:
            return
        try:
            listed = parents_of(self.kinesis.shards())
        except Exception as error:
            self._refused_at = self._note(error, self._refused_at)
            self._list_at = time.monotonic() + RELIST_SECONDS
            return
        self._refused_at = None
        with self.reader.lock:
            shards.update(listed)
            rest = RELIST_SECONDS if shards.waiting_for_children() else LIST_SECONDS
            self._list_at = time.monotonic() + rest
            self._changed.notify_all()

    def _next_shard(self) -> Shard | None:
        """The shard that is due, once there is one; None after a while without."""
        with self.reader.lock:
            if self.reader.shards is None:
                self._changed.wait(OFTEN)
                return None
            free = [shard for shard in self.reader.shards.readable() if not shard.is_busy]
            shard = min(free, key=lambda each: each.due, default=None)
            rest = OFTEN if shard is None else shard.due - time.monotonic()
            if shard is None or rest > 0:
                self._changed.wait(min(rest, OFTEN))
                return None
            shard.is_busy = True
            return shard

    def _ask(self, shard: Shard) -> None:
        """Ask a shard once, and say when it is due again."""
        rest = OFTEN
        try:
            rest = self._receive(shard)
            shard.tries, shard.refused_at = waits(), None
        except SourceError:
            raise
        except Exception as error:
            with self.reader.lock:
                shard.is_at_tip = False
            if code_of(error) == EXPIRED_ITERATOR:
                shard.iterator, rest = None, 0.0
            else:
                shard.refused_at = self._note(error, shard.refused_at)
                rest = next(shard.tries)
        finally:
            with self.reader.lock:
                shard.is_busy, shard.due = False, time.monotonic() + rest
                self._changed.notify()

    def _receive(self, shard: Shard) -> float:
        """Receive what a shard has next; returns the seconds until it is to be asked again."""
        room = self.reader.room()
        if room <= 0:
            shard.is_at_tip = False
            return OFTEN
        with self.reader.lock:
            turn, mark, iterator = shard.turn, shard.mark, shard.iterator
        if iterator is None:
            iterator = self._iterator(shard.id, mark)
        answer = self.kinesis.records(iterator, room)
        now, behind = self._now(answer), answer.get("MillisBehindLatest", 0) / 1_000
        self._check_gap(shard, mark, now, behind)
        records, reading = answer["Records"], self.reader.reading
        parts = list(parts_of(records, shard.id, reading.block_rows, reading.block_bytes))
        with self.reader.lock:
            if shard.turn != turn or self.reader.shards is None:
                return 0.0
            if mark.known is None and records:  # nothing before it was there to be read
                shard.mark = Mark(mark.sequence, records[0]["ApproximateArrivalTimestamp"].timestamp())
            for number, part in enumerate(parts, 1):
                arrived = max(part.poll.received, default=0) / 1e6
                known = max(now - behind, arrived) if number == len(parts) else arrived
                self.reader.hold(shard, part, max(known, mark.known or 0.0))
            self._note_answer(shard, answer, now, behind)
        return OFTEN if records else SELDOM

    def _note_answer(self, shard: Shard, answer: Mapping[str, Any], now: float, behind: float) -> None:
        shard.iterator, shard.behind, shard.answered = answer.get("NextShardIterator"), behind, time.monotonic()
        if shard.first_behind is None:
            shard.first_behind = behind
        ended = shard.iterator is None
        shard.is_at_tip = not answer["Records"] and behind == 0
        known = max(now - behind, shard.mark.known or 0.0)
        shard.mark = Mark(shard.mark.sequence, known, ended)
        if ended:
            self._list_at = 0.0

    def _iterator(self, shard: str, mark: Mark) -> str:
        assert self.reader.shards is not None
        marks = self.reader.shards.marks
        try:
            return self.kinesis.iterator(shard, after=mark.sequence, since=marks.start)
        except Exception as error:
            is_unknown = code_of(error) == "InvalidArgumentException" or "SequenceNumber" in str(error)
            if mark.sequence is None or not is_unknown:
                raise
            raise SourceError(
                f"{shard} has no record with the number of its mark any more ({describe_error(error)});"
                f" {begin_anew(self.reader.path or Path())}"
            ) from error

    def _check_gap(self, shard: Shard, mark: Mark, now: float, behind: float) -> None:
        """Errors: SourceError where records may have been deleted before they were received."""
        assert self.about is not None and self.reader.path is not None
        if mark.known is None or now - mark.known <= self.about.retention + GAP_SECONDS:
            return
        self.about = self.kinesis.describe()  # records may be kept for longer since
        allowed = max(self.about.retention, shard.first_behind or 0.0) + GAP_SECONDS
        if now - mark.known > allowed:
            raise describe_gap(self.reader.path, shard.id, mark.known, self.about.retention)


def begin_pulling(reader: KinesisReader) -> None:
    """Have a reader's stream asked for records, unless it is already. Errors: SourceError without boto3 or a region."""
    with reader.lock:
        if not reader.is_pulled:
            reader.is_pulled = True
            Puller(reader, Kinesis(reader.reading.stream))
