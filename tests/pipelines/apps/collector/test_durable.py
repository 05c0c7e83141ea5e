"""Many waits of a loop for one thread: each ends with its own result, by few wakes of the loop."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from pipelines.apps.collector.durable import Durable


class _Counted(Durable):
    woken = 0

    def _hand_on(self) -> None:
        self.woken += 1
        super()._hand_on()


def test_each_wait_ends_with_its_own_result_and_one_wake_hands_on_many():
    durable, futures = _Counted(), [Future[None]() for _ in range(1_000)]

    def resolve() -> None:
        for number, future in enumerate(futures):
            if number % 3:
                future.set_result(None)
            else:
                future.set_exception(OSError(number))

    async def check() -> list:
        waits = [asyncio.ensure_future(durable.wait(future)) for future in futures]
        waits[1].cancel()
        await asyncio.sleep(0)
        thread = threading.Thread(target=resolve)
        thread.start()
        thread.join()  # the loop is held up until all are resolved
        return await asyncio.gather(*waits, return_exceptions=True)

    with asyncio.Runner() as runner:
        found = runner.run(check())
    assert isinstance(found.pop(1), asyncio.CancelledError)
    numbers = [number for number in range(1_000) if number != 1]
    assert [each and each.args[0] for each in found] == [None if number % 3 else number for number in numbers]
    assert durable.woken == 1


def test_a_future_that_is_done_already_is_not_waited_for():
    done, failed = Future[None](), Future[None]()
    done.set_result(None)
    failed.set_exception(OSError("disk"))

    async def check() -> None:
        durable = Durable()
        await durable.wait(done)
        with pytest.raises(OSError, match="disk"):
            await durable.wait(failed)

    with asyncio.Runner() as runner:
        runner.run(check())
