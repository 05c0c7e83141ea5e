"""A dataset as a warehouse: made, found again, asked; and what is reported in one line, before anything starts."""

import json
import re
import socket
import uuid
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from google.cloud import bigquery as google

from pipelines.cli import main
from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.dataset import Choice, label_of
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.servers.faulty import faulty_http
from transforms.errors import WarehouseError

EVENT = {"event_id": "a", "event_type": "page_view", "event_time": "2026-03-01T10:00:00Z", "user_id": "u1"}


@pytest.fixture
def name(bigquery) -> str:
    yield f"demo-project.d{uuid.uuid4().hex}"
    assert bigquery_clients._shared == {}, "a client was left open"


@pytest.fixture
def client(name):
    lease = bigquery_clients.rest("demo-project")
    yield lease.client
    lease.close()


@pytest.fixture
def events(tmp_path) -> str:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(EVENT | {"received_time": EVENT["event_time"]}) + "\nbroken\n")
    return str(path)


@pytest.fixture
def filled(name, events) -> str:
    assert main(["backfill", "--input", events, "--dataset", name, "--workers", "1"]) == 0
    return name


def error_of(capsys, *command: str) -> str:
    """What a command ends with: one line, of a query that BigQuery refuses several."""
    assert main(list(command)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    line, *more = told.err.splitlines()
    assert not more or line.startswith("error: query: ")
    return told.err.rstrip("\n")


def zone(name: str, **options) -> str:
    with_it = BigQueryWarehouse.open(name, **options)
    with_it.close()
    return with_it.time_zone


def test_an_odd_time_zone_is_read_back_from_its_label(name):
    for odd in ("America/Port-au-Prince", "Etc/GMT+5"):
        other = f"{name}_{uuid.uuid4().hex}"
        assert zone(other, time_zone=odd, create=True) == odd
        assert zone(other) == zone(other, create=True) == zone(other, time_zone=odd) == odd


def test_a_new_data_set_is_not_open_to_every_viewer_and_editor_of_the_project(name, monkeypatch):
    """The emulator gives access to nobody, so a dataset is made with what BigQuery gives by default."""
    create = google.Client.create_dataset
    default = [google.AccessEntry("WRITER", "specialGroup", "projectWriters")]
    default += [google.AccessEntry("OWNER", "specialGroup", "projectOwners")]
    default += [google.AccessEntry("OWNER", "userByEmail", "maker@example.com")]
    default += [google.AccessEntry("READER", "specialGroup", "projectReaders")]

    def as_google(client, dataset, **how):
        dataset.access_entries = default
        return create(client, dataset, **how)

    monkeypatch.setattr(google.Client, "create_dataset", as_google)
    zone(name, create=True)
    lease = bigquery_clients.rest("demo-project")
    assert {entry.entity_id for entry in lease.client.get_dataset(name).access_entries} == {
        "projectOwners",
        "maker@example.com",
    }
    stated = lease.client.get_dataset(name)
    stated.access_entries = default
    lease.client.update_dataset(stated, ["access_entries"])
    zone(name, create=True)  # what somebody has stated stays
    assert len(lease.client.get_dataset(name).access_entries) == 4
    lease.close()


def test_every_time_zone_has_a_label_of_its_own_that_bigquery_allows():
    labels = {label_of(zone) for zone in available_timezones()}
    assert len(labels) == len(available_timezones())
    assert all(re.fullmatch("[a-z0-9_-]{1,63}", label) for label in labels)


def test_a_data_set_that_is_there_becomes_a_warehouse_and_keeps_what_it_is(name, client):
    given = google.Dataset(name)
    given.labels, given.description, given.location = {"team": "growth"}, "Ours.", "EU"
    client.create_dataset(given)
    client.create_table(google.Table(f"{name}.foreign", [google.SchemaField("a", "INT64")]))
    with pytest.raises(WarehouseError, match=r"is a dataset but no warehouse: .*backfill --dataset .* makes it one"):
        zone(name)
    warehouse = BigQueryWarehouse.open(name, create=True)
    made = client.get_dataset(name)
    assert made.labels == {"team": "growth", "audience_format": "1", "audience_time_zone": "utc"}
    assert (made.description, warehouse.location) == ("Ours.", "EU")
    assert warehouse.tables() == {}
    warehouse.close()


@pytest.mark.parametrize(
    ("label", "value", "told"),
    [
        ("audience_format", "9", "has format 9, this version reads up to 1; upgrade audience-insights"),
        ("audience_time_zone", "mars", r"is 'mars', which is no time zone; set it back, e.g. `bq update --set_label"),
    ],
)
def test_a_label_that_means_nothing_here_is_told(name, client, label, value, told):
    zone(name, create=True)
    changed = client.get_dataset(name)
    changed.labels = changed.labels | {label: value}
    client.update_dataset(changed, ["labels"])
    with pytest.raises(WarehouseError, match=told):
        zone(name)


def test_the_expiry_of_partitions_is_set_where_it_is_asked_for(name, client):
    for asked, expected in ((timedelta(days=400), 400), (None, 400), (timedelta(days=30), 30)):
        warehouse = BigQueryWarehouse.open(name, create=True, choice=Choice(asked))
        with warehouse.writer() as run:
            run.declare([EVENTS])
        warehouse.close()
        assert client.get_table(f"{name}.events").time_partitioning.expiration_ms == expected * 86_400_000


def test_a_question_is_answered_in_every_form(filled, capsys):
    sql = "SELECT user_id, event_time, value, received_time = event_time AS same FROM events"
    capsys.readouterr()
    assert main(["query", sql, "--dataset", filled, "--csv"]) == 0
    assert capsys.readouterr().out == "user_id,event_time,value,same\nu1,2026-03-01T10:00:00Z,,true\n"
    assert main(["query", sql + " WHERE FALSE", "--dataset", filled]) == 0
    assert capsys.readouterr().out.endswith("(no rows)\n")
    assert main(["query", "SELECT events, quarantined FROM quality_summary", "--dataset", filled, "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"events": 1, "quarantined": 1} in answers or sum(each["events"] for each in answers) == 1
    wrong = error_of(capsys, "query", "SELECT nothing FROM events", "--dataset", filled)
    assert "nothing" in wrong and "tables: " not in wrong
    wrong = error_of(capsys, "query", "SELECT 1 FROM evnts", "--dataset", filled)
    assert "evnts" in wrong and "\ntables: events, activity_1m, " in wrong and "\nviews: active_days, " in wrong
    wrong = error_of(capsys, "query", "SELECT 1", "--dataset", filled, "--dialect", "duckdb")
    assert wrong.endswith("--dialect: got 'duckdb'; allowed with --dataset: bigquery, where the query runs")


def test_the_doctor_sees_a_data_set_and_recounts_its_books(filled, client, capsys):
    assert main(["doctor", "--dataset", filled, "--json"]) == 0
    (row,) = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if row.get("name") == filled]
    assert row["detail"] == "days in UTC, 9 tables"
    assert main(["doctor", "--audit", "--dataset", filled]) == 0
    client.query(f"DELETE FROM `{filled}.events` WHERE TRUE").result()
    assert main(["doctor", "--audit", "--dataset", filled]) == 1
    assert "1 differences" in capsys.readouterr().err


def test_the_summary_says_what_to_type_next(name, events, capsys):
    main(["backfill", "--input", events, "--dataset", name, "--workers", "1"])
    told = capsys.readouterr().err
    assert f'query --dataset {name} "SELECT stage, code' in told
    assert f"warehouse     {name}" in told


def test_days_that_have_rows_are_refused(filled, events, capsys):
    capsys.readouterr()
    told = error_of(capsys, "backfill", "--input", events, "--dataset", filled, "--workers", "1")
    assert f"{filled} already has rows for 2026-03-01 (1 rows): nothing was changed; give --add" in told


@pytest.mark.parametrize("typed", ["audience", "my-project:audience", "my-project.data.set", "My.data", "p.da-ta", "."])
def test_a_malformed_name_is_told(typed, events, capsys):
    told = error_of(capsys, "backfill", "--input", events, "--dataset", typed)
    assert told == f"error: --dataset: got {typed!r}; allowed: project.dataset, e.g. my-project.audience"


def test_a_folder_and_a_data_set_exclude_each_other(events, capsys):
    told = error_of(capsys, "backfill", "--input", events, "--dataset", "pro.ds", "--warehouse", "w")
    assert "one of --dataset pro.ds and --warehouse w: a warehouse is a dataset or a folder" in told


def test_a_data_set_that_is_not_there_is_told(name, capsys):
    told = error_of(capsys, "recompute", "--dataset", name)
    assert told == f"error: {name} is not there; make it with `audience backfill --dataset {name} --input FILES`"


def test_an_emulator_that_does_not_answer_is_told_at_once(events, capsys, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv(bigquery_clients.REST, url)
        began = datetime.now(UTC)
        told = error_of(capsys, "backfill", "--input", events, "--dataset", "demo-project.d")
    assert f"the emulator at BIGQUERY_EMULATOR_HOST={url} does not answer" in told
    assert "start it, or unset the variable" in told
    assert datetime.now(UTC) - began < timedelta(seconds=30)


def test_missing_credentials_are_told(events, tmp_path, capsys, monkeypatch):
    for variable in (bigquery_clients.REST, "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    told = error_of(capsys, "backfill", "--input", events, "--dataset", "demo-project.d")
    assert "no valid Google credentials" in told and "gcloud auth application-default login" in told


@pytest.mark.parametrize(("path", "doing"), [("/datasets/", "open it"), ("/jobs", "open it")])
def test_a_missing_permission_is_told_with_the_roles_it_takes(bigquery, name, events, capsys, monkeypatch, path, doing):
    with faulty_http(bigquery.rest, path) as (url, plan):
        monkeypatch.setenv(bigquery_clients.REST, url)
        plan.set("403")
        told = error_of(capsys, "backfill", "--input", events, "--dataset", name)
        assert plan.met == ["403"]
    assert f"{name}: no permission to {doing}: " in told
    assert "add-iam-policy-binding demo-project --member user:YOU --role roles/bigquery.dataEditor" in told
