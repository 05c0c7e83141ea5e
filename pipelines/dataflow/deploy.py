"""Deploy: the gcloud commands that build the template and start, monitor, update and stop its jobs.

    build    builds the image and the template file, with cloudbuild.yaml
    stream   starts a streaming job from the template
    backfill starts a job from the template that reads files and ends
    refresh  starts a job from the template that computes answers as of a time and ends
    update   replaces the running job of that name with a new one, which continues with its state
    release  shows the metric rows of a stream that was started with --held
    status   lists the jobs of that name
    drain    stops the job once it has processed all that it read; every open bucket is closed early
    cancel   stops the job at once; records that it read but did not write are lost, and open buckets are not published

Each is a list of words; `--dry_run` prints them without running them.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from transforms.errors import OptionError, RunnerError

ACTIONS = ("build", "stream", "backfill", "refresh", "update", "release", "status", "drain", "cancel")
LOSES = {
    "drain": (
        "drain: the job stops reading, and publishes and closes every open bucket. New messages wait in the "
        "subscription. A job that starts later has no state of earlier buckets: an event that arrives late, by up to "
        "--max_lateness, overwrites their totals. Once that job is drained, `audience recompute` corrects these days"
    ),
    "cancel": (
        "cancel: the job stops at once. Records that it read but did not write are not read again; use drain, unless "
        "the job is stuck. As after a drain, a later job has no state of earlier buckets; `audience recompute` of the "
        "days corrects the metrics from the stored events"
    ),
}
JOB_NAME = "audience-stream"
JOB_NAMES = {"backfill": "audience-backfill", "refresh": "audience-refresh"}  # of the jobs that end by themselves
# Steps renamed since the last release: old name -> new name.
RENAMED = {"Join audit counts": "Count audit/Join"}
_IMAGE = re.compile(r"(?P<name>[^@\s,]+):(?P<tag>[\w.-]{1,128})(?P<digest>@sha256:[0-9a-f]{64})?")
_DELIMITERS = ";|~!#%&"
Runs = Callable[[Sequence[str]], str]


class Target(NamedTuple):
    """The target: folders (gs://...), `image` as Docker names it, `workers` as gcloud options of a job."""

    project: str
    region: str
    job_name: str
    temp: str = ""
    staging: str = ""
    templates: str = ""
    image: str = ""
    workers: tuple[str, ...] = ()

    @property
    def place(self) -> list[str]:
        return [f"--project={self.project}", f"--region={self.region}"]


def template_of(target: Target) -> str:
    """Return the path of the template file, which contains the tag of its image."""
    return f"{target.templates}/{tag_of(target.image)}.json"


def tag_of(image: str) -> str:
    """Return the tag of an image, which may be followed by a digest. Errors: OptionError for an image without a tag."""
    named = _IMAGE.fullmatch(image)
    if not named or named["tag"] == "latest":
        raise OptionError(
            f"--image: got {image!r}; allowed: an image with its build tag (not latest), preferably with its digest: "
            "HOST/PROJECT/REPOSITORY/audience:TAG@sha256:..."
        )
    return named["tag"]


def pin_digest(image: str) -> str:
    """Return an image as a job names it: by its digest if one is given."""
    named = _IMAGE.fullmatch(image)
    return f"{named['name']}{named['digest']}" if named and named["digest"] else image


def build(target: Target) -> list[str]:
    """Lint, test, build, push, and write the template file."""
    tag = tag_of(target.image)
    repository, _, found = target.image.partition(f":{tag}")
    if found:
        raise OptionError(
            f"--image: got {target.image!r}; allowed for a build: {repository}:{tag}; the build creates the digest"
        )
    given = f"_IMAGE={repository},_TAG={tag},_TEMPLATES={target.templates}"
    return [
        "gcloud",
        "builds",
        "submit",
        ".",
        "--config=cloudbuild.yaml",
        f"--gcs-source-staging-dir={target.templates.rpartition('/')[0]}/source",
        f"--substitutions={given}",
        *target.place,
    ]


def start(
    target: Target, parameters: Mapping[str, str], renamed: Mapping[str, str] | None = None, streaming: bool = True
) -> list[str]:
    """Start a job from the template; with `renamed` (old step -> new), it replaces the running job of its name."""
    given = [
        *(f"{name}={value}" for name, value in parameters.items()),
        f"sdk_container_image={pin_digest(target.image)}",
    ]
    delimiter = _delimiter(given)
    words = [
        "gcloud",
        "dataflow",
        "flex-template",
        "run",
        target.job_name,
        f"--template-file-gcs-location={template_of(target)}",
        f"--parameters=^{delimiter}^{delimiter.join(given)}",
        f"--temp-location={target.temp}",
        f"--staging-location={target.staging}",
        *(["--enable-streaming-engine"] if streaming else []),
        *target.workers,
        *target.place,
    ]
    if renamed is not None:
        words.append("--update")
        if renamed:
            words.append("--transform-name-mappings=" + ",".join(f"{old}={new}" for old, new in renamed.items()))
    return words


def service_options(given: Sequence[str]) -> list[str]:
    """Return the flag by which gcloud passes options of the service to a job. Errors: OptionError for one that sets
    at-least-once mode (docs/why/exactly-once.md)."""
    for word in given:
        if "at_least_once" in word.lower().replace("-", "_"):
            raise OptionError(
                f"--dataflow_service_options: got {word!r}; allowed: exactly-once mode (the default): at-least-once "
                "mode counts repeats twice in metrics and audit counts; leave it out"
            )
    if not given:
        return []
    named = [f"dataflow_service_options={word}" for word in given]
    delimiter = _delimiter(named)
    return [f"--additional-pipeline-options=^{delimiter}^{delimiter.join(named)}"]


def _delimiter(values: Sequence[str]) -> str:
    """Return a delimiter for the values of one gcloud flag that occurs in none of them.

    Errors: OptionError if the values contain every possible delimiter.
    """
    for sign in _DELIMITERS:
        if not any(sign in value for value in values):
            return sign
    raise OptionError(f"parameters: got values with each of {_DELIMITERS}; allowed: values that avoid one of these")


def jobs(target: Target) -> list[str]:
    """List the active jobs of the name, as JSON."""
    return [
        "gcloud",
        "dataflow",
        "jobs",
        "list",
        "--status=active",
        f"--filter=name={target.job_name}",
        "--format=json",
        *target.place,
    ]


def end(target: Target, action: str, id: str) -> list[str]:
    """Drain or cancel a job."""
    return ["gcloud", "dataflow", "jobs", action, id, *target.place]


def describe(target: Target, id: str) -> list[str]:
    """Describe a job in full, including its step names, as JSON."""
    return ["gcloud", "dataflow", "jobs", "describe", id, "--full", "--format=json", *target.place]


def running(target: Target, run: Runs) -> str:
    """Return the id of the running job of the name. Errors: OptionError if there is none."""
    found = [job["id"] for job in json.loads(run(jobs(target)) or "[]") if job.get("state") in (None, "Running")]
    if not found:
        raise OptionError(
            f"no job {target.job_name!r} is running in {target.project}, {target.region}; start it with `audience "
            "deploy stream`, or name another with --job_name"
        )
    return found[0]


def check_names(job: Mapping, new: set[str], renamed: Mapping[str, str]) -> None:
    """Check that every step of the running job that may hold state has a name in the new graph.

    job      the output of `described`
    Errors: OptionError with the steps that would lose their state.
    """
    steps = (job.get("pipelineDescription") or {}).get("originalPipelineTransform") or ()
    old = {step["name"] for step in steps if step.get("name")}
    lost = sorted(name for name in old - new if renamed.get(name, "") not in new)
    if lost:
        shown = ", ".join(repr(name) for name in lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise OptionError(
            f"update: {shown} of the running job are not in the new graph, and would lose their state; map each to its "
            "new name with --transform_name_mapping OLD=NEW, or drain the job and start another"
        )


def run_gcloud(words: Sequence[str]) -> str:
    """Run a command and return its output. Errors: RunnerError with its last line."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OptionError(
            "gcloud not found; install the Google Cloud SDK (https://cloud.google.com/sdk/docs/install), or print the "
            "commands with --dry_run"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no error message"]
        raise RunnerError(f"`{shlex.join(words[:4])}` failed: {lines[-1]}")
    return done.stdout
