"""Retries of requests to BigQuery: what may pass by waiting, and how long to wait for it."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import requests
from google.api_core import exceptions
from google.auth.exceptions import TransportError

T = TypeVar("T")


class Silence(Exception):
    """BigQuery did not answer in time, or the connection ended before it did."""


class Limits(NamedTuple):
    """How long to try, in seconds: waits double from `first` to `most`, each cut by chance to between half and all of
    it; no wait begins that would end after `limit`. `answer` is the wait for one answer."""

    first: float = 0.1
    most: float = 30.0
    limit: float = 600.0
    answer: float = 60.0


ABSENT = 60.0  # seconds for which a table that is not found may be one that was just made
_TRANSIENT = (
    exceptions.ServerError,  # 500, 502, 503, 504; of gRPC UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN
    exceptions.TooManyRequests,  # 429; RESOURCE_EXHAUSTED
    exceptions.Aborted,
    exceptions.Cancelled,
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    TransportError,
    Silence,
)
_LIMITED = {"rateLimitExceeded", "quotaExceeded"}  # reasons of a 403 that waiting resolves


def transient(problem: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(problem, exceptions.Forbidden):
        return any(isinstance(each, dict) and each.get("reason") in _LIMITED for each in problem.errors)
    return isinstance(problem, (*_TRANSIENT, exceptions.NotFound))


def call_with_retries(attempt: Callable[[], T], limits: Limits, note: Callable[[], None]) -> T:
    """The result of `attempt`, tried again after each transient error; `note` is called before each try but the first.

    Raises what the last try raised.
    """
    began, wait = time.monotonic(), limits.first
    while True:
        try:
            return attempt()
        except Exception as problem:
            limit = min(limits.limit, ABSENT) if isinstance(problem, exceptions.NotFound) else limits.limit
            delay = wait * random.uniform(0.5, 1)
            if not transient(problem) or time.monotonic() + delay > began + limit:
                raise
        time.sleep(delay)
        wait = min(2 * wait, limits.most)
        note()
