"""The collector's container, as far as it can be checked without building it: what it copies, and how it starts."""

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipelines.apps.collector.keys import add_key
from tests.servers.collector import START_SECONDS, free_port
from tests.servers.needed import LIMIT, wait_until

ROOT = Path(__file__).parents[4]
FILE = ROOT / "templates/collector/Dockerfile"
FLEX = ROOT / "templates/flex/Dockerfile"
BIN = Path(sys.executable).parent


def steps_of(path: Path) -> list[tuple[str, str]]:
    """(instruction, its words) of a Dockerfile."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line and not line.startswith("#")]


def one(steps: list[tuple[str, str]], kind: str) -> str:
    (found,) = (words for name, words in steps if name == kind)
    return found


def test_what_the_image_copies_is_there_and_all_that_the_package_needs():
    copied = [word for name, words in steps_of(FILE) if name == "COPY" for word in shlex.split(words)[:-1]]
    assert all((ROOT / each).exists() for each in copied)
    assert set(copied) >= {"requirements.lock", "setup.py", "pyproject.toml", "README.md"}
    packages = {each.parent.name for each in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages and packages <= set(copied)


def test_the_base_is_given_by_the_builder_and_nothing_runs_as_root():
    steps = steps_of(FILE)
    assert steps[0] == ("ARG", "BASE") and one(steps, "FROM") == "${BASE}"
    user = int(one(steps, "USER"))
    assert user and f"--uid {user}" in one(steps, "RUN")
    assert steps.index(("USER", str(user))) > [name for name, _ in steps].index("RUN")


def test_packages_are_installed_as_in_the_other_image():
    def installs(path: Path) -> list[str]:
        return [part.strip() for part in one(steps_of(path), "RUN").split("&&") if "pip " in part or "awk" in part]

    assert installs(FILE) == installs(FLEX) and all("--require-hashes" in part for part in installs(FILE)[1:3])


def test_the_linter_of_images_finds_nothing():
    if not (BIN / "hadolint").exists():
        pytest.skip("no hadolint: run make setup")
    done = subprocess.run([BIN / "hadolint", FILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_its_words_start_a_collector_that_ends_with_status_0(tmp_path):
    words = json.loads(one(steps_of(FILE), "ENTRYPOINT"))
    volume, port = one(steps_of(FILE), "VOLUME"), free_port()
    assert words[words.index("--port") + 1] == one(steps_of(FILE), "EXPOSE")
    words = [word.replace(volume, str(tmp_path)) if word.startswith(volume) else word for word in words]
    key = add_key(tmp_path / "keys.json", "web", "shop")
    # As the words after the image: a later option wins.
    process = subprocess.Popen([BIN / words[0], *words[1:], "--port", str(port)], env=dict(os.environ))

    def status(path: str, body: bytes | None = None, **headers: str) -> int:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=LIMIT) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            assert process.poll() is None, process.returncode
            return 0

    try:
        wait_until(lambda: status("/healthz") == 200, START_SECONDS, "it answers")
        assert status("/v1/events", b'{"event_id":"1"}') == 401
        assert status("/v1/events", b'{"event_id":"1"}', Authorization=f"Bearer {key}") == 202
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
    assert list((tmp_path / "entries").glob("*.log"))
