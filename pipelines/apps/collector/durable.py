"""Wait in a loop for futures that another thread resolves, many of them by one wake of the loop.

`asyncio.wrap_future` wakes the loop for each: a system call and a switch of threads for each of the requests that one
sync made durable.
"""

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial

_Done = tuple["asyncio.Future[None]", "Future[None]"]


class Durable:
    """Waits for futures of one other thread, in one loop."""

    def __init__(self) -> None:
        self._done = deque[_Done]()
        self._lock = threading.Lock()
        self._is_woken = False

    async def wait(self, future: "Future[None]") -> None:
        """Return once the future is done. Errors: those of the future."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(partial(self._add, loop, waiter))
        await waiter

    def _add(self, loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]", future: "Future[None]") -> None:
        """In the thread that resolves it; or in the loop, if it was done before."""
        self._done.append((waiter, future))
        with self._lock:
            if self._is_woken:
                return
            self._is_woken = True
        try:
            loop.call_soon_threadsafe(self._hand_on)
        except RuntimeError:  # the loop has ended, and nobody waits
            self._is_woken = False

    def _hand_on(self) -> None:
        with self._lock:
            self._is_woken = False
        while self._done:
            waiter, future = self._done.popleft()
            if waiter.done():  # cancelled: its client has gone
                continue
            if (error := future.exception()) is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
