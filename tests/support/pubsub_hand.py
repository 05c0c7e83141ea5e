"""The readers of a Pub/Sub source, driven without a runner, also by processes that tests kill."""

import polars as pl

from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.source import PubSubSource, Reading
from tests.servers.needed import wait_until


class Hand:
    """A runner by hand: it drives the readers of a source and finalizes when it is asked to."""

    def __init__(self, reading: Reading, mark=None):
        self.sources = PubSubSource(reading).split(20)
        self.readers = [source.create_reader(None, mark) for source in self.sources]
        self.begun: set[int] = set()
        self.blocks: list[list[pl.DataFrame]] = [[] for _ in self.readers]

    def step(self, number: int = 0) -> bool:
        """Ask a reader once for a block."""
        reader = self.readers[number]
        found = reader.advance() if number in self.begun else reader.start()
        self.begun.add(number)
        if found:
            self.blocks[number].append(reader.get_current())
        return found

    def read(self, messages: int, seconds: float = 30.0) -> pl.DataFrame:
        """Read until all readers together have handed on so many messages."""

        def enough() -> bool:
            for number in range(len(self.readers)):
                self.step(number)
            return sum(block.height for block in self.all()) >= messages

        wait_until(enough, seconds, f"{messages} messages")
        return pl.concat(self.all())

    def all(self) -> list[pl.DataFrame]:
        return [block for blocks in self.blocks for block in blocks]

    def finalize(self) -> None:
        """Finalize what was read, on the mark as it comes over the wire, and wait until the queue knows."""
        for mark in self.marks():
            mark.finalize_checkpoint()
        assert pubsub_leases.flush(20)

    def marks(self) -> list:
        coder = self.sources[0].get_checkpoint_mark_coder()
        return [coder.decode(coder.encode(reader.get_checkpoint_mark())) for reader in self.readers]

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        assert pubsub_leases.flush(20)
