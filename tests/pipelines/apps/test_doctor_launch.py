"""What `audience doctor` looks at before a launch, against the emulators: each part there, missing, and wrong."""

import json
import uuid

import pytest
from google.cloud import bigquery as google

from pipelines.apps.doctor.check import FOUND, MADE, MISSING, WRONG
from pipelines.apps.doctor.launch import Launch, _together, preflight
from pipelines.cli import main
from pipelines.sources.pubsub.queue import PubSubQueue
from pipelines.sources.queues import find_queue
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.tables import EVENTS


@pytest.fixture
def dataset(bigquery) -> str:
    """The name of a dataset that is not there yet."""
    return f"demo-project.flight_{uuid.uuid4().hex[:8]}"


def states(launch: Launch) -> dict[str, str]:
    return {row.name: row.state for row in preflight(launch)}


def test_a_subscription_is_there_or_the_row_says_how_to_make_it(queue):
    (row,) = preflight(Launch(PubSubQueue(queue.subscription)))
    assert (row.state, row.detail) == (FOUND, f"of {queue.topic}")
    (row,) = preflight(Launch(PubSubQueue(f"{queue.subscription}-none")))
    assert row.state == WRONG
    assert "gcloud pubsub subscriptions create" in row.detail


@pytest.mark.filterwarnings("ignore")  # what earlier tests left to the garbage collector, as Beam's sockets
def test_each_kind_of_queue_can_be_checked(data_stream, topic, tmp_path, capsys):
    assert main(["doctor", "--input_kinesis", data_stream.name, "--json"]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    told = {row["name"]: row for row in rows}[data_stream.name]
    assert (told["state"], told["detail"]) == (FOUND, "1 open shard; records are kept for 24 hours")
    log, none = tmp_path / "log", tmp_path / "none"
    log.mkdir()
    for values, said in (
        ({"input_kinesis": "none"}, "does not exist; create it with `aws kinesis create-stream"),
        ({"input_kafka": "none"}, "topic none does not exist; make it with `kafka-topics.sh"),
        ({"input_log": str(none)}, f"{none} does not exist; create it with `mkdir -m 700 {none}`"),
        ({"input_kafka": topic.name, "kafka_group": "new"}, "2 partitions of 1 topics with 0 offsets; at most 0"),
        ({"input_log": str(log)}, "segments of 0 bytes wait in it"),
    ):
        (row,) = preflight(Launch(find_queue(values)))
        assert said in row.detail
        assert row.state == (WRONG if "does not exist" in said else FOUND)


def test_a_data_set_that_is_not_there_is_made_by_the_launch(dataset):
    (row,) = preflight(Launch(dataset=dataset, region="europe-west1"))
    assert row.state == MADE
    assert "bq mk --location=europe-west1 demo-project:flight_" in row.get
    assert not BigQueryWarehouse.exists(dataset)


def test_each_table_is_told_with_what_the_launch_would_do_to_it_and_nothing_is_done(dataset):
    warehouse = BigQueryWarehouse.open(dataset, create=True)
    with warehouse.writer() as run:
        run.declare([EVENTS])
    narrow = google.Table(f"{dataset}.activity_1m", [google.SchemaField("bucket_start", "STRING")])
    narrow.time_partitioning = None
    warehouse.client.create_table(narrow)
    before = {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)}
    told = {row.name: row for row in preflight(Launch(dataset=dataset))}
    assert told[dataset].state == FOUND
    assert (told["events"].state, told["events"].detail) == (FOUND, "as it has to be")
    assert told["quarantine"].state == MADE
    assert told["activity_1m"].state == WRONG
    assert "it is partitioned by nothing and has to be by bucket_start" in told["activity_1m"].detail
    assert {table.table_id for table in warehouse.client.list_tables(warehouse.dataset)} == before
    warehouse.close()


def test_new_columns_are_named(dataset):
    from dataclasses import replace

    warehouse = BigQueryWarehouse.open(dataset, create=True)
    with warehouse.writer() as run:
        run.declare([replace(EVENTS, columns=tuple(each for each in EVENTS.columns if each.name != "rating"))])
    warehouse.close()
    told = {row.name: row.detail for row in preflight(Launch(dataset=dataset))}
    assert told["events"] == "gets rating"


def test_a_bucket_is_there_or_the_row_says_how_to_make_it(storage):
    assert states(Launch(bucket=f"{storage.url}/temp"))[storage.url] == FOUND
    (row,) = preflight(Launch(bucket="gs://bucket-of-nobody", region="europe-west1"))
    assert row.state == MISSING
    assert row.get == "gcloud storage buckets create gs://bucket-of-nobody --location=europe-west1"


@pytest.mark.parametrize(
    ("region", "location", "together"),
    [
        ("europe-west1", "EU", True),
        ("us-central1", "US", True),
        ("europe-west1", "EUROPE-WEST1", True),
        ("europe-west1", "US", False),
        ("europe-west1", "europe-west4", False),
    ],
)
def test_a_region_is_where_the_data_are(region, location, together):
    assert _together(region, location) == together


def test_rows_that_would_travel_are_told(dataset):
    BigQueryWarehouse.open(dataset, create=True).close()
    (row, *_) = preflight(Launch(dataset=dataset, region="asia-east1"))
    assert row.state == WRONG
    assert "but the job is in asia-east1: every row would cross regions" in row.detail


def test_the_command_shows_them_and_ends_with_2_where_one_is_missing(dataset, queue, capsys):
    words = ["doctor", "--json", "--dataset", dataset, "--input_subscription"]
    BigQueryWarehouse.open(dataset, create=True).close()
    assert main([*words, queue.subscription]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows if row["section"] == "launch"} >= {dataset, queue.subscription, "events"}
    assert main([*words, f"{queue.subscription}-none"]) == 2
    assert "-none (wrong); see above for what to do" in capsys.readouterr().err
