"""Rows to BigQuery exactly once: on streams where each row has a number, so that a repeated append is seen.

    PCollection[rows] -> files: PCollection[bytes, JSON {table, rows}], books, refused (of events)

Gather      a bundle's rows as requests of at most REQUEST_BYTES, dealt out to shards
Number      State per shard: the stream that it writes to, made when there is none or it is old, and the number of its
            next row. Emits (stream, (number of the first row, rows)).
Reshuffle   what was numbered stays so, whatever is retried after it
Append      State per stream: `place`, below, about 150 bytes, kept; requests that came before their turn. Appends in
            the order of the numbers. What BigQuery has already (ALREADY_EXISTS) was written by a try that failed
            afterwards, and is done.

An append is all or nothing. Rows that are refused are first noted in the state, and left out once that note is
durable, by a timer: were they left out at once, a second try could not tell which rows the first one wrote. The same
holds where a stream is gone and its rows go on on a new one. Only there, and if the append had reached the old stream,
can rows be written twice.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.typehints import Tuple
from apache_beam.utils.timestamp import Timestamp
from google.api_core import exceptions

from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.retry import call_with_retries
from pipelines.warehouse.bigquery.stream import rows as bigquery_rows
from pipelines.warehouse.bigquery.stream.at_least_once import TOO_LONG, Refusal, final, path_in
from pipelines.warehouse.bigquery.stream.bundle import GatherRows, Measured, To, emit_outcomes, refused_own
from pipelines.warehouse.tables import EVENTS
from transforms.block import BlockCoder
from transforms.errors import WarehouseError

STREAM_AGE = 12 * 3600.0  # seconds after which a shard takes a new stream


class Written(NamedTuple):
    """What a sink gives."""

    files: beam.PCollection
    books: beam.PCollection
    refused: beam.PCollection


class WriteExactly(beam.PTransform):
    """See the file."""

    def __init__(self, to: To):
        super().__init__()
        self.to = to

    def expand(self, rows):
        gather = beam.ParDo(_Gather(self.to)).with_output_types(Tuple[int, pl.DataFrame], refused=pl.DataFrame)
        number = beam.ParDo(_Number(self.to)).with_output_types(Tuple[str, Tuple[int, pl.DataFrame]])
        append = beam.ParDo(_Append(self.to)).with_output_types(bytes, books=bytes, refused=pl.DataFrame)
        gathered = rows | "Gather requests" >> gather.with_outputs("refused", main="requests")
        written = (
            gathered.requests
            | "Number rows" >> number
            | "Keep the numbers" >> beam.Reshuffle()
            | "Append rows" >> append.with_outputs("books", "refused", main="files")
        )
        refused = (gathered.refused, written.refused) | "Join refused" >> beam.Flatten()
        return Written(written.files, written.books, refused)


class _Gather(GatherRows):
    def __init__(self, to: To):
        super().__init__(to)
        self.dealt = 0

    def setup(self):
        self.schema = bigquery_rows.arrow_schema(self.to.table)

    def write(self, rows):
        most = bigquery_rows.REQUEST_BYTES
        for first, length, written in bigquery_rows.cut_to_size(bigquery_rows.record_batch(rows, self.schema), most):
            part = rows.slice(first, length)
            if len(written) > most:
                yield from emit_outcomes(part, [Refusal(0, "", TOO_LONG)], self.to, self.measured)
            else:
                self.dealt += 1
                yield self.dealt % self.to.shards, part


class Line(msgspec.Struct, frozen=True):
    """The stream of a shard, when it was made (seconds since 1970), and the number of its next row."""

    stream: str
    made: float
    next: int


class _Number(beam.DoFn):
    LINE = ReadModifyWriteStateSpec("line", BytesCoder())

    def __init__(self, to: To):
        self.to, self.measured = to, Measured()

    def setup(self):
        self.lease = bigquery_clients.writes(self.to.project)

    def teardown(self):
        self.lease.close()

    def process(self, keyed, state=beam.DoFn.StateParam(LINE)):
        rows, held = keyed[1], state.read()
        line = msgspec.json.decode(held, type=Line) if held else None
        now = self.to.clock()
        if line is None or now - line.made > STREAM_AGE:
            line = Line(new_stream(self.lease, self.to, self.measured), now, 0)
        state.write(msgspec.json.encode(msgspec.structs.replace(line, next=line.next + len(rows))))
        yield line.stream, (line.next, rows)


def new_stream(lease: bigquery_clients.Lease, to: To, measured: Measured) -> str:
    """Make a stream on which rows have numbers."""
    with final(to.table, to.limits):
        return call_with_retries(
            lambda: lease.client.create(to.dataset, to.table.name, to.limits.answer), to.limits, measured.retried
        )


class Place(msgspec.Struct, frozen=True):
    """Where the rows of a numbered stream stand.

    stream   where they go: the stream itself, or the one that took its place
    next     the number of the next row
    shift    number - offset on `stream`: rows that were refused, or that an earlier stream took
    waiting  whether requests wait in the state: for an earlier one, or for this note to be durable
    noted    whether the request at `next` was tried, and `refused` are the rows to leave out of it
    """

    stream: str
    next: int = 0
    shift: int = 0
    waiting: bool = False
    noted: bool = False
    refused: list[Refusal] = []


class Gone(Exception):
    """The stream takes no more rows."""


class _Append(beam.DoFn):
    PLACE = ReadModifyWriteStateSpec("place", BytesCoder())
    WAITING = BagStateSpec("waiting", TupleCoder((VarIntCoder(), BlockCoder())))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)  # of a drain, which waits for no clock

    def __init__(self, to: To):
        self.to, self.measured = to, Measured()

    def setup(self):
        self.lease = bigquery_clients.writes(self.to.project)
        self.schema = bigquery_rows.arrow_schema(self.to.table)

    def teardown(self):
        self.lease.close()

    def process(
        self,
        keyed,
        state=beam.DoFn.StateParam(PLACE),
        waiting=beam.DoFn.StateParam(WAITING),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
    ):
        stream, (number, rows) = keyed
        held = state.read()
        place = msgspec.json.decode(held, type=Place) if held else Place(stream)
        if number == place.next:
            yield from self._advance(place, {number: rows}, state, waiting, soon, end)
        elif number >= place.next:  # else it is done
            waiting.add((number, rows))
            state.write(msgspec.json.encode(msgspec.structs.replace(place, waiting=True)))

    @on_timer(SOON)
    def go_on(
        self,
        state=beam.DoFn.StateParam(PLACE),
        waiting=beam.DoFn.StateParam(WAITING),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
    ):
        place = msgspec.json.decode(state.read(), type=Place)
        if place.noted:  # a timer may fire twice
            yield from self._advance(place, {}, state, waiting, soon, end)

    @on_timer(END)
    def finish(self, state=beam.DoFn.StateParam(PLACE), waiting=beam.DoFn.StateParam(WAITING)):
        while (place := msgspec.json.decode(state.read(), type=Place)).noted:
            yield from self._advance(place, {}, state, waiting)

    def _advance(
        self, place: Place, requests: dict[int, pl.DataFrame], state, waiting, soon=None, end=None
    ) -> Iterator:
        """Append what is next, as far as it goes; with timers, up to what must be durable first."""
        if place.waiting:
            requests |= dict(waiting.read())
            waiting.clear()
        try_on = True
        while try_on and (rows := requests.get(place.next)) is not None:
            after = self._tried(place, rows)
            try_on = not after.noted
            if try_on:
                yield from emit_outcomes(rows, place.refused, self.to, self.measured)
                del requests[place.next]
            place = after
        for request in requests.items():
            waiting.add(request)
        state.write(msgspec.json.encode(msgspec.structs.replace(place, waiting=bool(requests))))
        if place.noted and soon:
            soon.set(Timestamp.of(self.to.clock()))
            end.set(GlobalWindow().max_timestamp())

    def _tried(self, place: Place, rows: pl.DataFrame) -> Place:
        """The place after these rows; one that is `noted` says what to do about them first."""
        left_out = {refusal.row for refusal in place.refused}
        kept = [row for row in range(len(rows)) if row not in left_out]
        errors = []
        if kept:
            try:
                errors = self._answered(place, rows[kept])
            except Gone:
                stream = new_stream(self.lease, self.to, self.measured)
                return msgspec.structs.replace(place, stream=stream, shift=place.next, noted=True)
        if errors:
            table = self.to.table
            found = [Refusal(kept[each.row], path_in(each.message, table), each.message) for each in errors]
            if table.name != EVENTS.name:
                raise WarehouseError(refused_own(table, len(rows), found))
            return msgspec.structs.replace(place, noted=True, refused=[*place.refused, *found])
        return Place(place.stream, place.next + len(rows), place.shift + len(left_out))

    def _answered(self, place: Place, rows: pl.DataFrame):
        """What BigQuery refuses of the rows; of none if they are written, now or before."""
        written = bigquery_rows.record_batch(rows, self.schema).serialize().to_pybytes()
        offset = place.next - place.shift

        def append():
            try:
                return self.lease.client.append(place.stream, self.schema, written, offset, self.to.limits.answer)
            except exceptions.AlreadyExists:
                return []
            except (exceptions.NotFound, exceptions.FailedPrecondition, exceptions.OutOfRange) as problem:
                raise Gone from problem

        began = time.monotonic()
        with final(self.to.table, self.to.limits):
            errors = call_with_retries(append, self.to.limits, self.measured.retried)
        self.measured.append.update(round((time.monotonic() - began) * 1000))
        return errors
