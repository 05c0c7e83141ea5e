"""A stream without a runner: the graph's own functions and stateful steps, driven block by block on a simulated clock.

Driven(metrics, ...).deliver(block)   passes a raw block from a reader through all steps
.at(now)                              advances the clock: due timers fire
.figures                              the counts so far

It counts what a runner would move and keep: elements and bytes of every keyed edge, as BlockCoder writes them; bytes of
every state cell, as its own coder writes them; published rows; CPU seconds of each part. It does not measure what a
runner adds (its protocol, copies and disk).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import polars as pl
from apache_beam.coders import Coder

from pipelines.warehouse.bigquery.stream.rows import arrow_schema, record_batch
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, SESSIONS, TYPES, Table
from transforms import quality
from transforms.aggregate import Aggregation, BooksAggregation, MetricAggregation, Publish, scatter
from transforms.block import BlockCoder, tag_input
from transforms.days import as_events
from transforms.deduplicate import KeepFirst, split
from transforms.event_time import settle_event_time
from transforms.lateness import Lateness, allowed_lateness
from transforms.metrics.spec import MetricSpec
from transforms.parse import parse
from transforms.publication import Firing, Launch
from transforms.sessions import summaries
from transforms.sessions.cold import compact
from transforms.sessions.sessions import STEPS
from transforms.sessions.streaming import PublishSessions
from transforms.validate import Validator

DELAY = 10.0  # seconds that the watermark stays behind the clock, as --expected_delay has it
FIXED = {"INT64": 8, "FLOAT64": 8, "TIMESTAMP": 8, "DATE": 8, "NUMERIC": 16, "BOOL": 1}  # BigQuery's sizes of types


class Cell:
    """A cell of state, a bag or a value: what it holds, and its bytes as its coder writes them."""

    def __init__(self, coder: Coder, bag: bool):
        self.coder, self.bag = coder, bag
        self.held: list[Any] = []
        self.bytes = 0
        self.rewritten = 0  # bytes of all that was ever written

    def read(self) -> Any:
        return list(self.held) if self.bag else (self.held[-1] if self.held else None)

    def add(self, value: Any) -> None:
        size = len(self.coder.encode(value))
        self.held.append(value)
        self.bytes += size
        self.rewritten += size

    def write(self, value: Any) -> None:
        self.clear()
        self.add(value)

    def clear(self) -> None:
        self.held, self.bytes = [], 0


class Timer:
    """When it is due, in seconds; None while it is not set."""

    def __init__(self):
        self.due: float | None = None

    def set(self, at: Any) -> None:
        self.due = at.micros / 1e6

    def clear(self) -> None:
        self.due = None


class Key:
    """The state and the timers of one key of a step."""

    def __init__(self, bags: dict[str, Coder], values: dict[str, Coder], timers: tuple[str, ...]):
        self.cells = {name: Cell(coder, True) for name, coder in bags.items()}
        self.cells |= {name: Cell(coder, False) for name, coder in values.items()}
        self.timers = {name: Timer() for name in timers}

    @property
    def bytes(self) -> int:
        return sum(cell.bytes for cell in self.cells.values())

    @property
    def rewritten(self) -> int:
        return sum(cell.rewritten for cell in self.cells.values())


class Figures:
    """What was counted: by edge (elements, rows, bytes), by table (rows, bytes), by part (calls, CPU seconds)."""

    def __init__(self):
        self.elements, self.edge_rows, self.edge_bytes = Counter[str](), Counter[str](), Counter[str]()
        self.rows, self.wire, self.logical = Counter[str](), Counter[str](), Counter[str]()
        self.firings = Counter[str]()
        self.messages = 0
        self.calls, self.cpu = Counter[str](), defaultdict[str, float](float)
        self.merged = Counter[str]()  # rows that firings took up: those pending and those published before

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.calls[part] += 1
        self.cpu[part] += time.process_time() - began

    def crossed(self, edge: str, block: pl.DataFrame) -> pl.DataFrame:
        """The block as it comes out behind a keyed edge."""
        with self.timed(f"{edge}: code"):
            coded = BlockCoder().encode(block)
            again = BlockCoder().decode(coded)
        self.elements[edge] += 1
        self.edge_rows[edge] += len(block)
        self.edge_bytes[edge] += len(coded)
        return again

    def wrote(self, table: Table, rows: pl.DataFrame) -> None:
        """Rows as they go to BigQuery."""
        with self.timed("write"):
            shaped = rows.select(column.name for column in table.columns)
            wire = record_batch(shaped, arrow_schema(table)).serialize().size
        self.rows[table.name] += len(rows)
        self.wire[table.name] += wire
        self.logical[table.name] += logical_bytes(shaped, table)


class Driven:
    """The steps of a stream; `shards` are those of the deduplication and of the sessions, `window` is of the former."""

    def __init__(
        self,
        metrics: tuple[MetricSpec, ...],
        shards: int = 4,
        window: timedelta = timedelta(days=1),
        max_lateness: timedelta = timedelta(days=1),
        early: timedelta | None = None,
    ):
        self.figures, self.now, self.shards, self.window = Figures(), 0.0, shards, window
        self.kept: list[pl.DataFrame] = []  # all events that stayed: what a check counts again
        self.validate, self.too_late = Validator(), Lateness(max_lateness)
        lateness = allowed_lateness(max_lateness)
        self.keep = KeepFirst(window, Firing(streaming=True, lateness=lateness))
        self.keep.setup()
        self.metrics: list[Aggregation] = [MetricAggregation(spec, "UTC", early) for spec in metrics]
        self.books = BooksAggregation()
        self.aggregations = [*self.metrics, self.books]
        self.tables = {spec.name: table_of(spec) for spec in metrics} | {QUALITY_1M.name: QUALITY_1M}
        launch = Launch(1, "driven")
        firing = Firing(streaming=True, lateness=lateness, early=early, clock=lambda: self.now)
        self.publish = {what.name: Publish(what, launch, firing) for what in self.aggregations}
        self.sessions = PublishSessions(launch, STEPS, firing)
        self.tables[SESSIONS.name] = SESSIONS
        self.seen: dict[tuple, Key] = {}
        self.visitors: dict[int, Key] = {}  # by shard
        self.open: dict[str, dict[tuple, Key]] = {what.name: {} for what in self.aggregations}

    def deliver(self, raw: pl.DataFrame) -> None:
        """A RAW_SCHEMA block."""
        self.figures.messages += len(raw)
        with self.figures.timed("settle"):
            records = tag_input(raw, "driven")
            parsed, refused = parse(records, None, "events")
            valid, unfit = self.validate(parsed)
            timed, undated = settle_event_time(valid)
            in_time, late = self.too_late(timed)
            events = as_events(in_time)
        with self.figures.timed("count"):
            rejected = pl.concat([refused, unfit, undated, late])
            settled = pl.concat(part.select("source", "received_time", "input", "part") for part in (parsed, refused))
            booked = [quality.count(records, "received"), quality.redate(settled, "events", queue=True)]
            booked += [] if rejected.is_empty() else [quality.count(rejected, "quarantined")]
        with self.figures.timed("deduplicate: split"):
            pieces = split(events, self.window, self.shards)
        for piece in pieces:
            outputs = self._kept((piece.window, piece.shard), self.figures.crossed("deduplicate", piece.events))
            for block in outputs:
                if isinstance(block, pl.DataFrame):
                    self._keep(block)
                else:
                    booked.append(block.value)
        for entries in booked:
            self._take(self.books, entries)

    def _keep(self, events: pl.DataFrame) -> None:
        """Pass kept events to every metric, to the table and to the audit counts."""
        self.kept.append(events)
        for what in self.metrics:
            self._take(what, events)
        self._take_visits(events)
        self.figures.wrote(EVENTS, events)
        with self.figures.timed("count"):
            entries = quality.count(events, "events")
        self._take(self.books, entries)

    def _kept(self, key: tuple, events: pl.DataFrame) -> list:
        if key not in self.seen:
            seen, token = KeepFirst.SEEN, KeepFirst.TOKEN
            self.seen[key] = Key({"seen": seen.coder}, {"token": token.coder}, ("expire",))
        held = self.seen[key]
        with self.figures.timed("deduplicate: keep"):
            return list(
                self.keep.process(
                    (key, events),
                    seen_state=held.cells["seen"],
                    token_state=held.cells["token"],
                    expire=held.timers["expire"],
                )
            )

    def _take(self, what: Aggregation, block: pl.DataFrame) -> None:
        with self.figures.timed(f"{what.name}: partial"):
            pieces = scatter(what.partial(block), what.bucket, what.bucket, what.shards, what.keys)
        for key, rows in pieces:
            rows = self.figures.crossed(what.name, rows)
            held = self._key_of(what.name, key)
            with self.figures.timed(f"{what.name}: pend"):
                self.publish[what.name].process(
                    (key, rows),
                    pending=held.cells["pending"],
                    progress=held.cells["progress"],
                    **{name: held.timers[name] for name in ("soon", "end", "expire")},
                )

    def _take_visits(self, events: pl.DataFrame) -> None:
        """Process each partition by itself, as if a bundle held no more."""
        with self.figures.timed("sessions: by visitor"):
            pieces = summaries.split_by_shard(summaries.select_visits(events), self.shards)
        for shard, visits in pieces:
            visits = self.figures.crossed(SESSIONS.name, visits)
            if shard not in self.visitors:
                step = PublishSessions
                bags = {"pending": step.PENDING.coder, "cold": step.COLD.coder}
                values = {"hot": step.HOT.coder, "progress": step.PROGRESS.coder}
                self.visitors[shard] = Key(bags, values, ("soon", "due"))
            held = self.visitors[shard]
            cells = {name: held.cells[name] for name in ("pending", "progress")}
            with self.figures.timed("sessions: pend"):
                self.sessions.process((shard, visits), **cells, **held.timers)

    def _key_of(self, name: str, key: tuple) -> Key:
        if key not in self.open[name]:
            values = {"published": Publish.PUBLISHED.coder, "progress": Publish.PROGRESS.coder}
            self.open[name][key] = Key({"pending": Publish.PENDING.coder}, values, ("soon", "end", "expire"))
        return self.open[name][key]

    def at(self, now: float) -> None:
        """The clock stands at `now`, in seconds since 1970: fire what is due by it, or by the watermark behind it."""
        self.now = now
        for shard, held in self.visitors.items():
            if _due(held.timers["due"], now - DELAY):
                held.timers["due"].clear()
                self._fire_sessions(shard, held, self.sessions.fire_due, held.timers)
            if _due(held.timers["soon"], now):
                held.timers["soon"].clear()
                self._fire_sessions(shard, held, self.sessions.fire_soon, {"due": held.timers["due"]})
        for name, keys in self.open.items():
            for key, held in keys.items():
                if _due(held.timers["soon"], now):
                    held.timers["soon"].clear()
                    self._fire(name, key, held, self.publish[name].fire_soon, ())
                if _due(held.timers["end"], now - DELAY):
                    held.timers["end"].clear()
                    self._fire(name, key, held, self.publish[name].fire_on_time, ("soon",))

    def _fire(self, name: str, key: tuple, held: Key, fire: Callable, timers: tuple[str, ...]) -> None:
        cells = {cell: held.cells[cell] for cell in ("pending", "published", "progress")}
        before = held.cells["published"].read()
        pending = sum(len(frame) for frame in held.cells["pending"].read())
        with self.figures.timed(f"{name}: fire"):
            rows = list(fire(key=key, **cells, **{timer: held.timers[timer] for timer in timers}))
        for block in rows:
            self.figures.firings[name] += 1
            self.figures.merged[name] += pending + (0 if before is None else len(before))
            self.figures.wrote(self.tables[name], block)

    def _fire_sessions(self, shard: int, held: Key, fire: Callable, timers: dict[str, Timer]) -> None:
        pending, hot = held.cells["pending"].read(), held.cells["hot"].read()
        with self.figures.timed("sessions: fire"):
            rows = list(fire(shard, **held.cells, **timers))
        self.figures.firings[SESSIONS.name] += 1
        self.figures.merged[SESSIONS.name] += sum(len(frame) for frame in pending) + (0 if hot is None else len(hot))
        for block in rows:
            self.figures.wrote(SESSIONS, block)

    def state_bytes(self) -> dict[str, int]:
        """Bytes of state now, by step."""
        held = {"deduplicate": sum(key.bytes for key in self.seen.values())}
        held[SESSIONS.name] = sum(key.bytes for key in self.visitors.values())
        return held | {name: sum(key.bytes for key in keys.values()) for name, keys in self.open.items()}

    def rewritten_bytes(self) -> dict[str, int]:
        """Bytes that were written to state so far, by step."""
        held = {"deduplicate": sum(key.rewritten for key in self.seen.values())}
        held[SESSIONS.name] = sum(key.rewritten for key in self.visitors.values())
        return held | {name: sum(key.rewritten for key in keys.values()) for name, keys in self.open.items()}

    def published_rows(self, name: str) -> int:
        """Rows that the state of a metric holds published, or sessions that are held."""
        if name == SESSIONS.name:
            cold = [compact(key.cells["cold"].read, pl.lit(True)).rows for key in self.visitors.values()]
            hot = [key.cells["hot"].read() for key in self.visitors.values()]
            return sum(cold) + sum(len(frame) for frame in hot if frame is not None)
        frames = [key.cells["published"].read() for key in self.open[name].values()]
        return sum(len(frame) for frame in frames if frame is not None)


def _due(timer: Timer, now: float) -> bool:
    return timer.due is not None and timer.due <= now


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
