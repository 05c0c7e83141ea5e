"""templates/terraform: whole, pinned, closed to the public, least of roles; what can be evaluated offline is right."""

import json
import re
from argparse import ArgumentParser

import pytest
from google.cloud.dataflow_v1beta3 import LaunchFlexTemplateRequest
from google.protobuf import json_format

from pipelines.cli import COMMANDS as COMMANDS_OF
from pipelines.dataflow.template import parameters
from pipelines.launcher import command_of
from pipelines.reference.terraform import tables_text
from pipelines.settings.resolve import OPTIONS
from pipelines.warehouse.bigquery.dataset import label_of
from tests.support.terraform import (
    FILES,
    FOLDER,
    GIVEN,
    blocks,
    code,
    evaluated,
    offline,
    parsed,
    resources,
    terraform,
)

ROOT = FOLDER.parents[1]
BUCKET, ALERT = "google_storage_bucket", "google_monitoring_alert_policy"
COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
REPOSITORY = "google_artifact_registry_repository"
OF_THE_PROJECT = {
    "roles/dataflow.worker",
    "roles/dataflow.developer",
    "roles/bigquery.jobUser",
    "roles/cloudbuild.builds.editor",
    "roles/logging.logWriter",
}


@pytest.fixture
def folder(tmp_path):
    return offline(tmp_path)


def one(kind: str, type: str, name: str) -> dict:
    (block,) = [block for block in blocks(kind, type) if (block.type, block.name) == (type, name)]
    return block.body


def commands(alert) -> list[str]:
    """The commands that an alert's documentation says to type."""
    (documentation,) = alert["documentation"]
    (typed,) = COMMANDS.findall(documentation["content"])
    return [line.strip() for line in typed.splitlines() if line.strip()]


