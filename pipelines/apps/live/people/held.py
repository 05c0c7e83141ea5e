"""What is held of persons: an index of the newest answers, and what was done since; a commit replaces them.

    held = Held(warehouse, say)
    held.load()            read both
    held.current()         what may be shown now; None while it is read
    await held.run()       keep both up to date until `held.stop()`

A request looks whether the answers have changed, by the state of one file. Where a refresh has replaced them, those
that are held are shown until the new ones are read. Where they were removed, or a person was erased since, they are
dropped at once. All but reading happens in the event loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from pipelines.apps.live.people.index import TABLES, Index, read_index
from pipelines.apps.live.people.since import Since, read_since
from pipelines.insight.profile_tables import USER_PROFILES
from pipelines.warehouse.local.answers import places
from pipelines.warehouse.local.recent import version_of
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import ERASURES
from transforms.errors import WarehouseError, first_line

LOOK_SECONDS = 0.1  # between two looks whether something was committed
LEAST_SECONDS = 0.5  # between two askings of what was done since
ATTEMPTS = 5  # to read while commits replace the files

Version = tuple[int, ...]


class Current(NamedTuple):
    """One state of what is known; `erasures` is how many there had been when it was read."""

    persons: Index
    since: Since | None
    erasures: int


class _Reading(NamedTuple):
    """What was read, and of which state of the answers and of the tables."""

    current: Current
    answers: Version
    tables: Version


class Held:
    """What is held of the persons of a folder; `say` prints a line for the operator, which names nobody."""

    def __init__(self, warehouse: LocalWarehouse, say: Callable[[str], None]):
        self._warehouse, self._say = warehouse, say
        self._tables_folder, self._answers_folder = places(warehouse.folder)
        self._current: Current | None = None
        self._checked: Version | None = None  # the answers for which `_current` may be shown
        self._answers: Version | None = None  # the answers that were read
        self._tables: Version | None = None  # the tables of which `since` was asked
        self._problem = ""
        self._stopping = asyncio.Event()

    def load(self) -> None:
        """Read both. Errors: WarehouseError if they cannot be read."""
        self._adopt(self._read())

    def current(self) -> Current | None:
        """What may be shown now; None while it is read."""
        state = version_of(self._answers_folder)
        if self._current is not None and state != self._checked:
            self._checked = state
            self._current = self._still(self._current)
        return self._current

    async def run(self) -> None:
        """Keep both up to date until `stop`."""
        await asyncio.gather(self._repeat(self._keep_answers), self._repeat(self._keep_since))

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def _still(self, held: Current) -> Current | None:
        """What may be shown of what is held, now that the answers are others."""
        try:
            manifest = self._warehouse.manifest()
        except WarehouseError:
            return None  # what is not known to be allowed is not
        if not any(files for table in TABLES for files in manifest.files.get(table.name, {}).values()):
            return Current(Index({}, {}), None, held.erasures)
        return held if self._erasures() == held.erasures else None

    def _erasures(self) -> int:
        return sum(self._warehouse.rows_by_day(ERASURES.name).values())

    async def _repeat(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Take steps; after one that did something comes a pause of its length, at least LEAST_SECONDS."""
        pause = 0.0
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause or LOOK_SECONDS)
                return
            began = time.monotonic()
            pause = max(time.monotonic() - began, LEAST_SECONDS) if await self._tried(step) else 0.0

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            did = await step()
        except Exception as error:  # of the database too: a server that ends shows nothing at all
            # The words of a database may quote a value.
            self._report(first_line(error) if isinstance(error, WarehouseError) else type(error).__name__)
            return True
        if did:
            self._report("")
        return did

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._say(f"people: {problem}; trying again" if problem else "people: the warehouse is read again")

    async def _keep_answers(self) -> bool:
        if self.current() is not None and version_of(self._answers_folder) == self._answers:
            return False
        self._adopt(await asyncio.to_thread(self._read))
        return True

    async def _keep_since(self) -> bool:
        held, tables = self._current, version_of(self._tables_folder)
        if held is None or held.since is None or tables == self._tables:
            return False
        since = await asyncio.to_thread(read_since, self._warehouse, held.since.time)
        if self._current is held:
            self._current, self._tables = held._replace(since=since), tables
        return True

    def _adopt(self, found: _Reading) -> None:
        self._current, self._checked, self._answers, self._tables = (
            found.current,
            found.answers,
            found.answers,
            found.tables,
        )

    def _read(self) -> _Reading:
        """Both, of one state of the answers: read again where a commit replaced files meanwhile."""
        for attempt in range(1, ATTEMPTS + 1):
            answers, tables = version_of(self._answers_folder), version_of(self._tables_folder)
            try:
                erasures, index = self._erasures(), read_index(self._warehouse)
                as_of = index.as_of.get(USER_PROFILES.name)
                since = None if as_of is None else read_since(self._warehouse, as_of)
            except Exception:
                is_same = (answers, tables) == tuple(map(version_of, places(self._warehouse.folder)[::-1]))
                if is_same or attempt == ATTEMPTS:
                    raise
            else:
                if answers == version_of(self._answers_folder):
                    return _Reading(Current(index, since, erasures), answers, tables)
        raise WarehouseError("the answers were replaced each time that they were read")
