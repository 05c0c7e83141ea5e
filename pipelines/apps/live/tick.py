"""Ticks: the questions that are due, asked of one state of the warehouse, and what of the page changed since the last.

    Live(warehouse)      the numbers of the page; `tick(now)` asks all that is due, for all viewers at once
    live.rounds          what moves with each event, and what moves by the day: `tick(now, rounds=[round])` asks of one
    live.whole()         everything, for a new viewer: (id, keys)
    live.since(id)       what changed after an id that a viewer had; None if that is too long ago, or of another process

A tick reads what the windows of the questions need, not the history (bounded.py). While nothing is committed, only the
clock moves the numbers: then it asks four times a minute, and nothing at all once the windows are empty. The two rounds
may be asked in two threads, so that a funnel of a large day delays no event on its way to the page.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pipelines.apps.live.answers import Keys, Value, keys_of
from pipelines.apps.live.attention import attention
from pipelines.apps.live.bounded import Prepared, prepare
from pipelines.apps.live.questions import CALM, QUESTIONS
from pipelines.apps.live.times import times_of
from pipelines.warehouse.conditions import midnight
from pipelines.warehouse.interface import Warehouse
from transforms.errors import first_line

REMEMBERED = 600  # ticks that a viewer can catch up with
STILL = 15.0  # seconds between two ticks while nothing is committed
REST = 9.0  # times as long as the last calm round took, the next one waits: it takes a tenth of a core
NEWEST = "SELECT MAX(event_time) AS newest FROM events"
USD_A_TIB = 6.25  # of BigQuery on demand, in the US
ATTEMPTS = 3  # of a tick, while commits replace the files that it reads
PROBLEM = "The warehouse could not be read ({}); the numbers are those of the last tick."
STALE = timedelta(hours=24)  # without an event: the page is about the newest ones, wherever they are


@dataclass(eq=False)
class Round:
    """Questions that are asked together.

    name     of its times among the keys of the page
    calm     whether what moves by the day, which is asked every CALM seconds at most
    last     when it was asked, and `took` how long, in seconds of a monotonic clock
    version  of the warehouse that it was asked of
    problem  why that failed, for the operator
    """

    name: str
    calm: bool
    last: float = -float("inf")
    took: float = 0.0
    version: object = None
    problem: str = ""
    bytes: int = 0
    files: int = 0

    def __post_init__(self) -> None:
        self.names = {each.name for each in QUESTIONS if each.calm == self.calm}

    def owns(self, key: str) -> bool:
        """Whether a key of the page is of its answers."""
        return (name := key.partition(".")[0]) in self.names or name == self.name

    def rests(self, monotonic: float) -> bool:
        """Whether it must not be asked yet."""
        return self.calm and monotonic - self.last < max(CALM, REST * self.took)


class Live:
    """The numbers of a page, kept for all its viewers.

    every       seconds between two ticks, for what an open page costs an hour
    most_bytes  what BigQuery may bill for one question
    """

    def __init__(self, warehouse: Warehouse, every: float, most_bytes: int | None = None):
        self.warehouse, self.every, self._most_bytes = warehouse, every, most_bytes
        self.keys: Keys = {}
        self.rounds = (Round("at", calm=False), Round("calm_at", calm=True))
        self.asked = 0  # questions so far
        self.edition = 0  # of what `described` says
        self._run = secrets.token_hex(4)
        self._number = 0
        self._changes: deque[tuple[int, Keys]] = deque(maxlen=REMEMBERED)
        self._prepared: list[Prepared] = []
        self._tables: frozenset[str] = frozenset()
        self._kind = ""  # of the last problem
        self._taking = threading.Lock()  # each round is asked in a thread of its own

    @property
    def id(self) -> str:
        """The id of the newest change."""
        return f"{self._run}-{self._number}"

    @property
    def problem(self) -> str:
        """Why the warehouse could not be read, for the operator; empty: it was."""
        return next(filter(None, (each.problem for each in self.rounds)), "")

    @property
    def read_bytes(self) -> int:
        """Bytes that the last tick of each round had to read, or that were billed."""
        return sum(each.bytes for each in self.rounds)

    @property
    def read_files(self) -> int:
        """Files that the last tick of each round might open."""
        return sum(each.files for each in self.rounds)

    def tick(
        self,
        now: datetime,
        monotonic: Callable[[], float] = time.monotonic,
        rounds: Sequence[Round] = (),
    ) -> Keys:
        """Ask the rounds that are due, all unless some are given, and return the keys that changed; None as a value:
        the key is gone."""
        changed: Keys = {}
        for each in rounds or self.rounds:
            if self.is_due(each, started := monotonic()):
                each.last = started
                changed |= self._take(each, self._attempt(each, now), now)
                each.took = monotonic() - started
        return changed

    def is_due(self, round: Round, monotonic: float) -> bool:
        """Whether a tick at this time would ask: something was committed, or the clock moves what is shown."""
        if round.rests(monotonic):
            return False
        version = self.warehouse.version(with_answers=True)
        if version is None or version != round.version:
            return True
        return monotonic - round.last >= STILL and not self._is_empty()

    def _attempt(self, round: Round, now: datetime) -> Keys | None:
        """The answers, asked again where a commit replaced files meanwhile; None if they cannot be had."""
        for _ in range(ATTEMPTS):
            version = self.warehouse.version(with_answers=True)
            try:
                found = self._answers(round, now)
            except Exception as problem:  # of the database too: a page that ends shows nothing at all
                round.problem, self._kind = first_line(problem), type(problem).__name__
                if version is None or version == self.warehouse.version(with_answers=True):
                    break
            else:
                round.version, round.problem = version, ""
                return found
        return None

    def whole(self) -> tuple[str, Keys]:
        """The id of the newest change, and all keys."""
        with self._taking:
            return self.id, dict(self.keys)

    def since(self, id: str) -> Keys | None:
        """What changed after this id, later changes over earlier ones; None if the id is not remembered."""
        run, _, number = id.rpartition("-")
        if run != self._run or not (number.isascii() and number.isdecimal()) or int(number[:18]) > self._number:
            return None
        known = int(number)
        with self._taking:
            return self._after(known)

    def _after(self, known: int) -> Keys | None:
        if known < self._number and (not self._changes or self._changes[0][0] > known + 1):
            return None
        merged: Keys = {}
        for at, changed in self._changes:
            if at > known:
                merged |= changed
        return merged

    def described(self) -> list[dict[str, str]]:
        """What the page says of each question that this warehouse can answer."""
        fields = ("name", "title", "metric", "text", "final")
        return [
            {name: getattr(each.question, name) for name in fields}
            | {"sql": each.sql, "at": "calm_at" if each.question.calm else "at"}
            for each in self._prepared
        ]

    def prepare(self) -> None:
        """Read which tables there are, and put the questions in their SQL. Errors: WarehouseError."""
        self._prepared = prepare(self.warehouse)
        self.edition += 1
        self._tables = frozenset(self.warehouse.tables()) if self.is_local else frozenset()

    @property
    def is_local(self) -> bool:
        """Whether the warehouse is a folder, asked in DuckDB's SQL."""
        return self.warehouse.local_path is not None

    def _answers(self, round: Round, now: datetime) -> Keys:
        if not self._prepared or (self.is_local and frozenset(self.warehouse.tables()) != self._tables):
            self.prepare()
        at, newest = self._anchor(now)
        times = times_of(at, self.warehouse.time_zone)
        due = [each for each in self._prepared if each.question.calm == round.calm]
        found: Keys = {}
        with self.warehouse.asking_recent(self._since(due, times), self._most_bytes) as recent:
            for each in due:
                rows = recent.ask(each.filled(times, self.is_local))
                found |= keys_of(each.question, rows, times, now.timestamp())
        self.asked += len(due)
        round.bytes, round.files = recent.bytes, recent.files
        found |= {f"{round.name}.{name}": _text(value) for name, value in times.items()}
        if not round.calm:
            found |= self._state(now, at) | {"state.newest": found.get("now.newest") or newest}
        return found | self._cost()

    def _since(self, due: list[Prepared], times: dict[str, datetime | date]) -> dict[str, datetime]:
        """The earliest time of each table that the questions ask for."""
        since: dict[str, datetime] = {}
        for each in due:
            for table, parameter in each.question.since.items():
                time = times[parameter]
                assert isinstance(time, datetime)
                since[table] = min(since.get(table, time), time)
        return since

    def _state(self, now: datetime, at: datetime) -> Keys:
        return {
            # Of a folder its last name: a reader of a link need not know the paths of this machine.
            "state.warehouse": Path(self.warehouse.name).name if self.is_local else self.warehouse.name,
            "state.time_zone": self.warehouse.time_zone,
            "state.asked": _seconds(now),
            "state.at": _seconds(at),
            "state.is_past": int(at != now),
        }

    def _cost(self) -> Keys:
        """What the last tick of each round read, and what an open page bills an hour."""
        found: Keys = {"state.read_bytes": self.read_bytes, "state.read_files": self.read_files}
        if not self.is_local:
            hourly = self.read_bytes * 3600 / self.every
            found |= {"state.bytes_an_hour": int(hourly), "state.usd_an_hour": round(hourly / 2**40 * USD_A_TIB, 4)}
        return found

    def _anchor(self, now: datetime) -> tuple[datetime, float | None]:
        """(the time that the page is about, the newest event that is known): now; of a folder without an event of the
        last day the second after its newest event."""
        known = self.keys.get("state.newest")
        newest = float(known) if isinstance(known, int | float) else None
        if self.is_local and (newest is None or now.timestamp() - newest >= STALE.total_seconds()):
            found = self._newest(now)
            newest = newest if found is None else found.timestamp()
            if found is not None and now - found >= STALE:
                return found.replace(microsecond=0) + timedelta(seconds=1), newest
        return now, newest

    def _newest(self, now: datetime) -> datetime | None:
        """The newest event of a folder, read from its newest day alone."""
        last = (now + timedelta(days=1)).date()
        days = [day for day in self.warehouse.rows_by_day("events") if day is not None and day <= last]
        if not days:
            return None
        start = midnight(max(days), self.warehouse.time_zone)
        with self.warehouse.asking_recent({"events": start}) as recent:
            found = recent.ask(NEWEST)["newest"][0]
        return None if found is None else found.astimezone(UTC)

    def _is_empty(self) -> bool:
        """Whether the clock moves nothing: no event in the windows, or a page about the past."""
        people = self.keys.get("now.people")
        return bool(self.keys.get("state.is_past")) or (not people and not self.keys.get("minutes.rows"))

    def _take(self, round: Round, found: Keys | None, now: datetime) -> Keys:
        """Put the answers of a round in the place of its last ones; what that changed."""
        with self._taking:
            new = dict(self.keys)
            if found is not None:
                new = {key: value for key, value in new.items() if not round.owns(key) and not _is_attention(key)}
                new |= found
                new |= attention(new, now)
            new["state.problem"] = PROBLEM.format(self._kind) if self.problem else None
            changed = {key: value for key, value in new.items() if self.keys.get(key) != value}
            changed |= dict.fromkeys(self.keys.keys() - new.keys())
            if changed:
                self.keys = {key: value for key, value in new.items() if value is not None}
                self._number += 1
                self._changes.append((self._number, changed))
            return changed


def _is_attention(key: str) -> bool:
    return key.startswith("attention.")


def _seconds(time: datetime) -> float:
    return round(time.timestamp(), 3)


def _text(value: datetime | date) -> Value:
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value.isoformat()
