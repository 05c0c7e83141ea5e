"""The real servers that tests run against; each starts when the first test asks for it."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.servers.bigquery import BigQuery, bigquery_emulator
from tests.servers.needed import missing
from tests.servers.process import ServerMissing

# How long an example takes depends on what else the machine does, and no test is to.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = [
    "tests.servers.browser",
    "tests.servers.credentials",
    "tests.servers.kafka",
    "tests.servers.kinesis",
    "tests.servers.left_out",
    "tests.servers.pubsub",
    "tests.servers.storage",
    "tests.support.beam_introspection",
]


@pytest.fixture(scope="session")
def bigquery_server(storage_root) -> Iterator[BigQuery]:
    """The BigQuery emulator, one for all tests of a process: each takes a dataset of its own."""
    try:
        emulator = bigquery_emulator(storage_root)
        server = emulator.__enter__()
    except ServerMissing as absent:
        missing(str(absent))
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
