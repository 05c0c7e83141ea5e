"""Check a project: whether the APIs that a job calls are enabled, and which permissions the caller has.

The checks call Service Usage and Resource Manager by REST. As in gcloud, the endpoints can be overridden by
CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE and CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER.
"""

import os
from collections.abc import Iterator
from typing import Any

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from pipelines.apps.doctor.check import FOUND, LAUNCH, MISSING, WRONG, Check
from pipelines.sources.queues import QUEUES
from transforms.errors import first_line

_ALWAYS = ("artifactregistry", "bigquery", "bigquerystorage", "compute", "dataflow", "logging", "storage")
APIS = tuple(sorted({*_ALWAYS, *(service for queue in QUEUES for service in queue.google_services)}))
# Permissions on the project that a launch needs, and the role that grants each.
ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser",
    "dataflow.jobs.create": "roles/dataflow.developer",
    "dataflow.jobs.list": "roles/dataflow.developer",
}
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
SECONDS = 30  # timeout of a request
FAILURES = (requests.RequestException, GoogleAuthError)


def project(name: str) -> list[Check]:
    """Return a row for each disabled API and each missing permission, or one for each kind that is complete."""
    try:
        with AuthorizedSession(google.auth.default(scopes=[SCOPE])[0]) as session:
            return [*_apis(session, name), *_roles(session, name)]
    except GoogleAuthError as problem:
        get = "gcloud auth application-default login"
        return [Check(LAUNCH, name, WRONG, f"no valid credentials: {first_line(problem)}", get=get)]


def _apis(session: AuthorizedSession, name: str) -> Iterator[Check]:
    named = [("names", f"projects/{name}/services/{api}.googleapis.com") for api in APIS]
    try:
        url = f"{_host('serviceusage')}/v1/projects/{name}/services:batchGet"
        answer = _answer(session.get(url, params=named, timeout=SECONDS))
    except FAILURES as problem:
        get = f"gcloud projects add-iam-policy-binding {name} --member=WHO --role=roles/serviceusage.serviceUsageViewer"
        yield Check(LAUNCH, f"APIs of {name}", WRONG, f"cannot list them: {first_line(problem)}", get=get)
        return
    services = answer.get("services", ())
    on = {service["name"].rpartition("/")[2] for service in services if service.get("state") == "ENABLED"}
    off = [api for api in APIS if f"{api}.googleapis.com" not in on]
    for api in off:
        get = f"gcloud services enable {api}.googleapis.com --project={name}"
        yield Check(LAUNCH, f"{api}.googleapis.com", MISSING, f"not enabled in {name}", get=get)
    if not off:
        yield Check(LAUNCH, f"APIs of {name}", FOUND, ", ".join(APIS))


def _roles(session: AuthorizedSession, name: str) -> Iterator[Check]:
    url = f"{_host('cloudresourcemanager')}/v3/projects/{name}:testIamPermissions"
    try:
        answer = _answer(session.post(url, json={"permissions": list(ROLES)}, timeout=SECONDS))
    except FAILURES as problem:
        get = f"gcloud services enable cloudresourcemanager.googleapis.com --project={name}"
        yield Check(LAUNCH, f"permissions in {name}", WRONG, f"cannot test them: {first_line(problem)}", get=get)
        return
    lacks = sorted(set(ROLES) - set(answer.get("permissions", ())))
    for permission in lacks:
        get = f"gcloud projects add-iam-policy-binding {name} --member=WHO --role={ROLES[permission]}"
        yield Check(LAUNCH, permission, MISSING, f"not granted in {name}", get=get)
    if not lacks:
        yield Check(LAUNCH, f"permissions in {name}", FOUND, ", ".join(sorted(ROLES)))


def _host(api: str) -> str:
    given = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}", f"https://{api}.googleapis.com")
    return given.rstrip("/")


def _answer(response: requests.Response) -> dict[str, Any]:
    """Return the body of the response. Errors: RequestException with the service's own message."""
    if response.ok:
        return response.json()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = response.reason
    raise requests.HTTPError(f"{response.status_code} {message}")
