"""The flex template: its metadata as the service reads them, and what its launcher would start."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud.dataflow_v1beta3 import ContainerSpec, TemplateMetadata
from google.protobuf import json_format

from pipelines.cli import COMMANDS
from pipelines.dataflow.template import LOCAL, READS, container_spec, egrep, metadata, parameters
from pipelines.launcher import command_of
from pipelines.launcher import main as launched
from pipelines.settings.arguments import options_of
from pipelines.settings.options import OPTIONS
from pipelines.settings.resolve import resolve
from transforms.errors import OptionError

DIGEST = f"sha256:{'cd' * 32}"
FLEX = Path(__file__).parents[3] / "templates" / "flex"
TOLD = json.loads(metadata())
EXAMPLES = {option.name: option.example for option in OPTIONS}


def test_the_service_takes_its_metadata():
    read = json_format.Parse(metadata(), TemplateMetadata.pb()())
    assert read.streaming
    # A default is valid only where both are supported.
    assert (read.supports_exactly_once, read.supports_at_least_once, read.default_streaming_mode) == (True, False, "")
    assert [parameter.name for parameter in read.parameters] == [option.name for option in parameters()]


def test_the_service_takes_its_file():
    read = json_format.Parse(container_spec("host/audience:abc"), ContainerSpec.pb()())
    assert (read.image, read.metadata.streaming) == ("host/audience:abc", True)
    assert read.metadata == json_format.Parse(metadata(), TemplateMetadata.pb()())


@pytest.fixture
def typed(tmp_path, monkeypatch) -> Path:
    """What docker and gcloud would be given: programs of those names that note it."""
    notes = tmp_path / "typed"
    for name in ("docker", "gcloud"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        # Of a local image the registry's names: that of the repository of its last word, by one digest.
        told = f'case "$1" in inspect) for i; do :; done; echo "${{i%:*}}@{DIGEST}";; esac'
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {notes}\n{told}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(FLEX.parents[1]))
    return notes


def step(name: str, **given: str) -> subprocess.CompletedProcess:
    """A step of cloudbuild.yaml."""
    words = ["bash", str(FLEX / "cloudbuild.sh"), name]
    return subprocess.run(words, env=os.environ | given, capture_output=True, text=True, check=False)


def test_the_steps_of_the_build_build_test_push_and_write_the_file_by_one_tag(typed, tmp_path):
    given = {"IMAGE": "host/audience", "TAG": "abc", "TEMPLATES": "gs://my-bucket/templates"}
    for name in ("image", "test", "push", "template"):
        done = step(name, **given)
        assert done.returncode == 0, done.stderr
    said = typed.read_text().splitlines()
    assert [line.split()[:2] for line in said] == [
        *[["docker", word] for word in ("pull", "inspect", "pull", "inspect", "pull", "build", "run")],
        *[["docker", word] for word in ("push", "push", "inspect")],
        ["gcloud", "storage"],
    ]
    (built,) = [line for line in said if line.startswith("docker build")]
    assert "--file templates/flex/Dockerfile" in built and "--tag host/audience:abc" in built
    assert re.search(rf"--build-arg LAUNCHER=gcr.io/\S+@{DIGEST} --build-arg SDK=apache/beam\S+@{DIGEST} ", built)
    assert said[-1].endswith("template.json gs://my-bucket/templates/abc.json")
    assert json.loads((tmp_path / "template.json").read_text())["image"] == f"host/audience@{DIGEST}"


def test_a_base_that_is_given_is_a_digest_and_is_not_looked_up(typed):
    given = {"IMAGE": "host/audience", "TAG": "abc", "LAUNCHER": f"host/launcher@{DIGEST}"}
    done = step("image", **given, SDK="apache/beam_python3.11_sdk:2.77.0")
    assert done.returncode == 2
    assert "_SDK: got 'apache/beam_python3.11_sdk:2.77.0'; allowed: an image by digest" in done.stderr
    assert not typed.exists()
    assert step("image", **given, SDK=f"host/sdk@{DIGEST}").returncode == 0
    assert f"--build-arg LAUNCHER=host/launcher@{DIGEST} --build-arg SDK=host/sdk@{DIGEST} " in typed.read_text()


def test_a_build_without_an_image_stops_at_lint_and_test_and_an_unknown_step_is_refused(typed):
    assert step("image", IMAGE="", TAG="abc").returncode == 0
    assert not typed.exists()
    assert step("deploy", IMAGE="i", TAG="abc").returncode == 2


def test_every_parameter_says_what_the_service_does_not_look_for():
    for told in TOLD["parameters"]:
        assert told["label"] and told["helpText"] and told["groupName"], told["name"]
        assert told["paramType"] != "ENUM" or told["enumOptions"]


def test_every_parameter_is_an_option_of_a_job_and_the_others_are_of_one_machine():
    names = {told["name"] for told in TOLD["parameters"]}
    assert names | LOCAL == {"refresh", *(name for kind in READS for name in options_of(kind))}
    assert names.isdisjoint(LOCAL)


def test_a_flag_is_a_parameter_that_is_true_or_false():
    flags = {told["name"] for told in TOLD["parameters"] if told["paramType"] == "BOOLEAN"}
    assert flags == {"refresh", "held", "replace", "add", "accept_late", "no_active_stream"}
    days = {"input": ["f"], "start": "2026-03-01", "end": "2026-03-02"}
    for name in flags - {"refresh"}:
        assert getattr(resolve(days | {name: "true"}), name) is True
        assert getattr(resolve(days | {name: "false"}), name) is False
        with pytest.raises(OptionError, match=f"--{name}: got 'yes'; allowed: true or false"):
            resolve(days | {name: "yes"})


# As a console would send them: whatever has a default, and flags that nobody touched.
UNTOUCHED = [f"--{told['name']}={told['defaultValue']}" for told in TOLD["parameters"] if "defaultValue" in told] + [
    f"--{told['name']}=false" for told in TOLD["parameters"] if told["paramType"] == "BOOLEAN"
]
PLACE = ["--runner=DataflowRunner", "--project=my-project", "--dataset=my-project.audience"]


def test_a_subscription_starts_a_stream_files_a_backfill_and_a_flag_a_refresh_whatever_the_console_sends_beside_them():
    queue, files = "--input_subscription=projects/my-project/subscriptions/events", "--input=gs://b/*.jsonl"
    stream = command_of([*UNTOUCHED, "--input=", queue, *PLACE])
    assert stream[0] == "run" and {queue, *PLACE, "--write_method=STORAGE_WRITE_API"} <= {*stream}
    assert not {"--format=auto", "--replace=false", "--input="} & {*stream}
    backfill = command_of([*UNTOUCHED, files, "--replace=true", *PLACE])
    assert backfill[0] == "backfill" and {files, "--replace=true", *PLACE, "--format=auto"} <= {*backfill}
    assert "--write_method=STORAGE_WRITE_API" not in backfill
    refresh = command_of([*UNTOUCHED, "--refresh=true", "--as_of=2026-03-01T10:00:00Z", "--config=gs://b/c", *PLACE])
    assert refresh == ["refresh", "--as_of=2026-03-01T10:00:00Z", "--config=gs://b/c", *PLACE]
    for words in (stream, backfill, refresh):
        assert COMMANDS[words[0]].takes_beam_options


def test_parameters_of_two_kinds_of_job_are_one_line(capsys):
    queue = "--input_subscription=projects/my-project/subscriptions/events"
    assert launched([queue, "--input=gs://b/*.jsonl", *PLACE]) == 2
    said = "--input is only for a backfill, but with --input_subscription a job is a stream; remove one of them"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert launched(["--input=gs://b/*.jsonl", "--early_firing=1m", *PLACE]) == 2
    assert "--early_firing is only for a stream, but without --input_subscription a job is" in capsys.readouterr().err
    for words, said in (
        (["--refresh=true", queue], "--input_subscription is only for a stream, but with --refresh a job is a refresh"),
        (["--refresh", "--shards=2"], "--shards is only for a stream or a backfill, but with --refresh a job is a"),
        (["--as_of=2026-03-01T10:00:00Z", queue], "--as_of is only for a refresh, but with --input_subscription a job"),
        (
            ["--as_of=2026-03-01T10:00:00Z", "--input=f"],
            "--as_of is only for a refresh, but without --refresh a job",
        ),
        (["--refresh=yes"], "--refresh: got 'yes'; allowed: true or false"),
        (["--refresh=true", "--as_of=today"], "--as_of: got 'today'; allowed: a time with its zone, such as"),
    ):
        assert launched([*words, *PLACE]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert launched(PLACE) == 2
    assert "no source given: name the files to read with --input" in capsys.readouterr().err


@pytest.mark.parametrize(
    "told", [told for told in TOLD["parameters"] if "regexes" in told], ids=lambda told: told["name"]
)
def test_a_regular_expression_takes_what_the_option_takes_as_egrep_reads_it(told):
    (pattern,) = told["regexes"]
    right = told.get("defaultValue") or EXAMPLES[told["name"]]
    for value, takes in ((right, True), (f"{right} \u00e9", False), ("", False)):
        found = subprocess.run(["grep", "-qE", pattern], input=value, text=True, check=False)
        assert (found.returncode == 0) == takes, (pattern, value)


def test_no_form_of_pythons_own_is_left_in_a_regular_expression():
    for told in TOLD["parameters"]:
        for pattern in told.get("regexes", ()):
            assert not re.search(r"\\[dsw]|\(\?", pattern), pattern
    assert egrep(r"(?:a|\d{1,2})[^/\s]") == "(a|[0-9]{1,2})[^/[:space:]]"
    assert all(int(most) <= 1_000 for most in re.findall(r",(\d+)\}", metadata()))


def test_the_defaults_are_what_the_command_takes():
    given = {told["name"]: told["defaultValue"] for told in TOLD["parameters"] if "defaultValue" in told}
    required = {told["name"]: EXAMPLES[told["name"]] for told in TOLD["parameters"] if not told["isOptional"]}
    assert set(required) == {"dataset"}
    for command, read in READS.items():
        for name in set(read) & set(EXAMPLES):  # a refresh has no default
            stated = {"dataset": "my-project.audience", name: EXAMPLES[name]}
            assert resolve(given | stated, command) == resolve(stated, command)


def test_what_the_image_copies_and_starts_is_there():
    lines = (FLEX / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    root = FLEX.parents[1]
    for _, *sources, _ in (step for step in steps if step[0] == "COPY" and "--from" not in step[1]):
        assert all((root / source).exists() for source in sources)
    (started,) = (
        word.partition("=")[2] for step in steps for word in step if word.startswith("FLEX_TEMPLATE_PYTHON_PY")
    )
    assert (root / Path(started).relative_to("/template")).is_file()
    beam = re.search(r"^apache-beam==(\S+)", (root / "requirements.lock").read_text(), re.MULTILINE)
    assert beam and f"_sdk:{beam[1]}\n" in (FLEX / "cloudbuild.sh").read_text()
    assert [step for step in steps if step[0] in ("ARG", "FROM")] == [
        *(["ARG", "LAUNCHER"], ["ARG", "SDK"], ["FROM", "${LAUNCHER}", "AS", "launcher"], ["FROM", "${SDK}"]),
    ]
