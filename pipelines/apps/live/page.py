"""The live page of a warehouse as a program serves it, alone or beside others in one process.

page = LivePage(warehouse, every, most_bytes, links, say)
page.application   what a server of ASGI serves
page.start()       in the event loop of the server, when it is ready; page.stop() when it ends
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from pipelines.apps.live.links import Links
from pipelines.apps.live.server import application
from pipelines.apps.live.tick import Live
from pipelines.apps.live.viewers import Viewers
from pipelines.warehouse.interface import Warehouse


class LivePage:
    """A page; `every` seconds between ticks, `most_bytes` that BigQuery may bill for one question.

    Errors: WarehouseError if the warehouse cannot be read.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        every: float,
        most_bytes: int | None,
        links: Links | None,
        say: Callable[[str], None],
    ):
        live = Live(warehouse, every, most_bytes)
        live.prepare()
        if live.is_local:  # the first viewer need not wait; BigQuery would bill for a page that nobody opens
            live.tick(datetime.now(UTC))
        self.viewers = Viewers(live, say)
        self.application = application(self.viewers, links)
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick whenever somebody looks."""
        self._running = asyncio.get_running_loop().create_task(self.viewers.run())

    def stop(self) -> None:
        """End the streams of all viewers."""
        self.viewers.stop()
