"""The contract of a queue: a new queue subclasses QueueContract in a test file of its own and fills in what differs.

Its server is a real one, or the emulator of its makers. The readers are driven by hand, as a runner would drive them;
one test runs a whole graph. The clocks are the test's own, so nothing waits for a deadline.
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.io.unbounded_source import UnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from pipelines.settings.options import OPTIONS
from pipelines.settings.values import NAMED
from pipelines.sources import queues
from pipelines.sources.landing import LANDED_SCHEMA, LandAt, Landing, read_landed
from pipelines.sources.queue import Queue
from pipelines.streaming.status_line import Liveness
from pipelines.warehouse.write_stats import Figures
from tests.servers.needed import LIMIT, wait_until
from transforms.block import RAW_SCHEMA, BlockCoder
from transforms.errors import OptionError, SourceError

NOTHING_WRITTEN = Figures({}, None, None, None, 0, None, None)
READ: dict[str, list[bytes]] = {}  # of graphs whose worker is this process


class Broker(Protocol):
    """The server's side of one queue, empty at first."""

    def publish(self, *payloads: bytes) -> Any:
        """Publish messages."""

    def left(self) -> list[bytes]:
        """What a second reader would be given now."""

    def wait_for(self, messages: int, seconds: float = 40.0) -> list[bytes]:
        """What a second reader is given, once it was given so many different messages; sorted."""


class Clock:
    """The wall clock and the monotonic clock of a reader: they stand still until they are moved, as one."""

    def __init__(self, now: float):
        self.now = now

    def __call__(self) -> float:
        return self.now


class ByHand:
    """A runner by hand: it asks the readers of a source for blocks, and finalizes when told to."""

    def __init__(self, source: UnboundedSource, clock: Clock):
        self.source, self.clock = source, clock
        self.readers = [each.create_reader(None, None) for each in source.split(1)]
        self.begun: set[int] = set()
        self.blocks: list[pl.DataFrame] = []

    def step(self, seconds: float = 0.2) -> None:
        """Ask each reader once for a block; a fifth of a second passes."""
        self.clock.now += seconds
        for number, reader in enumerate(self.readers):
            found = reader.advance() if number in self.begun else reader.start()
            self.begun.add(number)
            if found:
                self.blocks.append(reader.get_current())

    def read(self, messages: int) -> pl.DataFrame:
        """Read until so many messages were handed on."""
        wait_until(lambda: self.step() or sum(block.height for block in self.blocks) >= messages)
        return pl.concat(self.blocks)

    def watermarks(self) -> list[Any]:
        return [reader.get_watermark() for reader in self.readers]

    def finalize(self) -> None:
        """Finalize what was read, by the marks as they travel."""
        coder = self.source.get_checkpoint_mark_coder()
        for reader in self.readers:
            coder.decode(coder.encode(reader.get_checkpoint_mark())).finalize_checkpoint()


class See(beam.DoFn):
    def __init__(self, name: str):
        self.name = name

    def process(self, block):
        READ.setdefault(self.name, []).extend(block["payload"])


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%06d" % number for number in range(start, start + count)]


