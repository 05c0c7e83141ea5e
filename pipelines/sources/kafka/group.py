"""The group of a reading in this process: one thread that asks the cluster and commits, so that no reader waits for it.

Found      the partitions, looked for every LOOK_SECONDS, and where each is read from: the offset that the group has
           committed, or that this warehouse holds (held.py) if that is behind; for one that has none, what `start_at`
           means when the run begins, and the first offset for a partition that is made later
Committed  every COMMIT_SECONDS what the readers have finalized. All of it again every AGAIN_SECONDS: Kafka forgets the
           offsets of a group without members after some days
Refused    a commit while a program that subscribes has the same group. Nothing is lost: it is retried, and after a
           restart what was not committed is read once more
Away       a cluster that does not answer is asked without limit; a commit waits in the client until it is back, and
           the next question with it. A refusal that lasts GRACE_SECONDS is a SourceError
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.sources.kafka.client import (
    Connection,
    describe_error,
    is_refusal,
    make_admin,
    make_consumer,
    refusal,
)
from pipelines.sources.kafka.held import choose_starts, held_path, read_held, write_held
from pipelines.sources.kafka.topics import (
    EARLIEST,
    Place,
    ask,
    describe_gone,
    find_cluster,
    find_committed,
    find_offsets,
    find_places,
)
from transforms.errors import AudienceError, SourceError

LOOK_SECONDS, COMMIT_SECONDS, AGAIN_SECONDS = 5.0, 1.0, 600.0
RETRY_SECONDS = 1.0
GRACE_SECONDS = 30.0  # a topic may be made again, or a permission granted
FLUSH_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Group:
    """See above. Any thread may call any method. `folder` is that of the run."""

    def __init__(self, connection: Connection, topics: str, group: str, start_at: str | float, folder: Path):
        self.topics, self.group, self.start_at, self.folder = topics, group, start_at, folder
        self.name = f"kafka:{topics}"
        self.failure: AudienceError | None = None
        self.is_reached = False  # whether the cluster answered last
        self.starts: dict[Place, int] = {}  # where each partition is read from
        self._admin = make_admin(connection, self.note_error)
        self._committer = make_consumer(connection, group, self.note_error)
        self._changed = threading.Condition()
        self._path: Path | None = None  # of what is held; known once the cluster has answered
        self._held: dict[Place, int] = {}
        self._wanted: dict[Place, int] = {}  # to commit
        self._committed: dict[Place, int] = {}
        self._committed_at = self._looked_at = self._begun = time.monotonic()
        self._refused_since: float | None = None
        self._is_refused = False  # the last commit
        self._asked = 0  # flushes, and how many of them are done
        self._answered = 0
        self._is_first, self._look_now, self._stopping = True, True, False
        self._thread = threading.Thread(target=self._work, name=f"group {group}", daemon=True)
        self._thread.start()

    def note_error(self, error: Any) -> None:
        """What a client says of its connection, from any thread."""
        if is_refusal(error):
            self._note_refusal(refusal(self.name, error))
        self.is_reached, self._look_now = False, True

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Have these offsets committed soon."""
        with self._changed:
            self._wanted.update(offsets)

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Have them committed now; False if that fails or takes too long."""
        with self._changed:
            if self._wanted == self._committed:
                return True
            self._asked += 1
            number = self._asked
            self._changed.notify_all()
            answered = self._changed.wait_for(lambda: self._answered >= number, seconds)
            return answered and self._wanted == self._committed

    def describe_gone(self, place: Place, next_offset: int) -> AudienceError:
        """The error for a partition whose next offset Kafka does not have."""
        first = ask(self.name, lambda: find_offsets(self._admin, [place], EARLIEST))
        return describe_gone(self.group, {place: (next_offset, first[place])})

    def close(self) -> bool:
        """Commit, and end the thread; whether that was possible in time."""
        if not self.flush():
            return False
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(FLUSH_SECONDS)
        return True

    def _work(self) -> None:
        """The body of the thread."""
        try:
            while not self._stopping:
                self._look_if_due()
                self._commit_if_due()
                with self._changed:
                    answered = self._answered >= self._asked
                    if answered and not self._stopping:
                        self._changed.wait(RETRY_SECONDS if self._look_now and not self.starts else COMMIT_SECONDS / 2)
        except BaseException as error:  # for the runner's thread: a thread that dies would be an empty queue
            is_ours = isinstance(error, AudienceError)
            self.failure = error if is_ours else SourceError(f"{self.name}: the reader failed: {error!r}")  # type: ignore[assignment]
        finally:
            self._committer.close()

    def _look_if_due(self) -> None:
        now = time.monotonic()
        if not self._look_now and now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self._admin.poll(0)  # its errors
            places = find_places(self._admin, self.topics)
            self._begin([place for place in places if place not in self.starts])
        except Exception as error:
            self._note_failed(error)
            return
        self.is_reached, self._look_now, self._is_first, self._refused_since = True, False, False, None

    def _begin(self, new: list[Place]) -> None:
        """Find where new partitions are read from."""
        if self._path is None:
            path = held_path(self.folder, find_cluster(self._admin), self.group)
            try:
                self._held, self._path = read_held(path), path
            except SourceError as error:
                self.failure = error
                raise
        committed = find_committed(self._committer, new)
        held = {place: self._held[place] for place in new if place in self._held}
        first = find_offsets(self._admin, committed.keys() & held.keys(), EARLIEST)
        starts = choose_starts(committed, held, first)
        moved = [place for place, offset in committed.items() if starts[place] != offset]
        if moved:
            _log.warning(
                "%s: another program has committed offsets of %s to the group %s; reading goes on where this warehouse "
                "ends. To start at the offsets of the group, delete %s",
                self.name,
                moved[0],
                self.group,
                self._path,
            )
        rest = [place for place in new if place not in starts]
        starts |= find_offsets(self._admin, rest, self.start_at if self._is_first else EARLIEST)
        with self._changed:
            self._committed |= committed
            self._wanted |= starts
            self.starts = self.starts | starts

    def _note_failed(self, error: Exception) -> None:
        self.is_reached, self._look_now = False, True
        cause: Any = error.args[0] if error.args else None
        if isinstance(error, AudienceError):
            self._note_refusal(error)
        elif hasattr(cause, "code"):
            if is_refusal(cause):
                self._note_refusal(refusal(self.name, cause))
            else:
                self._refused_since = None
            _log.info("%s: %s; trying again", self.name, describe_error(cause))
        else:
            raise error

    def _note_refusal(self, error: AudienceError) -> None:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= GRACE_SECONDS:
            self.failure = error

    def _commit_if_due(self) -> None:
        now = time.monotonic()
        with self._changed:
            asked, is_asked = self._asked, self._asked > self._answered
            again = now - self._committed_at >= AGAIN_SECONDS
            due = again or is_asked or now - self._committed_at >= COMMIT_SECONDS
            wanted = {
                place: offset for place, offset in self._wanted.items() if again or self._committed.get(place) != offset
            }
        if due and wanted:
            self._committed_at = now
            done = self._commit(wanted)
            with self._changed:
                self._committed |= done
        with self._changed:
            self._answered = asked
            self._changed.notify_all()

    def _commit(self, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """Hold, then commit; returns what is committed, with what is of topics that are gone."""
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        try:
            self._hold(offsets)
        except OSError as error:
            self._note_refused_commit(f"{self._path} cannot be written: {error.strerror}")
            return {}
        try:
            answer = self._committer.commit(
                offsets=[TopicPartition(*place, offset) for place, offset in offsets.items()], asynchronous=False
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return dict(offsets)
            self._note_refused_commit(describe_error(error.args[0]))
            return {}
        wrong = [each for each in answer if each.error is not None]
        if wrong:
            self._note_refused_commit(describe_error(wrong[0].error))
        else:
            self._is_refused = False
        return {Place(each.topic, each.partition): each.offset for each in answer if each.error is None}

    def _hold(self, offsets: Mapping[Place, int]) -> None:
        held = self._held | dict(offsets)
        if held != self._held and self._path is not None:
            write_held(self._path, held)
            self._held = held

    def _note_refused_commit(self, why: str) -> None:
        if not self._is_refused:
            _log.warning(
                "%s: offsets cannot be committed to the group %s (%s); trying again. No other program may read with it",
                self.name,
                self.group,
                why,
            )
        self._is_refused = True


_groups: dict[str, Group] = {}  # of this process, by the id of the reading
_lock = threading.Lock()


def group_of(id: str, make: Callable[[], Group]) -> Group:
    """The group of a reading; made when it is first asked for."""
    with _lock:
        if id not in _groups:
            _groups[id] = make()
        return _groups[id]


def flush_groups(name: str) -> bool:
    """Have all that is finalized of these topics committed; False if that took too long."""
    with _lock:
        found = [group for group in _groups.values() if group.name == name]
    return all([group.flush() for group in found])


def close_groups(ids: Iterable[str]) -> None:
    """Their readers are closed: they end once what is finalized is committed. If that takes too long, flush tries it
    again."""
    for id in ids:
        with _lock:
            group = _groups.get(id)
        if group is not None and group.close():
            with _lock:
                _groups.pop(id, None)
