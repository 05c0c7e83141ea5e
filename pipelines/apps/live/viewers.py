"""Viewers: the loop that ticks while somebody looks, and what each viewer is sent.

One tick serves all: the text of a change is made once. A viewer that is slow, or comes back, gets what it missed in one
piece, so that nothing waits for it and nothing piles up.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipelines.apps.live.answers import Keys
from pipelines.apps.live.tick import Live, Round
from pipelines.version import VERSION

LOOK_SECONDS = 0.05  # between two looks whether something was committed
BEAT_SECONDS = 15.0  # after which a silent stream says that it lives
VIEWER_SECONDS = (
    0.01  # by which each viewer puts the next tick off, once they are many: what all of them cost is bounded
)
MOST_VIEWERS = 500
RETRY_MS = 2_000


class Viewers:
    """The viewers of a page. What moves with each event is asked when something was committed, every `live.every`
    seconds at most; what moves by the day beside it. After a long tick there is a pause of its length, so that the page
    never takes a core for itself. `say` prints a line for the operator."""

    def __init__(self, live: Live, say: Callable[[str], None]):
        self.live, self._say = live, say
        self.count = 0
        self._stopping = False
        self._woken = asyncio.Event()  # set once, for all who wait; then there is another
        self._beats = 0
        self._arrived = asyncio.Event()
        self._texts: dict[tuple[str, str], bytes] = {}
        self._problem = ""

    async def run(self) -> None:
        """Tick while there are viewers, until `stop`."""
        await asyncio.gather(self._beat(), *map(self._keep, self.live.rounds))

    async def _keep(self, round: Round) -> None:
        while not self._stopping:
            if not self.count:
                await self._arrival()
                continue
            started = time.monotonic()
            await self.tick([round])
            took = time.monotonic() - started
            await self._rest(max(self.live.every - took, self.count * VIEWER_SECONDS - took, took))
            while not self._stopping and self.count and not self.live.is_due(round, time.monotonic()):
                await asyncio.sleep(LOOK_SECONDS)

    async def _beat(self) -> None:
        """Wake all viewers now and then, so that each says that it lives, and looks whether it may go on."""
        while not self._stopping:
            await (self._rest(BEAT_SECONDS) if self.count else self._arrival())
            self._beats += 1
            self._wake()

    async def _arrival(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _rest(self, seconds: float) -> None:
        """Sleep, unless it all ends."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1.0))

    async def tick(self, rounds: Sequence[Round] = ()) -> None:
        """Ask once, and wake all viewers if something changed."""
        changed = await asyncio.to_thread(self.live.tick, datetime.now(UTC), rounds=rounds)
        if self.live.problem != self._problem:
            self._problem = self.live.problem
            self._say(f"live: {self._problem}; trying again" if self._problem else "live: the warehouse is read again")
        if changed:
            self._texts.clear()
            self._wake()

    def stop(self) -> None:
        """End all streams and the loop."""
        self._stopping = True
        self._arrived.set()
        self._wake()

    def _wake(self) -> None:
        """Wake all who wait, each once."""
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def state(self) -> dict[str, Any]:
        """Everything as one object, for who cannot read a stream."""
        if not self.live.keys:
            await self.tick()
        id, keys = self.live.whole()
        return {"id": id, "page": self.described(), "keys": keys}

    def described(self) -> dict[str, Any]:
        """What does not change from tick to tick."""
        return {
            "version": VERSION,
            "every": self.live.every,
            "is_local": self.live.is_local,
            "questions": self.live.described(),
        }

    async def events(self, last: str, is_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The events of one viewer, `last` the id of the last one that it had; until it may no longer look."""
        self.count += 1
        self._arrived.set()
        try:
            if not self.live.keys and not self._stopping:
                await self._woken.wait()
            missed = self.live.since(last) if last else None
            edition, (last, keys) = self.live.edition, self.live.whole()
            yield b"retry: %d\n\n" % RETRY_MS
            yield event("page", last, self.described())
            yield event("whole", last, keys) if missed is None else event("change", last, missed)
            while not self._stopping and is_allowed():
                beats = self._beats
                if last == self.live.id:
                    await self._woken.wait()
                if self.live.edition != edition:  # a first refresh has made tables that other questions read
                    edition = self.live.edition
                    yield event("page", last, self.described())
                if piece := self._piece(last):
                    last = self.live.id
                    yield piece
                elif beats != self._beats:
                    yield b": alive\n\n"
            yield event("end", last, {"reason": "stopped" if self._stopping else "link"})
        finally:
            self.count -= 1

    def _piece(self, last: str) -> bytes:
        """What changed after `last` as an event; the same bytes for all who had it."""
        id = self.live.id
        if last == id:
            return b""
        if (last, id) not in self._texts:
            missed: Keys | None = self.live.since(last)
            made = event("whole", *self.live.whole()) if missed is None else event("change", id, missed)
            self._texts[last, id] = made
        return self._texts[last, id]


def event(name: str, id: str, value: Any) -> bytes:
    """A server-sent event of one line of JSON."""
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), id.encode(), msgspec.json.encode(value))
