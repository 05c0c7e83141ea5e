"""A stream without a runner: the graph itself, driven block by block on a simulated clock.

Driven(metrics, ...).deliver(block)   passes a raw block from a reader through all steps
.at(now)                              advances the clock: due timers fire
.figures                              the counts so far

The steps are those that pipelines/audience.py adds to a pipeline, so they cannot differ from it. Steps between two
keyed edges run as one bundle, and each element that crosses a keyed edge begins a bundle of its own.

It counts what a runner would move and keep: elements and bytes of every keyed edge, as the coder of its elements writes
them; bytes of every state cell, as its own coder writes them; published rows; CPU seconds of each part. It does not
measure what a runner adds (its protocol, copies and disk). Metrics that share a scope share an edge and its state.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.coders import registry
from apache_beam.pipeline import PipelineVisitor
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.userstate import get_dofn_specs
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue

from benchmarks.cells import Key, arguments
from pipelines.audience import Job, build
from pipelines.warehouse.bigquery.stream.rows import arrow_schema, record_batch
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS, TYPES, Table
from transforms import quality
from transforms.aggregate import Progress
from transforms.block import BlockCoder
from transforms.gather import GatherBlocks
from transforms.metrics.aggregations import MetricAggregation
from transforms.metrics.scopes import scopes_of, unpack
from transforms.metrics.spec import MetricSpec
from transforms.publication import Launch
from transforms.sessions import streaming
from transforms.sessions.cold import compact

DELAY = 10.0  # seconds that the watermark stays behind the clock, as --expected_delay has it
FIXED = {"INT64": 8, "FLOAT64": 8, "TIMESTAMP": 8, "DATE": 8, "NUMERIC": 16, "BOOL": 1}  # BigQuery's sizes of types
# Keyed steps by the names under which they are counted; those of metrics have the names of their scopes.
METRICS, COUNTS = "Aggregate/Merge and publish", "Count audit/Merge and publish"
VISITS = "Sessions/Merge and publish"
NAMES = {
    "Gather/Hold small blocks": "gather",
    "Deduplicate/Keep one of each id": "deduplicate",
    "Keep the first refusal/Keep one of each id": "refusals",
    VISITS: SESSIONS.name,
    COUNTS: QUALITY_1M.name,
}
Output = tuple[PCollection, Any]


class Figures:
    """What was counted: by edge (elements, rows, bytes), by table (rows, bytes), by part (calls, CPU seconds)."""

    def __init__(self):
        self.elements, self.edge_rows, self.edge_bytes = Counter[str](), Counter[str](), Counter[str]()
        self.rows, self.wire, self.logical = Counter[str](), Counter[str](), Counter[str]()
        self.firings = Counter[str]()
        self.messages = 0
        self.calls, self.cpu = Counter[str](), defaultdict[str, float](float)
        self.pieces = Counter[str]()  # elements pending that firings took up
        self.taken = Counter[str]()  # rows in them
        self.merged = Counter[str]()  # rows published before, or hot sessions, that they read and wrote again
        self.kept: list[pl.DataFrame] = []  # all events that stayed: what a check counts again

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.calls[part] += 1
        self.cpu[part] += time.process_time() - began

    def wrote(self, table: Table, rows: pl.DataFrame) -> None:
        """Rows as they go to BigQuery."""
        with self.timed(f"write: {table.name}"):
            shaped = rows.select(column.name for column in table.columns)
            wire = record_batch(shaped, arrow_schema(table)).serialize().size
        self.rows[table.name] += len(rows)
        self.wire[table.name] += wire
        self.logical[table.name] += logical_bytes(shaped, table)
        if table is EVENTS:
            self.kept.append(rows)


class Step:
    """A ParDo of the graph; `key` has the state of each of its keys, if it is stateful."""

    def __init__(self, label: str, pardo: beam.ParDo, source: PCollection, outputs: dict[Any, PCollection]):
        self.label, self.dofn, self.outputs = label, pardo.dofn, outputs
        self.args, self.kwargs = pardo.args, pardo.kwargs
        self.specs = get_dofn_specs(self.dofn)
        self.stateful = any(self.specs)
        self.coder = registry.get_coder(source.element_type)
        self.keys: dict[Any, Key] = {}
        self.dofn.setup()

    def run(self, elements: Iterable[Any]) -> list[Output]:
        """Run a bundle."""
        self.dofn.start_bundle()
        made = [each for element in elements for each in self.dofn.process(element, *self.args, **self.kwargs) or ()]
        return self.routed([*made, *(self.dofn.finish_bundle() or ())])

    def take(self, element: tuple, now: float) -> list[Output]:
        """Process an element of a stateful step."""
        held = self.keys.get(element[0])
        if held is None:
            held = self.keys[element[0]] = Key(*self.specs)
        process = self.dofn.process
        return self.routed(process(element, **arguments(process, element[0], held, now)) or ())

    def fire(self, key: Any, callback: Any) -> list[Output]:
        """Call the method of a timer."""
        return self.routed(callback(self.dofn, **arguments(callback, key, self.keys[key])) or ())

    def routed(self, made: Iterable[Any]) -> list[Output]:
        """Return values with the PCollections that they are of; a tag that nothing reads is none."""
        outputs = []
        for value in made:
            tag = None
            while isinstance(value, TimestampedValue | WindowedValue | TaggedOutput):
                tag = value.tag if isinstance(value, TaggedOutput) else tag
                value = value.value
            if tag in self.outputs:
                outputs.append((self.outputs[tag], value))
        return outputs


class _Reader(PipelineVisitor):
    """Lists the steps of a pipeline in their order, and what each PCollection is handed to."""

    def __init__(self):
        self.steps: list[Step] = []
        self.consumers = defaultdict[PCollection, list[Step | PCollection]](list)

    def visit_transform(self, node):
        if isinstance(node.transform, beam.ParDo):
            (source,) = node.inputs
            label = node.full_label.rpartition("/")[0] if "ParDo(" in node.full_label else node.full_label
            step = Step(label, node.transform, source, node.outputs)
            self.steps.append(step)
            self.consumers[source].append(step)
        elif isinstance(node.transform, beam.Flatten):
            for each in node.inputs:
                self.consumers[each].append(node.outputs[None])
        else:
            assert isinstance(node.transform, beam.Impulse), f"{node.full_label} is a {node.transform}"


class Counted:
    """A sink that counts rows as they go to BigQuery; it refuses none."""

    refuses = False

    def __init__(self, figures: Figures, metrics: Iterable[MetricSpec]):
        self.figures = figures
        self.tables = {spec.name: table_of(spec) for spec in metrics}
        self.tables |= {table.name: table for table in (EVENTS, QUARANTINE, SESSIONS, QUALITY_1M)}

    def table(self, name: str) -> Table:
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        return _Write(self.figures, table, outcome)

    def confirm(self) -> beam.PTransform:
        raise NotImplementedError("a stream confirms nothing")


class _Write(beam.PTransform):
    def __init__(self, figures: Figures, table: Table, outcome: str | None):
        super().__init__()
        self.step = _Count(figures, table, outcome)

    def expand(self, rows):
        typed = beam.ParDo(self.step).with_output_types(bytes, books=bytes)
        return rows | "Count" >> typed.with_outputs("books", main="files")


class _Count(beam.DoFn):
    def __init__(self, figures: Figures, table: Table, outcome: str | None):
        self.figures, self.table, self.outcome = figures, table, outcome

    def process(self, rows):
        self.figures.wrote(self.table, rows)
        if self.outcome:
            with self.figures.timed("write: count"):
                packed = quality.pack(quality.entries_of(rows, self.outcome))
            yield TaggedOutput("books", packed)


class Driven:
    """The steps of a stream; `shards` are those of the deduplication and of the sessions, and 1 also of the
    metrics; `window` is of the deduplication.

    gather    how long small blocks wait for others, as on Dataflow; None: they do not
    sink      where rows go; None: they are counted as BigQuery would get them
    figures   what counts
    """

    def __init__(
        self,
        metrics: tuple[MetricSpec, ...],
        shards: int = 4,
        window: timedelta = timedelta(days=1),
        max_lateness: timedelta = timedelta(days=1),
        early: timedelta | None = None,
        gather: timedelta | None = None,
        sink: Sink | None = None,
        figures: Figures | None = None,
    ):
        self.figures, self.now = Figures() if figures is None else figures, 0.0
        aggregations = tuple(MetricAggregation(spec, "UTC", early, 1 if shards == 1 else None) for spec in metrics)
        self.scopes = ["+".join(what.name for what in scope.members) for scope in scopes_of(aggregations)]
        job = Job(
            source=beam.Impulse(),
            sink=Counted(self.figures, metrics) if sink is None else sink,
            input="driven",
            launch=Launch(1, "driven"),
            metrics=aggregations,
            streaming=True,
            early=early,
            max_lateness=max_lateness,
            dedup_window=window,
            shards=shards,
            clock=lambda: self.now,
            gather=None if gather is None else GatherBlocks(shards=shards, delay=gather, clock=lambda: self.now),
        )
        pipeline = beam.Pipeline()
        build(pipeline, job)
        read = _Reader()
        pipeline.visit(read)
        self.steps, self.consumers = read.steps, read.consumers
        self.names = [
            *([] if gather is None else ["gather"]),
            NAMES["Deduplicate/Keep one of each id"],
            *self.scopes,
            "refusals",
            SESSIONS.name,
            QUALITY_1M.name,
        ]

    def deliver(self, raw: pl.DataFrame) -> None:
        """A RAW_SCHEMA block."""
        self.figures.messages += len(raw)
        self._bundle(self._run(self.steps[0], [raw]))

    def at(self, now: float) -> None:
        """The clock stands at `now`, in seconds since 1970: fire what is due by it, or by the watermark behind it."""
        self.now = now
        for step in self.steps:
            for key, held in list(step.keys.items()):
                for timer in held.due(now, DELAY):
                    self._fire(step, key, timer.fire)

    def _bundle(self, outputs: list[Output]) -> None:
        """Pass outputs through all steps before the next keyed edges, and across those."""
        inbox = defaultdict[Step, list[Any]](list)
        self._hand(outputs, inbox)
        for step in self.steps:
            if not step.stateful and step in inbox:
                self._hand(self._run(step, inbox.pop(step)), inbox)
        for step, elements in inbox.items():
            for element in elements:
                self._cross(step, element)

    def _hand(self, outputs: list[Output], inbox: dict[Step, list[Any]]) -> None:
        for collection, value in outputs:
            for consumer in self.consumers[collection]:
                if isinstance(consumer, Step):
                    inbox[consumer].append(value)
                else:
                    self._hand([(consumer, value)], inbox)

    def _run(self, step: Step, elements: list[Any]) -> list[Output]:
        if isinstance(step.dofn, _Count):
            return step.run(elements)  # it times itself
        with self.figures.timed(step.label):
            return step.run(elements)

    def _cross(self, step: Step, element: tuple) -> None:
        name = self._name(step, element[0])
        with self.figures.timed(f"{name}: code"):
            coded = step.coder.encode(element)
            element = step.coder.decode(coded)
        self.figures.elements[name] += 1
        self.figures.edge_rows[name] += _rows(step, element[1])
        self.figures.edge_bytes[name] += len(coded)
        with self.figures.timed(f"{name}: process"):
            outputs = step.take(element, self.now)
        self._bundle(outputs)

    def _fire(self, step: Step, key: Any, callback: Any) -> None:
        name, cells = self._name(step, key), step.keys[key].cells
        if step.label in (METRICS, COUNTS):
            progress = Progress(*cells["progress"].read())
            self.figures.pieces[name] += progress.pending
            self.figures.taken[name] += sum(map(_pending_rows, cells["pending"].read()))
            self.figures.merged[name] += sum(map(len, _published(step.keys[key]).values()))
        elif step.label == VISITS:
            hot = cells["hot"].read()
            self.figures.pieces[name] += len(cells["pending"].read())
            self.figures.taken[name] += sum(len(streaming.unpack(packed)) for packed in cells["pending"].read())
            self.figures.merged[name] += 0 if hot is None else len(hot)
        with self.figures.timed(f"{name}: fire"):
            outputs = step.fire(key, callback)
        self.figures.firings[name] += 1
        self._bundle(outputs)

    def _name(self, step: Step, key: Any) -> str:
        return self.scopes[key[0]] if step.label == METRICS else NAMES[step.label]

    def held(self, name: str) -> list[Key]:
        """Return the keys of a keyed step, or of a scope of metrics."""
        return [
            held
            for step in self.steps
            if step.stateful
            for key, held in step.keys.items()
            if self._name(step, key) == name
        ]

    def state_bytes(self) -> dict[str, int]:
        """Bytes of state now, by keyed step and by scope."""
        return {name: sum(key.bytes for key in self.held(name)) for name in self.names}

    def rewritten_bytes(self) -> dict[str, int]:
        """Bytes that were written to state so far, by keyed step and by scope."""
        return {name: sum(key.rewritten for key in self.held(name)) for name in self.names}

    def published_rows(self, name: str) -> dict[str, int]:
        """Rows that the state of a scope holds published, by metric; or sessions that are held."""
        if name == SESSIONS.name:
            cold = [compact(key.cells["cold"].read, pl.lit(True)).rows for key in self.held(name)]
            hot = [key.cells["hot"].read() for key in self.held(name)]
            return {name: sum(cold) + sum(len(frame) for frame in hot if frame is not None)}
        found = Counter[str]()
        for key in self.held(name):
            found.update({member: len(rows) for member, rows in _published(key).items()})
        return dict(found)


def _published(key: Key) -> dict[str, pl.DataFrame]:
    """Return the published rows of a window and shard, by metric."""
    packed = key.cells["published"].read()
    return {} if packed is None else unpack(packed)


def _rows(step: Step, value: Any) -> int:
    """Return the rows of what crosses the edge to a step."""
    if isinstance(value, pl.DataFrame):
        return len(value)
    if step.label == "Gather/Hold small blocks":
        return value[0]
    return len(streaming.unpack(value[-1])) if step.label == VISITS else _pending_rows(value[-1])


def _pending_rows(packed: bytes) -> int:
    """Return the rows, or entries, of a piece of a scope (transforms/metrics/scopes.py)."""
    parts = msgspec.msgpack.decode(packed, type=list[tuple[str, bytes]])
    return sum(len(quality.unpack(data)) if _is_entries(data) else len(BlockCoder().decode(data)) for _, data in parts)


def _is_entries(data: bytes) -> bool:
    return not data.startswith(b"\xff\xff\xff\xff")  # with which Arrow's stream begins


def logical_bytes(rows: pl.DataFrame, table: Table) -> int:
    """Bytes of rows by BigQuery's sizes of its types: a text is its UTF-8 and 2, NULL is nothing."""
    total = 0
    for column in table.columns:
        values = rows[column.name]
        if column.fields:
            total += 16 * int(values.list.len().sum() or 0)
            continue
        held = values.len() - values.null_count()
        if column.type in FIXED:
            total += FIXED[column.type] * held
        else:
            sizes = values.bin.size() if TYPES[column.type][0] == pl.Binary else values.str.len_bytes()
            total += int(sizes.sum() or 0) + 2 * held
    return total
