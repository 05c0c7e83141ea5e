"""The emulator is as strict, and as lenient, as the tests of the sinks need it: what BigQuery does and it did not."""

import io
import json
import uuid
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as google

SCHEMA = [
    google.SchemaField("id", "STRING", "REQUIRED"),
    google.SchemaField("made", "TIMESTAMP"),
    google.SchemaField("n", "INT64"),
    google.SchemaField("value", "NUMERIC"),
    google.SchemaField("data", "JSON"),
    google.SchemaField("raw", "BYTES"),
    google.SchemaField("bins", "RECORD", "REPEATED", fields=[google.SchemaField("bin", "INT64")]),
]
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def client(bigquery):
    client = google.Client("demo-project", AnonymousCredentials(), client_options=ClientOptions(bigquery.rest))
    with client:
        yield client


@pytest.fixture
def table(client):
    data_set = client.create_dataset(f"d{uuid.uuid4().hex}")
    declared = google.Table(data_set.table("t"), SCHEMA)
    declared.time_partitioning = google.TimePartitioning("DAY", "made")
    declared.clustering_fields = ["id"]
    return client.create_table(declared)


def rows(client, table, columns="*"):
    found = client.query_and_wait(f"SELECT {columns} FROM `{table}` ORDER BY 1")
    return [tuple(row.values()) for row in found]


def test_a_bad_row_is_refused_by_name_and_stops_the_others(client, table):
    bad = [
        {"n": 1},
        {"id": "a", "other": 1},
        {"id": "b", "n": "x"},
        {"id": "c", "data": "{"},
        {"id": "d", "made": (NOW - timedelta(days=3660)).isoformat()},
        {"id": "e", "bins": [{"bin": "x"}]},
    ]
    refused = client.insert_rows_json(table, [*bad, {"id": "z"}])
    told = [(each["index"], error["reason"], error["location"]) for each in refused for error in each["errors"]]
    assert told == [
        (0, "invalid", "id"),
        (1, "invalid", "other"),
        (2, "invalid", "n"),
        (3, "invalid", "data"),
        (4, "invalid", ""),
        (5, "invalid", "bins.bin"),
        (6, "stopped", ""),
    ]
    assert rows(client, table) == []
    assert len(client.insert_rows_json(table, [*bad, {"id": "z"}], skip_invalid_rows=True)) == 6
    assert rows(client, table, "id") == [("z",)]


def test_an_insert_id_is_written_once_also_within_a_request(client, table):
    for _ in range(2):
        assert client.insert_rows_json(table, [{"id": "a"}, {"id": "a"}, {"id": "b"}], row_ids=["1", "1", "2"]) == []
    assert rows(client, table, "id") == [("a",), ("b",)]


def test_values_of_all_types_come_back(client, table):
    row = {
        "id": "a",
        "made": NOW.isoformat(),
        "n": 2**62,
        "value": "1.000000001",
        "data": '{"a": 1}',
        "raw": "AP8=",
        "bins": [{"bin": 3}],
    }
    assert client.insert_rows_json(table, [row]) == []
    (found,) = rows(client, table)
    assert found[:3] == ("a", NOW, 2**62)
    assert str(found[3]) == "1.000000001"
    assert found[4:] == ({"a": 1}, b"\x00\xff", [{"bin": 3}])


def parquet() -> io.BytesIO:
    frame = pl.DataFrame(
        {"n": [1, 2], "id": ["a", "b"], "made": [NOW, NOW], "raw": [b"\x00", None], "data": ['{"a": 1}', None]}
    )
    frame = frame.with_columns(
        pl.col("made").dt.cast_time_unit("us"),
        bins=pl.Series([[{"bin": 1}], []], dtype=pl.List(pl.Struct({"bin": pl.Int64}))),
    )
    written = io.BytesIO()
    frame.write_parquet(written, compression="zstd")
    written.seek(0)
    return written


@pytest.mark.parametrize("sized", [True, False], ids=["multipart", "resumable"])
def test_parquet_is_loaded_by_column_name(client, table, sized):
    config = google.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", schema=SCHEMA)
    data = parquet()
    size = len(data.getvalue()) if sized else None
    client.load_table_from_file(data, table, size=size, job_config=config).result()
    expected = [("a", NOW, 1, b"\x00", {"a": 1}, [{"bin": 1}]), ("b", NOW, 2, None, None, [])]
    assert rows(client, table, "id, made, n, raw, data, bins") == expected


def test_json_is_loaded_in_one_request(client, table):
    client.load_table_from_json([{"id": "a", "n": 1}], table, job_config=google.LoadJobConfig(schema=SCHEMA)).result()
    assert rows(client, table, "id, n") == [("a", 1)]


def test_a_transaction_is_all_or_nothing(client, table):
    client.insert_rows_json(table, [{"id": "old", "made": NOW.isoformat()}])
    swap = f"DELETE FROM `{table}` WHERE id = 'old'; INSERT INTO `{table}` (id) SELECT 'new'"
    client.query_and_wait(f"BEGIN TRANSACTION; {swap}; ROLLBACK TRANSACTION")
    assert rows(client, table, "id") == [("old",)]
    with pytest.raises(BadRequest, match="boom"):
        client.query_and_wait(f"BEGIN TRANSACTION; {swap}; SELECT ERROR('boom'); COMMIT TRANSACTION")
    assert rows(client, table, "id") == [("old",)]
    client.query_and_wait(f"BEGIN TRANSACTION; {swap}; COMMIT TRANSACTION")
    assert rows(client, table, "id") == [("new",)]


def test_a_table_keeps_its_partitioning_and_its_clustering(client, table):
    found = client.get_table(table.reference)
    assert (found.time_partitioning.field, found.clustering_fields) == ("made", ["id"])
    assert [field.mode for field in found.schema][:2] == ["REQUIRED", "NULLABLE"]
    assert json.dumps(found.to_api_repr()["schema"])


def test_equal_statements_of_two_datasets_answer_each_from_its_own_and_a_view_follows_those_it_reads(client):
    found = []
    for number in range(2):
        own = client.create_dataset(f"d{uuid.uuid4().hex}").reference
        name = f"{own.project}.{own.dataset_id}"
        client.query_and_wait(f"CREATE TABLE `{name}.t` AS SELECT {number} AS n")
        client.query_and_wait(f"CREATE VIEW `{name}.inner_view` AS SELECT n FROM `{name}.t`")
        client.query_and_wait(f"CREATE VIEW `{name}.outer_view` AS SELECT n FROM `{name}.inner_view`")
        asked = f"SELECT n, '{own.dataset_id}' AS own FROM `{name}.outer_view`"
        found.append([tuple(row.values()) for row in client.query_and_wait(asked)] == [(number, own.dataset_id)])
        with pytest.raises(BadRequest, match="nothing"):
            client.query_and_wait(f"SELECT nothing FROM `{name}.outer_view`")
        client.query_and_wait(f"CREATE OR REPLACE VIEW `{name}.inner_view` AS SELECT n + 5 AS n FROM `{name}.t`")
        found.append([row.n for row in client.query_and_wait(f"SELECT n FROM `{name}.outer_view`")] == [number + 5])
    assert found == [True] * 4
