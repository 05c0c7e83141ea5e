"""The files of templates/terraform as Python has them, and what Terraform makes of those that need no provider."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hcl2
import pytest

from tests.servers.needed import LIMIT

FOLDER = Path(__file__).parents[2] / "templates/terraform"
FILES = sorted(FOLDER.glob("*.tf"))
OFFLINE = ("variables.tf", "locals.tf", "tables.json", "dashboard.json.tftpl")  # they name no provider
GIVEN = {"project": "my-project", "region": "europe-west1", "location": "EU"}


class Block(NamedTuple):
    """A block, e.g. `resource "google_pubsub_topic" "events"`: kind, type, name. A variable has no type."""

    kind: str
    type: str
    name: str
    body: dict[str, Any]


def plain(value: Any) -> Any:
    """A parsed value without the quotes of texts and the parser's own keys."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


@cache
def parsed() -> dict[str, dict]:
    """File -> what is in it."""
    return {path.name: plain(hcl2.loads(path.read_text())) for path in FILES}


def blocks(kind: str, type: str = "") -> list[Block]:
    """The blocks of a kind: all, or those whose type begins so."""
    listed = [each for file in parsed().values() for each in file.get(kind, [])]
    if kind in ("resource", "data"):
        made = [
            Block(kind, of, name, body) for each in listed for of, names in each.items() for name, body in names.items()
        ]
    else:
        made = [Block(kind, "", name, body) for each in listed for name, body in each.items()]
    return [block for block in made if block.type.startswith(type)]


def resources(type: str) -> list[str]:
    """The names of the resources of a type, which need no parser: tests are named by them."""
    return re.findall(rf'^resource "{type}" "(\w+)"', code(), re.MULTILINE)


def code() -> str:
    """All files, without comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", "\n".join(path.read_text() for path in FILES))


def terraform(*words: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess:
    """Run Terraform, which asks nobody; the test is skipped where there is none."""
    binary = shutil.which("terraform")
    if binary is None:
        pytest.skip("no terraform on the PATH: that the files are formatted and what they evaluate to is NOT checked")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    return subprocess.run(
        [binary, *words], cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=LIMIT
    )


def offline(folder: Path) -> Path:
    """The folder, with the files that name no provider."""
    for name in OFFLINE:
        shutil.copy(FOLDER / name, folder)
    return folder


def evaluated(folder: Path, expression: str, **variables: Any) -> Any:
    """What Terraform makes of an expression; AssertionError with its words if it refuses the variables."""
    (folder / "given.tfvars.json").write_text(json.dumps(GIVEN | variables))
    done = terraform("console", "-var-file=given.tfvars.json", folder=folder, stdin=f"jsonencode({expression})\n")
    refused = re.sub(r"\x1b\[\d*m", "", done.stderr)
    assert "Error:" not in refused, refused
    return json.loads(json.loads(done.stdout))
