"""Exactly once: whatever order requests come in, wherever a bundle fails, each row is in the table once.

The steps run here without a runner, on states that a failed bundle rolls back, against the emulator.
"""

import copy
import itertools
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
import pytest
from google.cloud.bigquery_storage_v1.services.big_query_write import BigQueryWriteClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.retry import Limits
from pipelines.warehouse.bigquery.stream.bundle import To
from pipelines.warehouse.bigquery.stream.exactly_once import STREAM_AGE, Place, _Append, _Number
from pipelines.warehouse.tables import EVENTS, QUARANTINE
from tests.servers.tables import fetched, made
from transforms.block import EVENT_SCHEMA
from transforms.errors import WarehouseError
from transforms.quality import unpack

NOW = datetime.now(UTC)
LIMITS = Limits(first=0.01, most=0.05, limit=60, answer=30)
FRESH = itertools.count()


def events(ids: list[int], bad: frozenset[int] = frozenset()) -> pl.DataFrame:
    """Events of now; the `bad` ones are of 1999, which BigQuery refuses."""
    rows = [
        {
            "event_id": str(id),
            "event_type": "click",
            "event_time": NOW - timedelta(days=9999 * (id in bad)),
            "received_time": NOW,
            "source": "web",
            "input": "s",
        }
        for id in ids
    ]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA)


class Held:
    """The state of a key: what one DoFn wrote, as the runner would keep it."""

    def __init__(self):
        self.value: bytes | None = None
        self.bag: list = []
        self.timer = False

    def read(self):
        return self.value

    def write(self, value):
        self.value = value

    def add(self, value):
        self.bag.append(value)

    def clear(self):
        self.bag = []

    def set(self, _):
        self.timer = True


class Bag:
    """The same, as the bag of waiting requests."""

    def __init__(self, held: Held):
        self.read, self.add, self.clear = lambda: list(held.bag), held.add, held.clear


class Worker:
    """Runs the step that appends, each request a bundle; a bundle that fails leaves neither state nor output."""

    def __init__(self, dataset: str, table=EVENTS):
        self.step = _Append(To(dataset, table, "events", LIMITS))
        self.step.setup()
        self.held: dict[str, Held] = {}
        self.out: list = []

    def bundle(self, stream: str, request: tuple | None, fails: bool = False) -> None:
        """Process a request, or the timer that is set."""
        held = copy.deepcopy(self.held.setdefault(stream, Held()))
        ways = (held, Bag(held), held, Held())
        if request is None:
            held.timer = False
            out = list(self.step.go_on(*ways))
        else:
            out = list(self.step.process((stream, request), *ways))
        if not fails:
            self.held[stream] = held
            self.out += out

    def settle(self) -> None:
        """Fire the timers that are set until none is."""
        for stream, held in self.held.items():
            while held.timer:
                self.bundle(stream, None)
                held = self.held[stream]

    def outputs(self, tag: str) -> list:
        return [each.value for each in self.out if getattr(each, "tag", None) == tag]


@pytest.fixture(scope="module")
def dataset(bigquery_server):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bigquery_server.environment.items():
            patch.setenv(name, value)
        lease = bigquery_clients.rest("demo-project")
        yield made(lease.client, (EVENTS, QUARANTINE))
        lease.close()


@pytest.fixture
def worker(dataset):
    worker = Worker(dataset)
    yield worker
    worker.step.teardown()


def numbered(dataset: str, requests: list[pl.DataFrame]) -> list[tuple[str, tuple[int, pl.DataFrame]]]:
    """What the numbering step makes of the requests of one shard."""
    step, state = _Number(To(dataset, EVENTS, "events", LIMITS)), Held()
    step.setup()
    out = [each for rows in requests for each in step.process((0, rows), state)]
    step.teardown()
    return out


def ids_of(dataset: str, least: int, end: int) -> list[int]:
    """The ids in the table from `least` up to `end`, in order, with the repeated ones."""
    lease = bigquery_clients.rest("demo-project")
    rows = fetched(lease.client, f"SELECT CAST(event_id AS INT64) AS id FROM `{dataset}.events`")
    lease.close()
    return sorted(id for (id,) in rows if least <= id < end)