def test_the_files_are_formatted():
    done = terraform("fmt", "-check", "-recursive", "-diff", folder=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_names_no_provider_is_valid(folder):
    done = terraform("validate", "-json", folder=folder)
    assert json.loads(done.stdout)["diagnostics"] == []


def test_terraform_and_its_provider_are_pinned():
    (terraform,) = parsed()["versions.tf"]["terraform"]
    assert re.fullmatch(r">= 1\.\d+, < 2\.0", terraform["required_version"])
    ((google,),) = [each.values() for each in terraform["required_providers"]]
    assert google["source"] == "hashicorp/google"
    assert re.fullmatch(r"= \d+\.\d+\.\d+", google["version"])


@pytest.mark.parametrize("variable", blocks("variable"), ids=lambda block: block.name)
def test_every_variable_says_what_it_is_and_is_checked_and_used(variable):
    assert variable.body["description"] and variable.body["type"]
    assert variable.body["type"] == "bool" or variable.body["validation"][0]["error_message"]
    assert len(re.findall(rf"\bvar\.{variable.name}\b", code())) > len(variable.body.get("validation", []))


def test_every_output_says_what_it_is():
    assert [block.name for block in blocks("output") if not block.body.get("description")] == []


def test_the_outputs_are_called_as_the_options_that_take_them():
    names = {block.name for block in blocks("output")}
    assert names >= {"input_subscription", "dataset"} <= {option.name for option in OPTIONS}
    assert names >= {"project", "region", "job_name", "temp_location", "staging_location", "service_account_email"}


@pytest.mark.parametrize(
    ("output", "command"), [("run_on_dataflow", COMMANDS_OF["deploy"]), ("run_locally", COMMANDS_OF["run"])]
)
def test_an_output_types_a_command_with_options_that_it_has(output, command):
    parser = ArgumentParser()
    command.add_options(parser)
    typed = re.findall(r"(?<!\S)\"?(--\w+)", one("output", "", output)["value"])
    assert len(typed) >= 2
    assert set(typed) <= set(parser._option_string_actions)


def test_what_is_referred_to_is_declared_and_each_local_is_used():
    local_names = {name for file in parsed().values() for each in file.get("locals", []) for name in each}
    declared = {
        "var": {block.name for block in blocks("variable")},
        "local": local_names,
        **{of: set() for of in {block.type for block in blocks("resource")}},
    }
    for block in blocks("resource"):
        declared[block.type].add(block.name)
    found = set(re.findall(r"(?<![\w.])(var|local|google_\w+)\.(\w+)", code()))
    assert {(of, name) for of, name in found if name not in declared.get(of, ())} == set()
    assert local_names == {name for of, name in found if of == "local"}
    data = {(block.type, block.name) for block in blocks("data")}
    assert set(re.findall(r"\bdata\.(\w+)\.(\w+)", code())) == data


def test_no_resource_is_declared_twice_and_each_file_is_read():
    names = [(block.type, block.name) for block in blocks("resource")]
    assert len(names) == len(set(names)) > 25
    assert {path.name for path in FILES} == parsed().keys()


def test_nobody_outside_is_let_in_and_no_role_is_a_primitive_one():
    said = re.sub(r"error_message.*", "", code())
    assert re.findall(r"allUsers|allAuthenticatedUsers", said) == []
    roles = set(re.findall(r"roles/[\w.]+", said))
    assert {role for role in roles if re.search(r"/(owner|editor|viewer)$|[aA]dmin|Owner", role)} == set()
    assert {block.type for block in blocks("resource") if re.search(r"iam_(policy|binding)$", block.type)} == set()


def test_on_the_project_are_only_roles_that_google_gives_nowhere_else():
    on_project = [block.name for block in blocks("resource", "google_project_iam")]
    assert on_project == ["on_project", "scheduler"]
    (given,) = [each["on_project"] for each in parsed()["iam.tf"]["locals"] if "on_project" in each]
    assert {each["role"] for each in given.values()} == OF_THE_PROJECT


@pytest.mark.parametrize("name", resources(BUCKET))
def test_a_bucket_is_not_public_and_forgets_what_nobody_needs(name):
    bucket = one("resource", BUCKET, name)
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["lifecycle_rule"]
    assert bucket["force_destroy"] in ("${!var.deletion_protection}", True)
    assert bucket["force_destroy"] is not True or name == "temp"


def test_what_is_staged_is_not_removed_by_age():
    rules = one("resource", "google_storage_bucket", "staging")["lifecycle_rule"]
    assert [rule["action"][0]["type"] for rule in rules] == ["AbortIncompleteMultipartUpload"]


def test_tables_are_protected_and_their_columns_left_to_the_product():
    table = one("resource", "google_bigquery_table", "warehouse")
    assert table["deletion_protection"] == "${var.deletion_protection}"
    assert one_of(blocks("variable"), "deletion_protection")["default"] is True
    assert [each["ignore_changes"] for each in table["lifecycle"]] == [["schema"]]
    datasets = [block.body for block in blocks("resource", "google_bigquery_dataset") if "location" in block.body]
    assert [each["delete_contents_on_destroy"] for each in datasets] == [False, False]


def one_of(listed, name: str) -> dict:
    (body,) = [block.body for block in listed if block.name == name]
    return body


def access(dataset: str) -> list[dict]:
    """What a dataset states of who may do what: entries as they stand, and those that are made of variables."""
    body = one("resource", "google_bigquery_dataset", dataset)
    made = [each["access"] for each in body.get("dynamic", []) if "access" in each]
    return body["access"] + [{"for_each": each["for_each"], **each["content"][0]} for each in made]


def test_access_to_each_data_set_is_stated_and_opens_it_to_no_viewer_or_editor_of_the_project():
    """What is not stated is BigQuery's default, which does; other resources would take the authorised views out."""
    assert {block.name for block in blocks("resource", "google_bigquery_dataset")} == {"warehouse", "readers"}
    groups = {
        each["special_group"] for name in ("warehouse", "readers") for each in access(name) if "special_group" in each
    }
    assert groups == {"projectOwners"}
    owner, worker, views, given = access("warehouse")
    assert (owner["role"], owner["special_group"]) == ("OWNER", "projectOwners")
    assert (worker["role"], worker["user_by_email"]) == ("WRITER", "${google_service_account.worker.email}")
    assert (given["role"], given["for_each"]) == ("READER", "${local.warehouse_readers}")
    (authorised,) = views["dataset"]
    assert authorised["target_types"] == ["VIEWS"]
    assert authorised["dataset"][0]["dataset_id"] == "${google_bigquery_dataset.readers.dataset_id}"
    owner, given = access("readers")
    assert (owner["role"], owner["special_group"]) == ("OWNER", "projectOwners")
    assert (given["role"], given["for_each"]) == ("READER", "${local.readers}")


def test_a_member_is_the_entry_of_its_kind(folder):
    given = ["user:a@b.c", "serviceAccount:s@p.iam.gserviceaccount.com", "group:g@b.c", "domain:b.c"]
    found = evaluated(folder, "local.readers", readers=given, warehouse_readers=["group:only@b.c"])
    assert found == {
        "user:a@b.c": {"user": "a@b.c", "group": None, "domain": None},
        "serviceAccount:s@p.iam.gserviceaccount.com": {
            "user": "s@p.iam.gserviceaccount.com",
            "group": None,
            "domain": None,
        },
        "group:g@b.c": {"user": None, "group": "g@b.c", "domain": None},
        "domain:b.c": {"user": None, "group": None, "domain": "b.c"},
    }
    assert evaluated(folder, "local.warehouse_readers") == {}


def test_nothing_is_scheduled_where_nobody_asks_for_it(folder):
    scheduled = parsed()["refresh.tf"]["resource"]
    assert {name for each in scheduled for name in each} >= {"google_cloud_scheduler_job", "google_service_account"}
    bodies = [body for each in scheduled for named in each.values() for body in named.values()]
    assert {body["for_each"] for body in bodies} == {"${local.refreshes}"}
    refreshes, apis = evaluated(folder, "[local.refreshes, local.apis]")
    assert refreshes == {} and "cloudscheduler.googleapis.com" not in apis


def test_a_scheduled_refresh_is_a_launch_that_the_service_and_the_launcher_read(folder):
    given = {"schedule": "*/30 * * * *", "build": f"abc@sha256:{'ab' * 32}", "config": "gs://b/c.yaml"}
    given |= {"subnetwork": "regions/europe-west1/subnetworks/private"}
    asked = "[local.refreshes, local.refresh_launch, local.refresh_environment, local.apis]"
    refreshes, launch, environment, apis = evaluated(folder, asked, refresh=given)
    assert refreshes["scheduled"]["schedule"] == "*/30 * * * *" and "cloudscheduler.googleapis.com" in apis
    of_resources = {"tempLocation": "gs://t", "stagingLocation": "gs://s", "serviceAccountEmail": "a@b"}
    body = {"launchParameter": launch | {"environment": environment | of_resources}}
    read = json_format.Parse(json.dumps(body), LaunchFlexTemplateRequest.pb()())  # refuses a field that it lacks
    assert (read.launch_parameter.job_name, read.launch_parameter.environment.max_workers) == ("audience-refresh", 2)
    assert launch["containerSpecGcsPath"] == "gs://my-project-audience-templates/templates/abc.json"
    sent = launch["parameters"]
    image = "europe-west1-docker.pkg.dev/my-project/audience/audience"
    assert sent.pop("sdk_container_image") == f"{image}@sha256:{'ab' * 32}"
    assert sent.keys() <= {option.name for option in parameters()}
    typed = command_of([f"--{name}={value}" for name, value in sent.items()])
    assert (typed[0], {*typed[1:]}) == ("refresh", {"--config=gs://b/c.yaml", "--dataset=my-project.audience"})
    (target,) = one("resource", "google_cloud_scheduler_job", "refresh")["http_target"]
    assert target["uri"].endswith("/locations/${var.region}/flexTemplates:launch")
    assert {"launchParameter", "environment", *of_resources} <= {*re.findall(r"\w+", target["body"])}


def test_who_launches_a_refresh_may_start_it_and_reaches_no_data():
    granted = [block for block in blocks("resource") if "_iam_" in block.type and block.name == "scheduler"]
    assert {(block.type, block.body["role"]) for block in granted} == {
        ("google_project_iam_member", "roles/dataflow.developer"),
        ("google_storage_bucket_iam_member", "roles/storage.objectViewer"),
        ("google_service_account_iam_member", "roles/iam.serviceAccountUser"),
    }
    assert "templates" in one("resource", "google_storage_bucket_iam_member", "scheduler")["bucket"]
    assert "scheduler" not in json.dumps(access("warehouse") + access("readers"))


def test_a_schedule_that_cannot_be_is_refused(folder):
    for wrong, said in (
        ({"build": "latest"}, "build: the tag of a build"),
        ({"config": "audience.yaml"}, "config: a file in a bucket"),
        ({"max_workers": 0}, "max_workers: a whole number"),
    ):
        with pytest.raises(AssertionError, match=said):
            evaluated(folder, "local.refreshes", refresh={"schedule": "0 * * * *", "build": "abc"} | wrong)


def test_a_key_of_ones_own_is_of_all_that_holds_data(folder):
    for name in ("warehouse", "readers"):
        body = one("resource", "google_bigquery_dataset", name)
        (made,) = [each["default_encryption_configuration"] for each in body["dynamic"] if "access" not in each]
        assert made["for_each"] == "${var.warehouse_kms_key[*]}"
    for name in resources(BUCKET):
        (made,) = [each["encryption"] for each in one("resource", BUCKET, name)["dynamic"]]
        assert made["for_each"] == "${var.kms_key[*]}"
    keyed = [block for block in blocks("resource") if block.type in ("google_pubsub_topic", REPOSITORY)]
    assert {block.body["kms_key_name"] for block in keyed} == {"${var.kms_key}"}
    assert "--dataflow_kms_key" in one("output", "", "run_on_dataflow")["value"]
    key = "projects/p/locations/{}/keyRings/r/cryptoKeys/k"
    assert evaluated(folder, "var.kms_key", kms_key=key.format("europe-west1")) == key.format("europe-west1")
    assert evaluated(folder, "var.warehouse_kms_key", warehouse_kms_key=key.format("europe")) == key.format("europe")
    with pytest.raises(AssertionError, match="in the location of the datasets"):
        evaluated(folder, "var.warehouse_kms_key", warehouse_kms_key=key.format("europe-west1"))


def test_no_message_is_dropped():
    subscriptions = {
        block.name: block.body for block in blocks("resource", "google_pubsub_subscription") if "topic" in block.body
    }
    topics = {block.name for block in blocks("resource", "google_pubsub_topic") if "topic" not in block.body}
    read = {name: re.search(r"google_pubsub_topic\.(\w+)", each["topic"])[1] for name, each in subscriptions.items()}
    assert set(read.values()) == topics == {"events", "dead_letters"}
    assert {each["expiration_policy"][0]["ttl"] for each in subscriptions.values()} == {""}
    events = subscriptions["events"]
    policies = {name: each["content"][0] for block in events["dynamic"] for name, each in block.items()}
    assert subscriptions["dead_letters"]["message_retention_duration"] == ("${var.dead_letter_retention_days * 86400}s")
    assert policies["dead_letter_policy"]["dead_letter_topic"] == "${google_pubsub_topic.dead_letters.id}"
    assert policies["retry_policy"].keys() == {"minimum_backoff", "maximum_backoff"}
    assert one("resource", "google_pubsub_topic_iam_member", "dead_letters")["role"] == "roles/pubsub.publisher"
    assert one("resource", "google_pubsub_subscription_iam_member", "dead_letters")["role"] == "roles/pubsub.subscriber"


@pytest.mark.parametrize("name", resources(ALERT))
def test_an_alert_says_what_it_means_and_the_first_three_commands(name):
    alert = one("resource", ALERT, name)
    assert alert["notification_channels"] == "${local.channels}"
    typed = commands(alert)
    assert len(typed) == 3
    assert all(re.match(r"(gcloud|audience) |\$\{local\.errors\}$", line) for line in typed), typed
    content = alert["documentation"][0]["content"]
    before, after = COMMANDS.split(content)[::2]
    assert len(before.split()) > 10 and len(after.split()) > 5


def test_there_is_an_alert_for_each_way_a_stream_fails():
    assert set(resources(ALERT)) == {
        "backlog",
        "watermark",
        "quarantine",
        "silence",
        "worker_errors",
        "dead_letters",
    }


def test_the_alerts_watch_counters_and_steps_that_the_product_has():
    (said,) = [each["rows_written"] for each in parsed()["locals.tf"]["locals"]]
    counted = re.search(r'metric_name=\\"([\w-]+)', said)[1]
    assert (
        f'Metrics.counter(NAMESPACE, "{counted}")'
        in (ROOT / "pipelines/warehouse/bigquery/stream/bundle.py").read_text()
    )
    steps = (ROOT / "tests/pipelines/golden/steps_streaming.txt").read_text().splitlines()
    watched = re.findall(r'"(Write [^"]+)"', (FOLDER / "locals.tf").read_text())
    assert len(watched) == 2
    assert [{step for step in steps if re.fullmatch(pattern, step) and "/" not in step} for pattern in watched] == [
        {"Write quarantine"},
        {"Write events", "Write quarantine"},
    ]


def test_the_views_of_readers_are_those_without_a_person_or_a_record_in_a_row():
    default = one_of(blocks("variable"), "reader_views")["default"]
    private = {"events_unique", "quarantine_open", "user_days_current", "sessions_current"}
    private |= {"active_days", "first_touches", "visits", "visit_events", "identities", "rfm_segments"}
    assert set(default) | private == {view["name"] for view in json.loads(tables_text())["views"]}
    assert set(default) & private == set()


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "America/Port-au-Prince", "Etc/GMT+5"])
def test_the_labels_are_those_by_which_the_product_knows_its_data_set(folder, zone):
    labels = evaluated(folder, "local.labels", time_zone=zone)
    assert labels == {"audience_format": "1", "audience_time_zone": label_of(zone)}


