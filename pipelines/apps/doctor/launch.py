"""Preflight: what a stream on Google Cloud needs, looked at before anything starts; nothing is made or changed.

A row for each part: found, missing or wrong, and the command that mends it. Interfaces and permissions of a project are
looked at where it is named (preflight_project.py); else Google tells of one that is missing with its answer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError

from pipelines.apps.doctor.check import FOUND, LAUNCH, MADE, MISSING, WRONG, Check
from pipelines.apps.doctor.project import project
from pipelines.settings.config import read_config
from pipelines.sources.queue import Queue
from pipelines.warehouse.bigquery.schema import describe_change
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.metric_tables import tables_of
from transforms.errors import AudienceError, first_line

OBJECTS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")


class Launch(NamedTuple):
    """What is to be looked at; None where it is not given."""

    queue: Queue | None = None
    dataset: str | None = None
    bucket: str | None = None
    region: str | None = None
    config: str | None = None
    project: str | None = None


def preflight(launch: Launch) -> list[Check]:
    """A row for each part that is given, and for each table of the data set."""
    looks: list[tuple[object, Callable[[Launch], list[Check]]]] = [
        (launch.queue, _queue),
        (launch.dataset, _dataset),
        (launch.bucket, _bucket),
        (launch.project, lambda launch: project(str(launch.project))),
    ]
    return [row for given, look in looks if given for row in look(launch)]


def _queue(launch: Launch) -> list[Check]:
    queue = launch.queue
    assert queue is not None
    try:
        return [Check(LAUNCH, queue.input, FOUND, queue.check())]
    except AudienceError as problem:
        return [Check(LAUNCH, queue.input, WRONG, f"{problem}")]


def _dataset(launch: Launch) -> list[Check]:
    name = str(launch.dataset)
    project, _, id = name.rpartition(".")
    try:
        if not BigQueryWarehouse.exists(name):
            place = launch.region or "EU"
            get = f"the launch makes it in the US; for another place first: bq mk --location={place} {project}:{id}"
            return [Check(LAUNCH, name, MADE, "no such data set", get=get)]
        warehouse = BigQueryWarehouse.open(name)
    except AudienceError as problem:
        return [Check(LAUNCH, name, WRONG, f"{problem}")]
    try:
        return [_place(launch, warehouse), *_tables(launch, warehouse)]
    finally:
        warehouse.close()


def _place(launch: Launch, warehouse: BigQueryWarehouse) -> Check:
    """The data set, and whether it is where the job is."""
    name, location = warehouse.name, warehouse.location or "US"
    told = f"days of {warehouse.time_zone}, in {location}"
    if launch.region and not _together(launch.region, location):
        get = f"a job in a region of {location}, or another data set: bq mk --location={launch.region}"
        return Check(
            LAUNCH, name, WRONG, f"{told}, while the job is in {launch.region}: each row would travel", get=get
        )
    return Check(LAUNCH, name, FOUND, told)


def _together(region: str, location: str) -> bool:
    area = {"EU": "europe-", "US": "us-"}.get(location.upper())
    return region.startswith(area) if area else region.lower() == location.lower()


def _tables(launch: Launch, warehouse: BigQueryWarehouse) -> list[Check]:
    """What the launch would do to each table."""
    rows = []
    for table in tables_of(read_config(launch.config)[0]).values():
        try:
            told = describe_change(warehouse, table)
        except AudienceError as problem:
            rows.append(Check(LAUNCH, table.name, WRONG, f"{problem}"))
        else:
            rows.append(Check(LAUNCH, table.name, FOUND, told) if told else Check(LAUNCH, table.name, MADE))
    return rows


def _bucket(launch: Launch) -> list[Check]:
    from google.cloud import storage

    name = str(launch.bucket).removeprefix("gs://").partition("/")[0]
    url = f"gs://{name}"
    try:
        bucket = storage.Client(project=_project(launch)).get_bucket(name)
        lacks = _lacks(bucket)
    except NotFound:
        place = f" --location={launch.region}" if launch.region else ""
        return [Check(LAUNCH, url, MISSING, "no such bucket", get=f"gcloud storage buckets create {url}{place}")]
    except (GoogleAPICallError, GoogleAuthError, OSError) as problem:
        get = f"gcloud storage buckets add-iam-policy-binding {url} --member=WHO --role=roles/storage.admin"
        return [Check(LAUNCH, url, WRONG, first_line(problem), get=get)]
    if lacks:
        get = f"gcloud storage buckets add-iam-policy-binding {url} --member=WHO --role=roles/storage.objectAdmin"
        return [Check(LAUNCH, url, WRONG, f"no permission: {', '.join(lacks)}", get=get)]
    if launch.region and not _together(launch.region, bucket.location):
        get = f"gcloud storage buckets create gs://ANOTHER --location={launch.region}"
        return [Check(LAUNCH, url, WRONG, f"in {bucket.location}, while the job is in {launch.region}", get=get)]
    return [Check(LAUNCH, url, FOUND, f"in {bucket.location}")]


def _lacks(bucket: Any) -> list[str]:
    """The permissions that are missing; none of a server that knows no permissions, as an emulator does."""
    try:
        return sorted(set(OBJECTS) - set(bucket.test_iam_permissions(OBJECTS)))
    except NotFound:
        return []


def _project(launch: Launch) -> str | None:
    if launch.queue and launch.queue.google_project:
        return launch.queue.google_project
    return launch.dataset.rpartition(".")[0] if launch.dataset else None
