"""The contract of a warehouse, kept by the local one and by BigQuery's."""

import os
import uuid

import pytest

from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.warehouse.contract import WarehouseContract


class TestLocal(WarehouseContract):
    @pytest.fixture
    def place(self, tmp_path):
        return tmp_path / "w"

    def open_at(self, place, **options):
        return LocalWarehouse.open(place, **options)

    def leftovers(self, warehouse):
        return os.listdir(warehouse.folder / "staging")


class TestBigQuery(WarehouseContract):
    @pytest.fixture
    def place(self, bigquery):
        yield f"demo-project.d{uuid.uuid4().hex}"
        assert bigquery_clients._shared == {}, "a client was left open"

    def open_at(self, place, **options):
        return BigQueryWarehouse.open(place, **options)

    def leftovers(self, warehouse):
        listed = warehouse.client.list_tables(warehouse.dataset)
        return [item.table_id for item in listed if item.table_id.startswith("staging")]
