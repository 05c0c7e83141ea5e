"""A dataset as Terraform makes it, from tables.json, is a whole warehouse: the product takes it as it is."""

import json
import re
import uuid

import duckdb
import pytest
import sqlglot
from google.cloud import bigquery as google

from pipelines.cli import main
from pipelines.reference.small_groups import GROUPS, PERSONS, RECORDS, THRESHOLD, Group, suppress
from pipelines.settings.config import TEMPLATES, read_config
from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.dataset import label_of
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.views import VIEWS
from tests.support.terraform import blocks

DECLARED = json.loads((TEMPLATES / "terraform/tables.json").read_text())
ZONE = "Europe/London"
OVER_SESSIONS = {"sessions_current"} | {view.name for view in VIEWS if "sessions" in view.reads}
KEPT = ("schema", "description", "timePartitioning", "clustering", "labels")
EVENTS = [
    {"event_id": "a", "event_type": "page_view", "user_id": "u1", "content_id": "home", "channel": "web"},
    {"event_id": "b", "event_type": "click", "user_id": "u1", "content_id": "home", "channel": "web"},
    {"event_id": "c", "event_type": "purchase", "user_id": "u2", "campaign": "spring", "value": 3, "currency": "EUR"},
]


@pytest.fixture
def client(bigquery):
    lease = bigquery_clients.rest("demo-project")
    yield lease.client
    lease.close()


def filled(text: str, dataset: str, minimum_group: int = 0) -> str:
    """The text with its placeholders replaced."""
    project, _, name = dataset.partition(".")
    text = text.replace("{{project}}", project).replace("{{dataset}}", name).replace("{{time_zone}}", ZONE)
    return text.replace("{{minimum_group}}", str(minimum_group))


@pytest.fixture
def made(client) -> str:
    """The dataset as bigquery.tf makes it."""
    name = f"demo-project.d{uuid.uuid4().hex}"
    dataset = google.Dataset(name)
    dataset.labels = DECLARED["labels"] | {"audience_time_zone": label_of(ZONE)}
    client.create_dataset(dataset)
    for each in DECLARED["tables"]:
        table = google.Table(f"{name}.{each['name']}", [google.SchemaField.from_api_repr(f) for f in each["schema"]])
        table.description = each["description"]
        table.time_partitioning = google.TimePartitioning("DAY", each["partition"])
        table.clustering_fields = each["cluster"] or None
        client.create_table(table)
    client.query("\n".join(f"{filled(each, name)};" for each in DECLARED["first_commit"])).result()
    return name


@pytest.fixture
def readers(made, client) -> str:
    """The dataset of the readers' views."""
    name = f"demo-project.d{uuid.uuid4().hex}"
    client.create_dataset(name)
    for each in DECLARED["views"]:
        view = google.Table(f"{name}.{each['name']}")
        view.view_query = filled(each["sql"], made)
        client.create_table(view)
    return name


def resources(client, dataset: str) -> dict[str, dict]:
    tables = [client.get_table(f"{dataset}.{each['name']}").to_api_repr() for each in DECLARED["tables"]]
    return {each["tableReference"]["tableId"]: {key: each.get(key) for key in KEPT} for each in tables}


def test_the_product_takes_it_unchanged(made, client, monkeypatch):
    before = resources(client, made)
    metrics = read_config(None).metrics
    monkeypatch.setattr(google.Client, "create_table", lambda *_, **__: pytest.fail("a table was missing"))
    for change in ("update_table", "update_dataset"):
        monkeypatch.setattr(google.Client, change, lambda *_, **__: pytest.fail("something was changed"))
    warehouse = BigQueryWarehouse.open(made, ZONE, create=True)
    with warehouse.writer() as run:
        run.declare([*TABLES, *map(table_of, metrics)])
    assert (warehouse.time_zone, set(warehouse.tables())) == (ZONE, set(before))
    warehouse.close()
    assert resources(client, made) == before


@pytest.fixture
def written(made, tmp_path) -> str:
    """The dataset after a backfill."""
    time = {"event_time": "2026-03-01T10:00:00Z", "received_time": "2026-03-01T10:00:01Z"}
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(event | time) for event in EVENTS) + "\nbroken\n")
    assert main(["backfill", "--input", str(path), "--dataset", made, "--time_zone", ZONE, "--workers", "1"]) == 0
    return made


def test_a_backfill_commits_to_it_and_readers_see_what_the_warehouse_has(written, readers, client):
    for each in DECLARED["views"]:
        hidden = ", ".join(GROUPS[each["name"]].hidden) if each["name"] in GROUPS else ""
        columns = f"* EXCEPT ({hidden})" if hidden else "*"
        seen = list(client.query(f"SELECT * FROM `{readers}.{each['name']}`").result())
        there = list(client.query(f"SELECT {columns} FROM `{written}.{each['name']}`").result())
        assert sorted(map(repr, seen)) == sorted(map(repr, there))
        assert seen or each["name"] in OVER_SESSIONS, each["name"]


