"""Google's clients for BigQuery: one of each kind a process, shared by its threads, closed when the last one lets go.

BIGQUERY_EMULATOR_HOST (a URL) and BIGQUERY_STORAGE_EMULATOR_HOST (host:port) lead to an emulator, without credentials.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1.services.big_query_write import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from transforms.errors import WarehouseError

REST = "BIGQUERY_EMULATOR_HOST"
STORAGE = "BIGQUERY_STORAGE_EMULATOR_HOST"


class _Shared(NamedTuple):
    client: Any
    users: int


_shared: dict[tuple[str, str, str], _Shared] = {}
_lock = threading.Lock()


class Lease:
    """A client, as `client`, until `close`. A lease is held by one DoFn; what it leads to is shared."""

    def __init__(self, kind: str, project: str, make: Callable[[str], Any], host: str):
        self._key = (kind, project, host)
        with _lock:
            shared = _shared.get(self._key) or _Shared(make(project), 0)
            _shared[self._key] = shared._replace(users=shared.users + 1)
        self.client = shared.client

    def close(self) -> None:
        """Let go of the client; the last one closes its connections."""
        with _lock:
            shared = _shared.pop(self._key)
            if shared.users > 1:
                _shared[self._key] = shared._replace(users=shared.users - 1)
                return
        shared.client.close()


def rest(project: str) -> Lease:
    """Lease the client of the REST interface: tables, jobs, queries, insertAll."""
    return Lease("rest", project, _rest_client, os.environ.get(REST, ""))


def writes(project: str) -> Lease:
    """Lease the client of the Storage Write API, whose appends share their connections."""
    return Lease("writes", project, _appends, os.environ.get(STORAGE, ""))


def _rest_client(project: str) -> bigquery.Client:
    if host := os.environ.get(REST):
        return bigquery.Client(project, AnonymousCredentials(), client_options={"api_endpoint": host})
    return bigquery.Client(project)


def _appends(project: str):
    from pipelines.warehouse.bigquery.storage_write import Appends

    return Appends(_write_client())


def _write_client() -> BigQueryWriteClient:
    if host := os.environ.get(STORAGE):
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=grpc.insecure_channel(host)))
    if host := os.environ.get(REST):  # else a test would write to the tables of that name in the cloud
        raise WarehouseError(
            f"{REST} is {host}, an emulator, and {STORAGE} is not set: set it to host:port of the emulator's gRPC, or "
            "write with --write_method STREAMING_INSERTS"
        )
    return BigQueryWriteClient()
