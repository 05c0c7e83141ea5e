"""Errors of BigQuery as one line for a person, with what fixes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError

from pipelines.warehouse.bigquery.clients import REST
from transforms.errors import WarehouseError

UNREACHABLE = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    exceptions.RetryError,
    exceptions.ServerError,
    TransportError,
)
REFUSED = (exceptions.GoogleAPICallError, GoogleAuthError, *UNREACHABLE)
BUFFERED = "streaming buffer"  # as BigQuery names rows that came in by insertAll in the last 90 minutes


@contextmanager
def describe_error(dataset: str, doing: str) -> Iterator[None]:
    """Turn what goes wrong while `doing` something (a verb with its object) to `dataset` into a WarehouseError."""
    try:
        yield
    except REFUSED as problem:
        raise WarehouseError(_line(dataset, doing, problem)) from problem


def message_of(problem: Exception) -> str:
    """What BigQuery said, on one line, without the request it answers."""
    errors = getattr(problem, "errors", None)
    if errors and isinstance(errors[0], dict) and errors[0].get("message"):
        text = str(errors[0]["message"])
    else:
        text = str(getattr(problem, "message", None) or problem)
    return " ".join(text.split())[:500]


def _line(dataset: str, doing: str, problem: Exception) -> str:
    project = dataset.rpartition(".")[0]
    if isinstance(problem, UNREACHABLE):
        if host := os.environ.get(REST):
            return (
                f"the emulator at {REST}={host} does not answer ({message_of(problem)}); "
                "start it, or unset the variable to reach Google's BigQuery"
            )
        return f"{dataset}: BigQuery does not answer ({message_of(problem)}); check the network, then run it again"
    if isinstance(problem, GoogleAuthError):
        return (
            f"{dataset}: no valid Google credentials ({message_of(problem)}); "
            f"run `gcloud auth application-default login`, or set {REST} to an emulator"
        )
    if isinstance(problem, exceptions.Forbidden):
        return (
            f"{dataset}: no permission to {doing}: {message_of(problem)}; it takes the roles BigQuery Data Editor and "
            f"Job User: gcloud projects add-iam-policy-binding {project} --member user:YOU "
            "--role roles/bigquery.dataEditor (the same for roles/bigquery.jobUser)"
        )
    if BUFFERED in str(problem):
        return (
            f"{dataset}: cannot {doing} yet: {message_of(problem)}; "
            "rows that a stream wrote can be replaced 90 minutes later, run it again then"
        )
    return f"{dataset}: BigQuery refused to {doing}: {message_of(problem)}"
