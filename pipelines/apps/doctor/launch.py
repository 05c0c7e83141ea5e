"""Check what a stream on Google Cloud needs before anything starts; nothing is created or changed.

There is a row for each part: found, missing or wrong, and the command that fixes it. APIs and permissions of a project
are checked if it is named (project.py); otherwise Google reports a missing one when it is first used.
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
    """What to check; None for what is not given."""

    queue: Queue | None = None
    dataset: str | None = None
    bucket: str | None = None
    region: str | None = None
    config: str | None = None
    project: str | None = None


def preflight(launch: Launch) -> list[Check]:
    """Return a row for each given part, and for each table of the dataset."""
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
            get = f"the launch creates it in the US; for another one, first: bq mk --location={place} {project}:{id}"
            return [Check(LAUNCH, name, MADE, "no such dataset", get=get)]
        warehouse = BigQueryWarehouse.open(name)
    except AudienceError as problem:
        return [Check(LAUNCH, name, WRONG, f"{problem}")]
    try:
        return [_place(launch, warehouse), *_tables(launch, warehouse)]
    finally:
        warehouse.close()


def _place(launch: Launch, warehouse: BigQueryWarehouse) -> Check:
    """Return the row for the dataset: whether it is in the same location as the job."""
    name, location = warehouse.name, warehouse.location or "US"
    detail = f"days in {warehouse.time_zone}, located in {location}"
    if launch.region and not _together(launch.region, location):
        get = f"use a region in {location} for the job, or another dataset: bq mk --location={launch.region}"
        detail += f", but the job is in {launch.region}: every row would cross regions"
        return Check(LAUNCH, name, WRONG, detail, get=get)
    return Check(LAUNCH, name, FOUND, detail)


def _together(region: str, location: str) -> bool:
    area = {"EU": "europe-", "US": "us-"}.get(location.upper())
    return region.startswith(area) if area else region.lower() == location.lower()


def _tables(launch: Launch, warehouse: BigQueryWarehouse) -> list[Check]:
    """Return a row for each table with what the launch would do to it."""
    rows = []
    for table in tables_of(read_config(launch.config).metrics).values():
        try:
            change = describe_change(warehouse, table)
        except AudienceError as problem:
            rows.append(Check(LAUNCH, table.name, WRONG, f"{problem}"))
        else:
            rows.append(Check(LAUNCH, table.name, FOUND, change) if change else Check(LAUNCH, table.name, MADE))
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
        return [Check(LAUNCH, url, WRONG, f"missing permissions: {', '.join(lacks)}", get=get)]
    if launch.region and not _together(launch.region, bucket.location):
        get = f"gcloud storage buckets create gs://ANOTHER --location={launch.region}"
        return [Check(LAUNCH, url, WRONG, f"in {bucket.location}, but the job is in {launch.region}", get=get)]
    return [Check(LAUNCH, url, FOUND, f"in {bucket.location}")]


def _lacks(bucket: Any) -> list[str]:
    """Return the missing permissions; none if the server has no permissions, like an emulator."""
    try:
        return sorted(set(OBJECTS) - set(bucket.test_iam_permissions(OBJECTS)))
    except NotFound:
        return []


def _project(launch: Launch) -> str | None:
    if launch.queue and launch.queue.google_project:
        return launch.queue.google_project
    return launch.dataset.rpartition(".")[0] if launch.dataset else None