def test_the_sql_names_the_tables_and_the_zone(folder):
    views, first = evaluated(folder, "[local.views, local.first_commit]", time_zone="Europe/London", dataset="aud")
    assert "`my-project`.`aud`.quarantine" in views["quarantine_by_code"]["sql"]
    assert "DATE(bucket_start, 'Europe/London')" in views["engagement_by_content"]["sql"]
    assert first.startswith("CREATE TABLE IF NOT EXISTS `my-project.aud.last_commit`")
    assert "{{" not in json.dumps(views) + first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project", "My-Project"),
        ("region", "europe"),
        ("location", "Europe"),
        ("name", "a b"),
        ("dataset", "a-b"),
        ("readers_dataset", "audience"),
        ("time_zone", "Europe / London"),
        ("partition_expiration_days", 1.5),
        ("reader_views", ["nothing"]),
        ("minimum_group", -1),
        ("readers", ["allUsers"]),
        ("warehouse_readers", ["allUsers"]),
        ("kms_key", "projects/p/locations/europe/keyRings/r/cryptoKeys/k"),
        ("warehouse_kms_key", "k"),
        ("publishers", ["allAuthenticatedUsers"]),
        ("launchers", ["domain:example.com"]),
        ("job_name", "Stream"),
        ("refresh", {"schedule": "every hour", "build": "abc"}),
        ("message_retention_days", 32),
        ("dead_letter_retention_days", 32),
        ("max_delivery_attempts", 4),
        ("temp_days", 0),
        ("image_days", 1),
        ("notification_emails", ["oncall"]),
        ("notification_channels", ["1234"]),
        ("backlog_seconds", 1),
        ("watermark_seconds", 1),
        ("quarantine_share", 5),
        ("silent_minutes", 1.5),
        ("errors_per_minute", -1),
    ],
)
def test_a_wrong_value_is_refused(folder, name, value):
    with pytest.raises(AssertionError, match="Invalid value for variable") as refused:
        evaluated(folder, "local.labels", **{name: value})
    assert one_of(blocks("variable"), name)["validation"][0]["error_message"][:20] in str(refused.value)


