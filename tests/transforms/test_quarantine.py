from datetime import UTC, datetime

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipelines.warehouse.tables import QUARANTINE, polars_schema
from transforms.block import REJECTED_SCHEMA
from transforms.quarantine import Quarantine, identify

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROW = {
    "payload": b'{"a":\xff\x00}',
    "position": "f:1",
    "input": "f",
    "attempt": 1,
    "attributes": '{"k":"v"}',
    "received_time": NOON,
    "source": "shop",
    "source_format": "native",
    "stage": "parse",
    "code": "invalid_json",
    "errors": "[]",
}


def rejected(**fields) -> pl.DataFrame:
    """One row, as ROW but for `fields`."""
    return pl.DataFrame([ROW | fields], schema=REJECTED_SCHEMA)


def id_of(**fields) -> str:
    return identify(rejected(**fields), "1", 0.0)["quarantine_id"].item()


def test_the_id_is_that_of_every_earlier_version():
    assert id_of() == "f513bb8c82bb85861e3089bdb4871782"


def test_the_id_is_the_same_whenever_and_for_whatever_reason_the_record_is_refused():
    again = identify(rejected(stage="validate", code="too_long", errors="[1]", received_time=None, input="g"), "2", 1e9)
    assert again["quarantine_id"].item() == id_of()


def test_a_record_that_comes_out_of_quarantine_keeps_its_id():
    assert id_of(quarantine_id="q7", position="f:2") == "q7"


@pytest.mark.parametrize(
    "other", [{"payload": b"{}"}, {"position": "f:2"}, {"source": "app"}, {"payload": None, "position": None}]
)
def test_another_payload_place_or_source_has_another_id(other):
    assert id_of(**other) != id_of()


def test_the_payload_and_its_circumstances_are_kept_and_the_run_is_noted():
    row = identify(rejected(), "1.2", NOON.timestamp()).row(0, named=True)
    assert {name: row[name] for name in ROW} == ROW
    assert (row["input"], row["failed_time"], row["pipeline_version"], row["attempt"]) == (
        "f",
        NOON,
        "1.2",
        1,
    )


def test_the_rows_have_all_columns_of_the_table():
    for block in (rejected(), rejected().clear()):
        rows = identify(block, "1", 0.0)
        assert {name: rows.schema[name] for name in polars_schema(QUARANTINE)} == polars_schema(QUARANTINE)
        assert rows.height == block.height


def test_in_a_graph_each_rejected_record_becomes_one_row():
    with beam.Pipeline("FnApiRunner") as pipeline:
        block = pl.concat([rejected(position=f"f:{line}") for line in range(3)])
        blocks = pipeline | beam.Create([block, block[:1]]).with_output_types(pl.DataFrame)
        ids = blocks | Quarantine("1") | beam.FlatMap(lambda rows: rows["position"].to_list())
        assert_that(ids, equal_to(["f:0", "f:0", "f:1", "f:2"]))
