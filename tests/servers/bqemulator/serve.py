"""The BigQuery emulator as its own process, in the environment `.tools/bqemulator`: bqemulator, made to run without a
network, in bounded memory, and as strict as BigQuery where a sink depends on it.

    python serve.py [BUCKETS]    prints {"rest": port, "grpc": port} on one line once both ports answer

BUCKETS is the folder in which fake-gcs-server keeps its buckets: a load job from gs://... reads there.

What is changed of bqemulator 1.4.0:
- DuckDB's extensions `spatial` and `avro` are not loaded: it would download them.
- A write takes no copy of its table (time travel), which cost 6.5 GB for 600 writes.
- Each thread has a cursor of its own: REST and gRPC shared one connection, and took each other's results.
- insertAll and AppendRows refuse, row by row, what BigQuery refuses: see strict.py.
- A query that fails is an HTTP error, not an answer without rows.
- A transaction is one of DuckDB's, which others see once it is committed, not copies of tables.
- 200 connections may append at a time: each takes a thread, of which it had six.
- AppendRows knows the fields of a RECORD.
- A column that is added to a schema is added to what is stored.
- A load job takes uploads of any media type, and matches the columns of a Parquet file by name.
- Its SQL may be nested as deep as a UNION of a month of days, which its parser visits by recursion.
- What it parses and translates it remembers, and views are put into a statement by their names: see remembered.py.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import bqemulator.server as composition
import grpc
from bqemulator.api.routes import jobs, tabledata, tables, upload
from bqemulator.config import Settings
from bqemulator.grpc_api import write_servicer
from bqemulator.jobs import executor
from bqemulator.scripting.interpreter import ScriptInterpreter
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns
from bqemulator.versioning.snapshots import SnapshotManager, TableDataChanged
from fastapi import Request
from fastapi.responses import JSONResponse

sys.path.insert(0, str(Path(__file__).parent))
import remembered
import strict

sys.setrecursionlimit(10_000)
QUERIES = "/bigquery/v2/projects/{project_id}/queries"
TABLE = "/bigquery/v2/projects/{project_id}/datasets/{dataset_id}/tables/{table_id}"
INSERT_ALL = f"{TABLE}/insertAll"


class Engine(DuckDBEngine):
    """One database in memory, a cursor a thread."""

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self._cursors = threading.local()

    @property
    def connection(self):
        if not hasattr(self._cursors, "own"):
            self._cursors.own = super().connection.cursor()
            self._cursors.own.execute("SET TimeZone = 'UTC'")
        return self._cursors.own

    def _load_spatial(self) -> None:
        pass


class Snapshots(SnapshotManager):
    """Tells those who wait for a change, and keeps no copy."""

    def record_change(self, project_id: str, dataset_id: str, table_id: str) -> None:
        self._events.publish(TableDataChanged(project_id, dataset_id, table_id))


class Appends(write_servicer.BigQueryWriteHandler):
    """AppendRows with BigQuery's refusals: none of a request's rows is written if one is refused."""

    def _perform_append(self, bound_stream, rows_table, offset, max_buffered_rows):
        where = (bound_stream.project_id, bound_stream.dataset_id, bound_stream.table_id)
        meta = self._ctx.catalog.get_table(*where)
        errors = strict.refused_batch(meta, rows_table)
        if errors:
            return strict.append_refused(bound_stream.name, errors)
        return super()._perform_append(bound_stream, rows_table, offset, max_buffered_rows)


class Read:
    """A request whose body was read and checked already."""

    def __init__(self, body: dict):
        self._body = body

    async def json(self) -> dict:
        return self._body


def create_app(context):
    """The emulator's own application, with a strict insertAll in front of its own."""
    app = original_app(context)
    seen = strict.Seen()

    async def insert_all(project_id: str, dataset_id: str, table_id: str, request: Request):
        body = await request.json()
        meta = context.catalog.get_table(project_id, dataset_id, table_id)
        refused: list[dict] = []
        if meta is not None:
            rows, refused = strict.checked(meta, body)
            body = {**body, "rows": seen.first((project_id, dataset_id, table_id), rows)}
        answer = await tabledata.insert_all(project_id, dataset_id, table_id, Read(body), context)
        return answer | {"insertErrors": refused or answer["insertErrors"]}

    async def query(project_id: str, request: Request, ctx: jobs._Ctx, caller: jobs._Caller):
        answer = await jobs.query(project_id, request, ctx, caller)
        errors = answer.get("errors")
        if not errors:
            return answer
        code = 404 if errors[0].get("reason") == "notFound" else 400
        told = {"code": code, "message": errors[0].get("message"), "errors": errors}
        return JSONResponse({"error": told}, code)

    async def patch(project_id: str, dataset_id: str, table_id: str, request: Request):
        body = await request.json()
        before = context.catalog.get_table(project_id, dataset_id, table_id)
        answer = await tables.patch_table(project_id, dataset_id, table_id, Read(body), context)
        there = {field.name for field in before.schema_.fields}
        fields = [field for field in body.get("schema", {}).get("fields", ()) if field["name"] not in there]
        for name, kind in bq_schema_to_duckdb_columns(fields):
            target = quoted_table_ref(project_id, dataset_id, table_id)
            context.engine.execute(f'ALTER TABLE {target} ADD COLUMN "{name}" {kind}')
        return answer

    for method, path, endpoint in (("POST", INSERT_ALL, insert_all), ("POST", QUERIES, query), ("PATCH", TABLE, patch)):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
        app.router.routes.insert(0, app.router.routes.pop())
    return app