def test_what_may_be_left_out_is_null(folder):
    assert evaluated(folder, "var.max_delivery_attempts", max_delivery_attempts=None) is None
    assert evaluated(folder, "var.partition_expiration_days", partition_expiration_days=400) == 400


def test_every_check_of_a_variable_has_a_value_that_breaks_it():
    (mark,) = [mark for mark in test_a_wrong_value_is_refused.pytestmark if mark.name == "parametrize"]
    assert {name for name, _ in mark.args[1]} == {
        block.name for block in blocks("variable") if "validation" in block.body
    }
    assert GIVEN.keys() == {block.name for block in blocks("variable") if "default" not in block.body}


def test_the_dashboard_is_json_whose_charts_do_not_overlap(folder):
    names = ("name", "job", "events", "dead_letters", "topic", "worker_errors", "quarantine", "written")
    values = ", ".join(f'{name} = "a \\"{name}\\""' for name in names)
    limits = "thresholds = { backlog = 300, watermark = 600, quarantine = 0.05 }"
    text = evaluated(folder, f'templatefile("dashboard.json.tftpl", {{ {values}, {limits} }})')
    tiles = json.loads(text)["mosaicLayout"]["tiles"]
    assert len({(tile["xPos"], tile["yPos"]) for tile in tiles}) == len(tiles) == 8
    assert all(tile["xPos"] in (0, 24) and (tile["width"], tile["height"]) == (24, 16) for tile in tiles)
    queries = [each["timeSeriesQuery"] for tile in tiles for each in tile["widget"]["xyChart"]["dataSets"]]
    assert {tuple(query) for query in queries} == {("prometheusQuery",), ("timeSeriesFilter",)}
    given = one("resource", "google_monitoring_dashboard", "stream")["dashboard_json"]
    assert all(re.search(rf"\b{name}\s*[:=]", given) for name in (*names, "thresholds"))