def test_every_view_is_of_groups_of_persons_or_of_records():
    assert {*GROUPS, *PERSONS, *RECORDS} == {each["name"] for each in DECLARED["views"]}


def visits(content: str, channel: str, campaign: str, people: int, hour: int) -> list[dict]:
    """A page view and a purchase of each person, and ten clicks of the first."""
    events = []
    for number in range(people):
        stated = {"user_id": f"{content}-{number}", "content_id": content, "channel": channel, "campaign": campaign}
        stated |= {"event_time": f"2026-03-0{hour % 2 + 1}T1{hour}:00:00Z"}
        events.append(stated | {"event_type": "page_view", "event_id": f"{content}-v{number}"})
        events.append(
            stated | {"event_type": "purchase", "event_id": f"{content}-p{number}", "value": 1, "currency": "EUR"}
        )
    events += [events[0] | {"event_type": "click", "event_id": f"{content}-c{n}"} for n in range(10)]
    return [event | {"received_time": event["event_time"]} for event in events]


def test_a_group_below_the_threshold_does_not_show_and_one_at_it_does(made, client, tmp_path):
    """Three people on 1 March, two on 2 March, each in places of their own; nobody comes back."""
    path = tmp_path / "events.jsonl"
    shown, hidden = visits("at", "web", "spring", 3, 0), visits("below", "email", "autumn", 2, 1)
    path.write_text("\n".join(map(json.dumps, shown + hidden)))
    assert main(["backfill", "--input", str(path), "--dataset", made, "--time_zone", ZONE, "--workers", "1"]) == 0

    def rows(name: str, minimum_group: int) -> list[dict]:
        (sql,) = [each["sql"] for each in DECLARED["views"] if each["name"] == name]
        return [dict(row.items()) for row in client.query(filled(sql, made, minimum_group)).result()]

    for name in {name for name, group in GROUPS.items() if group.row or group.people} - {"live_now"}:
        all_shown, some, none = (rows(name, number) for number in (2, 3, 4))
        assert len(all_shown) > len(some) > len(none) == 0, name
        assert not [word for word in ("below", "email", "autumn", "date(2026, 3, 2)") if word in repr(some)], name
    daily = {row["day"].day: row for row in rows("activity_by_day", 3)}
    assert (daily[1]["dau"], daily[2]["dau"], daily[2]["wau"], daily[2]["stickiness"]) == (3, None, 5, None)
    lives = {row["day"].day: row for row in rows("lifecycle_by_day", 3)}
    assert (lives[1]["new_persons"], lives[2]["new_persons"], lives[2]["dormant_persons"]) == (3, None, 3)
    (campaign,) = [row for row in rows("campaign_1h_current", 3) if row["currency"] == "EUR"]
    assert (campaign["purchasers"], campaign["purchases"], "users_sketch" in campaign) == (3, 3, False)
    assert rows("live_now", 1) == [] and len(rows("live_now", 0)) == 1


def test_a_number_of_few_people_in_a_large_group_is_null():
    """And so is what is computed of it, or of another such number."""
    group = Group("users", {"buyers": ("revenue", "rate"), "sellers": ("rate",)})
    sql = suppress("view", "SELECT * FROM source", str, {"view": group}).replace(THRESHOLD, "3")
    with duckdb.connect() as connection:
        connection.sql(
            "CREATE TABLE source AS SELECT * FROM (VALUES (9, 3, 30, 0.5, 3), (9, 2, 20, 0.4, 3), (9, 3, 30, 0.3, 2), "
            "(2, 2, 20, 0.2, 2)) AS of_rows (users, buyers, revenue, rate, sellers)"
        )
        found = connection.sql(f"{sqlglot.transpile(sql, read='bigquery', write='duckdb')[0]} ORDER BY ALL").fetchall()
    assert found == [(9, 3, 30, 0.5, 3), (9, 3, 30, None, None), (9, None, None, None, 3)]


def test_a_column_that_the_product_adds_stays_beside_what_terraform_made(written, client, tmp_path):
    config = tmp_path / "audience.yaml"
    config.write_text(
        "metrics: {campaign_1h: {description: d, bucket: 1h, dimensions: [campaign, channel, currency], where_set: "
        "[campaign], measures: {users: {distinct: person}, likes: {count: all, where: {event_type: like}}}}}\n"
    )
    assert main(["recompute", "--dataset", written, "--config", str(config), "--workers", "1"]) == 0
    names = [field.name for field in client.get_table(f"{written}.campaign_1h").schema]
    declared = next(each for each in DECLARED["tables"] if each["name"] == "campaign_1h")
    assert names == [*(field["name"] for field in declared["schema"]), "likes"]


def test_the_questions_that_alerts_ask_are_answered(written):
    alerts = blocks("resource", "google_monitoring_alert_policy")
    text = "\n".join(alert.body["documentation"][0]["content"] for alert in alerts)
    questions = re.findall(r'audience query --dataset \$\{var\.project\}\.\$\{var\.dataset\} \\?"(.+?)\\?"\n', text)
    assert len(questions) == 4
    for question in questions:
        assert main(["query", question, "--dataset", written]) == 0, question