async def transact(script, statement: str) -> None:
    """BEGIN, COMMIT or ROLLBACK of a script."""
    if (statement == "BEGIN") == (script._active_txn is None):
        script._ctx.engine.execute(statement)
        script._active_txn = {} if statement == "BEGIN" else None


def follow_duckdb() -> None:
    """Let scripts use DuckDB's transactions."""

    async def nothing(script, sql: str) -> None:
        pass

    ScriptInterpreter._handle_txn_statement = transact
    ScriptInterpreter._snapshot_dml_targets = nothing
    ScriptInterpreter._drop_txn_snapshots = lambda script: transact(script, "COMMIT")
    ScriptInterpreter._restore_txn_snapshots = lambda script: transact(script, "ROLLBACK")


def arrow_schema(meta):
    """The Arrow schema of a table, down to the fields of its RECORDs."""
    return tabledata._build_arrow_schema(tabledata._fields_raw_from_schema(meta.schema_.fields))


def load_parquet(path: str, target: str, context) -> None:
    """Columns by name, as BigQuery does; a column that the file lacks is NULL."""
    context.engine.execute(f"INSERT INTO {target} BY NAME SELECT * FROM read_parquet(?)", [path])


async def main() -> None:
    """Serve until SIGTERM or SIGINT, or until the process that started this one is gone."""
    sys.stdout = sys.stderr  # where the emulator logs
    buckets = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    settings = Settings(
        rest_port=0, grpc_port=0, enable_format_extensions=False, log_level="error", gcs_local_root=buckets
    )
    server = composition.EmulatorServer(settings)
    await server.start()
    stopped = asyncio.Event()
    parent = os.getppid()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopped.set)
    print(json.dumps({"rest": server.rest_port, "grpc": server.grpc_port}), file=sys.__stdout__, flush=True)
    while not stopped.is_set() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), timeout=1)
    await server.stop()


original_app = composition.create_app
composition.create_app = create_app
composition.DuckDBEngine = Engine
composition.SnapshotManager = Snapshots
write_servicer.BigQueryWriteHandler = Appends
write_servicer._table_arrow_schema = arrow_schema
grpc.aio.server = partial(grpc.aio.server, migration_thread_pool=ThreadPoolExecutor(200))
follow_duckdb()
remembered.remember()
upload._PERMITTED_MEDIA_CONTENT_TYPES += ("*/*",)
executor._LOAD_FORMAT_HANDLERS["PARQUET"] = load_parquet

if __name__ == "__main__":
    asyncio.run(main())
