"""templates/terraform against the rules of checkov, which `make tools` installs in an environment of its own."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers.needed import missing

ROOT = Path(__file__).parents[1]
TERRAFORM = ROOT / "templates" / "terraform"


@pytest.fixture
def checkov() -> str:
    """The program."""
    found = os.environ.get("CHECKOV") or str(ROOT / ".tools" / "checkov" / "bin" / "checkov")
    if not os.access(found, os.X_OK):
        missing(f"no checkov at {found}: run `make tools`, or set CHECKOV to it")
    return found


def scanned(checkov: str, folder: Path) -> dict:
    """What checkov says of a folder."""
    config = ROOT / "tests" / "checkov" / "checkov.yaml"
    words = [checkov, f"--directory={folder}", f"--config-file={config}", "--output=json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def test_no_rule_is_broken_but_those_that_are_left_with_a_reason(checkov):
    told = scanned(checkov, TERRAFORM)
    failed = [(each["check_id"], each["resource"]) for each in told["results"]["failed_checks"]]
    assert failed == []
    assert told["summary"]["parsing_errors"] == 0
    assert told["summary"]["passed"] > 30


def test_the_scan_sees_a_bucket_that_anybody_may_read(checkov, tmp_path):
    shutil.copytree(TERRAFORM, tmp_path / "terraform")
    file = tmp_path / "terraform" / "storage.tf"
    file.write_text(file.read_text().replace('public_access_prevention    = "enforced"', "", 1))
    (broken,) = scanned(checkov, tmp_path / "terraform")["results"]["failed_checks"]
    assert (broken["check_id"], broken["resource"]) == ("CKV_GCP_114", "google_storage_bucket.temp")
