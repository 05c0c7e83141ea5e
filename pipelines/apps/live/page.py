"""The live page of a warehouse as a program serves it, alone or beside others in one process.

page = LivePage(warehouse, every, most_bytes, links, say, readers)
page.application   what a server of ASGI serves
page.start()       in the event loop of the server, when it is ready; page.stop() when it ends
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from pipelines.apps.live.links import Links
from pipelines.apps.live.people.endpoints import people_endpoints
from pipelines.apps.live.people.held import Held
from pipelines.apps.live.people.keys import Readers
from pipelines.apps.live.server import application
from pipelines.apps.live.tick import Live
from pipelines.apps.live.viewers import Viewers
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse


class LivePage:
    """A page; `every` seconds between ticks, `most_bytes` that BigQuery may bill for one question. `readers` may also
    ask for the answers about a person, of a folder.

    Errors: WarehouseError if the warehouse cannot be read.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        every: float,
        most_bytes: int | None,
        links: Links | None,
        say: Callable[[str], None],
        readers: Readers | None = None,
    ):
        live = Live(warehouse, every, most_bytes)
        live.prepare()
        if live.is_local:  # the first viewer need not wait; BigQuery would bill for a page that nobody opens
            live.tick(datetime.now(UTC))
        self.viewers = Viewers(live, say)
        self._held = _load(warehouse, say) if readers is not None else None
        more = people_endpoints(self._held, readers, links is None) if self._held and readers else {}
        self.application = application(self.viewers, links, more)
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to tick whenever somebody looks."""
        loop = asyncio.get_running_loop()
        self._running.append(loop.create_task(self.viewers.run()))
        if self._held is not None:
            self._running.append(loop.create_task(self._held.run()))

    def stop(self) -> None:
        """End the streams of all viewers."""
        self.viewers.stop()
        if self._held is not None:
            self._held.stop()


def _load(warehouse: Warehouse, say: Callable[[str], None]) -> Held:
    assert isinstance(warehouse, LocalWarehouse), "the command serves people of a folder alone"
    held = Held(warehouse, say)
    held.load()
    return held
