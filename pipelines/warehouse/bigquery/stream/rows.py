"""Rows of a table as BigQuery's two ways of writing take them: Arrow record batches, and JSON."""

from collections.abc import Iterator

import msgspec
import polars as pl
import pyarrow as pa

from pipelines.warehouse.tables import Column, Table

REQUEST_BYTES = 9_000_000  # BigQuery takes 10 MB, of which names and framing want some
PAYLOAD_BYTES = 6_000_000  # of a quarantined record: base64 makes 8 MB of them
PAYLOAD_CUT = "payload_cut"
INSERT_ROWS = 500  # of one insertAll: what BigQuery recommends
_ARROW = {
    "STRING": pa.string(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "DATE": pa.date32(),
    "NUMERIC": pa.decimal128(38, 9),
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "BOOL": pa.bool_(),
    "BYTES": pa.binary(),
    "JSON": pa.string(),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns as the Storage Write API takes them: no type of Arrow with offsets of 64 bits."""
    return pa.schema([(column.name, _arrow_type(column)) for column in table.columns])


def _arrow_type(column: Column) -> pa.DataType:
    fields = [(field.name, _arrow_type(field)) for field in column.fields]
    inner = pa.struct(fields) if fields else _ARROW[column.type]
    return pa.list_(inner) if column.mode == "REPEATED" else inner


def record_batch(rows: pl.DataFrame, schema: pa.Schema) -> pa.RecordBatch:
    """Rows in the columns of the table as one record batch."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema)]
    return batch


def cut_to_size(batch: pa.RecordBatch, most: int) -> Iterator[tuple[int, int, bytes]]:
    """(first row, rows, the rows as an IPC message) of parts of at most `most` bytes; a single row may be longer."""
    pending = [(0, batch)]
    while pending:
        first, part = pending.pop()
        written = part.serialize().to_pybytes()
        if len(written) <= most:
            yield first, part.num_rows, written
        elif part.num_rows == 1:  # rebuilt, it has lost what its columns may still hold under a NULL
            yield first, 1, part.take(pa.array([0])).serialize().to_pybytes()
        else:
            half = part.num_rows // 2
            pending += [(first + half, part.slice(half)), (first, part.slice(0, half))]


def with_payloads_cut(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `quarantine`, of a payload that no request could hold the first PAYLOAD_BYTES; `errors` then says so.

    Without it one long record that is wrong would stop a stream permanently.
    """
    if not len(rows) or (rows["payload"].bin.size() <= PAYLOAD_BYTES).fill_null(True).all():
        return rows
    payloads, errors = rows["payload"].to_list(), rows["errors"].to_list()
    for row, payload in enumerate(payloads):
        if payload and len(payload) > PAYLOAD_BYTES:
            message = f"the record has {len(payload)} bytes, more than a row of BigQuery; these are its first"
            cut = {"path": "$", "code": PAYLOAD_CUT, "message": message}
            payloads[row] = payload[:PAYLOAD_BYTES]
            errors[row] = msgspec.json.encode([*msgspec.json.decode(errors[row] or "[]"), cut]).decode()
    return rows.with_columns(pl.Series("payload", payloads, pl.Binary), pl.Series("errors", errors, pl.String))


def by_request(rows: list[dict], most: int) -> Iterator[tuple[int, int, int]]:
    """(first row, end, bytes of JSON) of parts of at most INSERT_ROWS rows and `most` bytes; a single row may be
    longer."""
    first, size = 0, 0
    for index, row in enumerate(rows):
        length = len(msgspec.json.encode(row)) + 80  # the insertId and the frame of a row
        if index > first and (size + length > most or index - first == INSERT_ROWS):
            yield first, index, size
            first, size = index, 0
        size += length
    if rows:
        yield first, len(rows), size