REQUESTS = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=5)  # per row: is it bad?


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS, data=st.data())
def test_each_row_is_written_once_in_any_order_with_failures_anywhere(worker, dataset, requests, data):
    least = next(FRESH) * 1000
    ids = itertools.count(least)
    rows = [[(next(ids), bad) for bad in request] for request in requests]
    bad = frozenset(id for request in rows for id, is_bad in request if is_bad)
    todo = numbered(dataset, [events([id for id, _ in request], bad) for request in rows])
    worker.held, worker.out = {}, []
    for stream, request in data.draw(st.permutations(todo)):
        for _ in range(data.draw(st.integers(0, 2), label="failures")):
            worker.bundle(stream, request, fails=True)
        worker.bundle(stream, request)
        if data.draw(st.booleans(), label="timer") and worker.held[stream].timer:
            worker.bundle(stream, None, fails=data.draw(st.booleans(), label="timer fails"))
            worker.held[stream].timer = True
        if data.draw(st.booleans(), label="repeated"):
            worker.bundle(stream, request)
    worker.settle()
    assert [held.bag for held in worker.held.values()] == [[]]
    good = [id for request in rows for id, is_bad in request if not is_bad]
    assert ids_of(dataset, least, least + 1000) == good
    counted = [entry for entries in worker.outputs("books") for entry in unpack(entries)]
    assert sum(n for *_, outcome, n in counted if outcome == "events") == len(good)
    refused = [position for block in worker.outputs("refused") for position in block["position"]]
    assert sorted(refused) == sorted(f"events:web:{id}" for id in bad)


def test_refused_rows_leave_no_gap_in_a_stream(worker, dataset):
    least = next(FRESH) * 1000
    bad = frozenset([least, least + 1])
    todo = numbered(dataset, [events([least, least + 1, least + 2], bad), events([least + 3])])
    for stream, request in todo:
        worker.bundle(stream, request)
    worker.settle()
    assert ids_of(dataset, least, least + 1000) == [least + 2, least + 3]
    place = msgspec.json.decode(worker.held[stream].value, type=Place)
    assert place == Place(stream, next=4, shift=2), "on the same stream, whose rows BigQuery counts without gaps"


def test_a_stream_that_is_finalized_is_replaced_and_its_rows_go_on(worker, dataset):
    least = next(FRESH) * 1000
    (stream, first), (_, second), (_, third) = numbered(dataset, [events([least + n]) for n in range(3)])
    worker.bundle(stream, first)
    finalize(worker.step.lease.client._client, stream)
    worker.bundle(stream, second)
    worker.bundle(stream, third)
    assert ids_of(dataset, least, least + 1000) == [least], "first the new stream is noted"
    worker.settle()
    assert ids_of(dataset, least, least + 1000) == [least, least + 1, least + 2]


def finalize(client: BigQueryWriteClient, stream: str) -> None:
    client.finalize_write_stream(name=stream)


def test_a_stream_that_is_unknown_is_replaced(worker, dataset):
    least = next(FRESH) * 1000
    stream = numbered(dataset, [events([least])])[0][0][:-16] + "0" * 16
    worker.bundle(stream, (0, events([least])))
    worker.settle()
    assert ids_of(dataset, least, least + 1000) == [least]


def test_a_drain_waits_for_no_timer(worker, dataset):
    least = next(FRESH) * 1000
    (stream, request), (_, more) = numbered(
        dataset, [events([least, least + 1], frozenset([least])), events([least + 2], frozenset([least + 2]))]
    )
    worker.bundle(stream, request)
    worker.bundle(stream, more)
    held = worker.held[stream]
    worker.out += worker.step.finish(held, Bag(held))
    assert ids_of(dataset, least, least + 1000) == [least + 1]
    assert len(worker.outputs("refused")) == 2


def test_an_old_stream_is_not_written_to(dataset):
    now = [0.0]
    step, state = _Number(To(dataset, EVENTS, "events", LIMITS, clock=lambda: now[0])), Held()
    step.setup()
    streams = []
    for age in (0, STREAM_AGE, STREAM_AGE + 1):
        now[0] = age
        streams += step.process((0, events([0, 1])), state)
    step.teardown()
    (first, (start, _)), (second, (after, _)), (third, (new, _)) = streams
    assert first == second != third
    assert (start, after, new) == (0, 2, 0)


def test_a_refused_row_of_the_pipelines_own_is_an_error(dataset):
    worker = Worker(dataset, QUARANTINE)
    rows = pl.DataFrame({column.name: [None] for column in QUARANTINE.columns})
    lease = bigquery_clients.writes("demo-project")
    stream = lease.client.create(dataset, "quarantine", 5)
    with pytest.raises(WarehouseError, match="table quarantine: BigQuery refused 1 of 1 rows"):
        worker.bundle(stream, (0, rows))
    lease.close()
    worker.step.teardown()
