"""The Storage Write API: appends of Arrow record batches, over connections that are kept.

A connection is one AppendRows call: its first request names the schema, each request gets one answer, in order. An
append takes a connection to its stream out of the pool, or opens one, and puts it back after a good answer; whatever
goes wrong with a connection ends it. So threads never wait for each other, and there are as many connections as
threads append at a time.
"""

import queue
import threading
import time
from collections import defaultdict
from typing import NamedTuple

import grpc
import pyarrow as pa
from google.api_core import exceptions
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write import BigQueryWriteClient

from pipelines.warehouse.bigquery.retry import Silence

IDLE_SECONDS = 600.0  # after which a connection that nobody uses is ended


class RowError(NamedTuple):
    """A row that BigQuery refuses: its number in the request, and why."""

    row: int
    message: str


def table_path(dataset: str, table: str) -> str:
    """The name of a table of `project.dataset` in the Storage API."""
    project, _, name = dataset.rpartition(".")
    return f"projects/{project}/datasets/{name}/tables/{table}"


def default_stream(dataset: str, table: str) -> str:
    """The stream of a table on which rows are visible at once, and may be written twice."""
    return f"{table_path(dataset, table)}/streams/_default"


class Appends:
    """Appends of a process. Threads share it."""

    def __init__(self, client: BigQueryWriteClient):
        self._client = client
        self._idle: dict[str, list[tuple[float, _Connection]]] = defaultdict(list)  # since when, by time.monotonic
        self._lock = threading.Lock()

    def append(self, stream: str, schema: pa.Schema, rows: bytes, offset: int | None, seconds: float) -> list[RowError]:
        """Append one IPC message of rows; returns what BigQuery refuses, and then none of the rows is written.

        Raises Silence if there is no answer within `seconds`, or what BigQuery answers as an exception of
        google.api_core: AlreadyExists for an offset that is written, OutOfRange for one that is ahead.
        """
        self._close_stale()
        with self._lock:
            connection = self._idle[stream].pop()[1] if self._idle[stream] else None
        connection = connection or _Connection(self._client, stream, schema)
        try:
            answer = connection.ask(rows, offset, seconds)
        except BaseException:
            connection.close()
            raise
        if answer.error.code and not answer.row_errors:
            connection.close()
            raise exceptions.from_grpc_status(grpc_code(answer.error.code), answer.error.message)
        with self._lock:
            self._idle[stream].append((time.monotonic(), connection))
        return [RowError(error.index, error.message) for error in answer.row_errors]

    def _close_stale(self) -> None:
        """End what nobody has used for long: the streams of a day ago, which BigQuery ends too."""
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
            for stream, connections in idle.items():
                for since, connection in connections:
                    if since < oldest:
                        connection.close()
                    else:
                        self._idle[stream].append((since, connection))

    def create(self, dataset: str, table: str, seconds: float) -> str:
        """Make a stream on which each row has an offset, and is visible at once; its name."""
        stream = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        parent = table_path(dataset, table)
        return self._client.create_write_stream(parent=parent, write_stream=stream, timeout=seconds, retry=None).name

    def close(self) -> None:
        """End the connections."""
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
        for _, connection in (each for connections in idle.values() for each in connections):
            connection.close()
        self._client.transport.close()


def grpc_code(number: int) -> grpc.StatusCode:
    """The status code of a number in an answer."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)


class _Connection:
    """One AppendRows call; one request at a time."""

    def __init__(self, client: BigQueryWriteClient, stream: str, schema: pa.Schema):
        self._stream = stream
        self._schema: bytes | None = schema.serialize().to_pybytes()
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        # Below the client's own method, which waits for the first answer before the call can be cancelled.
        routing = (("x-goog-request-params", f"write_stream={stream}"),)
        self._call = client.transport.append_rows(iter(self._requests.get, None), metadata=routing)
        threading.Thread(target=self._listen, name=f"appends to {stream}", daemon=True).start()

    def ask(self, rows: bytes, offset: int | None, seconds: float) -> types.AppendRowsResponse:
        """The answer to one request."""
        data = {"rows": {"serialized_record_batch": rows}}
        if self._schema is not None:  # once a connection
            data["writer_schema"] = {"serialized_schema": self._schema}
            self._schema = None
        self._requests.put(types.AppendRowsRequest(write_stream=self._stream, offset=offset, arrow_rows=data))
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise Silence(f"no answer from {self._stream} within {seconds} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()

    def _listen(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
            self._answers.put(Silence(f"{self._stream} was closed"))
        except grpc.RpcError as problem:
            self._answers.put(exceptions.from_grpc_error(problem))
