"""The real servers that tests run against. Where CI is true a missing one fails, elsewhere the test is skipped."""

import os
from collections.abc import Iterator

import pytest

from tests.servers.bigquery import BigQuery, bigquery_emulator
from tests.servers.process import ServerMissing


@pytest.fixture(scope="session")
def bigquery_server() -> Iterator[BigQuery]:
    """The emulator, one for all tests of a process: each takes a data set of its own."""
    try:
        emulator = bigquery_emulator()
        server = emulator.__enter__()
    except ServerMissing as missing:
        absent(str(missing))
    try:
        yield server
    finally:
        emulator.__exit__(None, None, None)


@pytest.fixture
def bigquery(bigquery_server, monkeypatch) -> BigQuery:
    """The emulator, and the environment that leads the product's clients to it."""
    for name, value in bigquery_server.environment.items():
        monkeypatch.setenv(name, value)
    return bigquery_server


def absent(message: str) -> None:
    """A server is not there."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