class QueueContract:
    """What holds for each queue. A subclass gives:

    kind             the class
    malformed        a value of its launch option that is none
    missing          one that is well formed, of a queue that does not exist
    runners_read_it  whether Beam's runners have a reader of their own for it
    broker           a fixture: the server's side of a new queue
    values           the values of the options that name the broker's queue
    source_of        the unbounded source in what `read` returns
    timed            the queue with other clocks
    """

    kind: type[Queue]
    malformed: str
    missing: str
    runners_read_it = True

    def values(self, broker) -> Mapping[str, Any]:
        raise NotImplementedError

    def source_of(self, read: beam.PTransform) -> UnboundedSource:
        raise NotImplementedError

    def timed(self, queue: Any, clock: Clock) -> Queue:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(1_800_000_000.0)

    @pytest.fixture
    def opened(self, broker, clock) -> Iterator[Queue]:
        """The broker's queue, open; its readers are closed at the end."""
        with queues.choose_queue(self.values(broker)).open() as queue:
            yield self.timed(queue, clock)
            queue.close()
            assert queue.flush()

    @pytest.fixture
    def by_hand(self, opened, clock, tmp_path):
        """Makes readers by hand."""

        def make(landing: LandAt | None = None, again=()) -> ByHand:
            read = opened.read(source="shop", landing=landing, again=again, drain_file=str(tmp_path / "drain"))
            return ByHand(self.source_of(read), clock)

        return make

    def test_the_registry_has_it_and_its_options_are_declared(self):
        assert self.kind in queues.QUEUES
        assert self.kind.launch_option in (None, *self.kind.options)
        for name in self.kind.options:
            assert NAMED[name].names_queue
            assert type(queues.find_queue({name: NAMED[name].example})) is self.kind
        assert {option.name for option in OPTIONS if option.names_queue} == set(queues.OPTIONS)

    def test_a_queue_that_is_there_is_described_in_a_line(self, broker):
        said = queues.choose_queue(self.values(broker)).check()
        assert said and "\n" not in said

    def test_a_name_of_another_form_is_refused_with_its_option(self):
        queue = self.kind.of({self.kind.options[0]: self.malformed})
        with pytest.raises(OptionError, match=f"--{self.kind.options[0]}: got {self.malformed!r}; allowed: "):
            queue.check()

    def test_a_queue_that_does_not_exist_is_named_with_the_command_that_makes_it(self, broker):
        queue = self.kind.of({self.kind.options[0]: self.missing})
        with pytest.raises(SourceError, match=f"{self.missing}.* does not exist; .*`.+`"):
            queue.check()
        with pytest.raises(SourceError, match="does not exist"), queue.open():
            pass

    @pytest.mark.filterwarnings("ignore")  # what earlier tests left to the garbage collector, as Beam's sockets
    def test_its_blocks_travel_by_the_block_coder(self, opened):
        streaming = PipelineOptions(["--streaming"])
        readers = [opened.read(source="shop", landing=None, again=(), drain_file="none")]
        for on_dataflow in (False, True) if self.runners_read_it else ():
            readers.append(opened.read_by_runner(source="shop", on_dataflow=on_dataflow))
        for each in readers:
            blocks = beam.Pipeline(options=streaming) | "Read" >> each
            assert isinstance(beam.coders.registry.get_coder(blocks.element_type), BlockCoder)

    def test_a_runner_that_cannot_read_it_is_refused_with_its_option(self, opened):
        for on_dataflow in (False, True) if not self.runners_read_it else ():
            with pytest.raises(OptionError, match=f"--{self.kind.options[0]}: .*; allowed: "):
                opened.read_by_runner(source="shop", on_dataflow=on_dataflow)

    def test_a_message_becomes_a_row(self, broker, by_hand):
        broker.publish(b'{"event_type":"click"}')
        block = by_hand().read(1)
        assert block.schema == RAW_SCHEMA
        assert block.select("payload", "source").row(0) == (b'{"event_type":"click"}', "shop")
        assert block["received_time"].null_count() == 0

    def test_what_was_handed_on_is_the_backlog_until_it_is_finalized(self, broker, opened, by_hand):
        before = opened.snapshot()
        broker.publish(*numbered(50))
        hand = by_hand()
        read = hand.read(50)
        now = opened.snapshot()
        assert (now.messages - before.messages, now.backlog.messages) == (50, 50)
        assert now.backlog.bytes >= 300
        assert now.backlog.oldest == read["received_time"].dt.epoch("us").min() / 1e6
        hand.finalize()
        assert opened.flush()
        assert opened.snapshot().backlog == (0, 0, None)
        opened.close()
        assert opened.flush()
        assert broker.left() == []

    def test_the_backlog_ages_by_the_clock(self, broker, opened, by_hand):
        broker.publish(*numbered(3))
        by_hand().read(3)
        oldest = opened.snapshot().backlog.oldest
        for seconds in (1.5, 90.0):
            told = Liveness(lambda: NOTHING_WRITTEN, opened.snapshot, lambda s=seconds: oldest + s).figures()
            assert (told["in_flight"], told["oldest_seconds"]) == (3, seconds)

    def test_the_watermark_of_an_empty_queue_follows_the_clock(self, opened, by_hand, clock):
        hand = by_hand()
        wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > 0)
        for hours in (0, 1):
            clock.now += hours * 3_600
            hand.step()
            assert 10 <= clock.now - min(map(float, hand.watermarks())) < 11
            assert opened.snapshot().watermark == pytest.approx(min(map(float, hand.watermarks())))

    def test_what_is_not_finalized_comes_again_after_a_close(self, broker, opened, by_hand):
        broker.publish(*numbered(50))
        by_hand().read(50)
        opened.close()
        assert opened.flush()
        assert broker.wait_for(50, 20) == numbered(50)
        assert opened.snapshot().backlog.messages == 0

    def test_a_block_lands_before_it_is_handed_on(self, broker, opened, by_hand, tmp_path):
        broker.publish(*numbered(30))
        hand = by_hand(LandAt(str(tmp_path / "landing"), opened.input, "run"))
        block = hand.read(30)
        assert block.schema == LANDED_SCHEMA
        assert all(name.startswith(f"{opened.input}@run.") for name in block["input"])
        here = Landing(tmp_path / "landing")
        again = here.to_read_again(here.counts())
        assert pl.concat(map(read_landed, again)).sort("payload").equals(block.sort("payload"))

    def test_what_landed_is_read_before_the_queue_and_lands_once(self, broker, opened, by_hand, tmp_path):
        folder = tmp_path / "landing"
        broker.publish(*numbered(20))
        hand = by_hand(LandAt(str(folder), opened.input, "one"))
        hand.read(20)
        hand.finalize()
        opened.close()
        broker.publish(*numbered(20, start=20))
        again = Landing(folder).to_read_again(Landing(folder).counts())
        found = by_hand(LandAt(str(folder), opened.input, "two"), again).read(40)
        assert sorted(found["payload"][:20]) == numbered(20)
        assert sorted(found["payload"]) == numbered(40)
        assert Landing(folder).counts()["landed"].sum() == 40

    def test_a_drain_returns_what_was_not_handed_on_and_ends_time(self, broker, opened, by_hand, tmp_path):
        broker.publish(*numbered(40))
        hand = by_hand()
        wait_until(lambda: hand.step(0.0) or opened.snapshot().backlog.messages == 40, what="all is received")
        (tmp_path / "drain").touch()
        wait_until(lambda: hand.step() or hand.watermarks() == [MAX_TIMESTAMP] * len(hand.readers))
        hand.finalize()
        opened.close()
        assert opened.flush()
        assert hand.blocks == []
        assert broker.wait_for(40, 20) == numbered(40)

    @pytest.mark.filterwarnings("ignore")  # Beam's own, of its subprocesses and sockets
    def test_a_graph_reads_it_until_it_is_drained(self, broker, tmp_path, request):
        name = request.node.nodeid  # each queue has a test of this name
        with queues.choose_queue(self.values(broker)).open() as queue:
            broker.publish(*numbered(300))
            pipeline = beam.Pipeline(options=PipelineOptions(["--streaming", "--runner=FnApiRunner"]))
            at = LandAt(str(tmp_path / "landing"), queue.input, "run")
            read = queue.read(source="shop", landing=at, again=(), drain_file=str(Path(tmp_path) / "drain"))
            _ = pipeline | "Read" >> read | "See" >> beam.ParDo(See(name))
            graph = threading.Thread(target=pipeline.run, daemon=True)
            graph.start()
            wait_until(lambda: len(READ.get(name, ())) >= 300, 60)
            (tmp_path / "drain").touch()
            graph.join(LIMIT)
            assert not graph.is_alive(), "it did not end"
            assert queue.flush()
            assert (sorted(READ[name]), broker.left()) == (numbered(300), [])
