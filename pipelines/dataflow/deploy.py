"""Deploy: the gcloud commands that build the template and start, watch, update and end its jobs, as they are typed.

    build    the image and the template's file, by cloudbuild.yaml
    stream   a streaming job of the template
    backfill a job of the template that reads files and ends
    update   the running job of that name by a new one, which goes on with its state
    status   the jobs of that name
    drain    ends the job once it has worked on all that it read; every open bucket is closed early
    cancel   ends the job at once; what it has read and not written is lost to it, and what it counted is not shown

Each is a list of words; `--dry_run` prints them and runs none.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from transforms.errors import OptionError, RunnerError

ACTIONS = ("build", "stream", "backfill", "update", "status", "drain", "cancel")
LOSES = {
    "drain": (
        "drain: the job stops reading and closes every bucket that is open, with what it holds. What is published from "
        "now on waits in the subscription. A job that is started later knows nothing of the buckets before it, open or "
        "closed: an event that comes late, by up to --max_lateness, puts its own total over theirs. `audience "
        "recompute` of these days, once that job is drained, puts them right"
    ),
    "cancel": (
        "cancel: the job ends at once. What it read and has not written is read by nobody again; use drain, unless the "
        "job cannot work. As after a drain a later job knows nothing of the buckets before it; `audience recompute` of "
        "the days puts the metrics right, as far as events are stored"
    ),
}
JOB_NAME = "audience-stream"
BACKFILL_NAME = "audience-backfill"
RENAMED: dict[str, str] = {}  # steps of the last release, as they are called now
_IMAGE = re.compile(r"(?P<name>[^@\s,]+):(?P<tag>[\w.-]{1,128})(?P<digest>@sha256:[0-9a-f]{64})?")
_DELIMITERS = ";|~!#%&"
Runs = Callable[[Sequence[str]], str]


class Target(NamedTuple):
    """Where to: folders (gs://...), `image` as Docker names it, `workers` gcloud's own words for a job."""

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
    """Where the template's file is: by the tag of its image."""
    return f"{target.templates}/{tag_of(target.image)}.json"


def tag_of(image: str) -> str:
    """The tag of an image, which may have a digest behind it. Errors: OptionError for an image without a tag."""
    named = _IMAGE.fullmatch(image)
    if not named or named["tag"] == "latest":
        raise OptionError(
            f"--image: got {image!r}; allowed: an image with the tag of its build, not latest, and best its digest "
            "too: HOST/PROJECT/REPOSITORY/audience:TAG@sha256:..."
        )
    return named["tag"]


def by_digest(image: str) -> str:
    """An image as a job names it: by its digest where it is given."""
    named = _IMAGE.fullmatch(image)
    return f"{named['name']}{named['digest']}" if named and named["digest"] else image


def build(target: Target) -> list[str]:
    """Lint, test, build, push, and write the template's file."""
    tag = tag_of(target.image)
    repository, _, found = target.image.partition(f":{tag}")
    if found:
        raise OptionError(
            f"--image: got {target.image!r}; allowed for a build: {repository}:{tag}, as its digest is made"
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
    """Start a job of the template; with `renamed` (old step -> new) it replaces the running one of its name."""
    given = [
        *(f"{name}={value}" for name, value in parameters.items()),
        f"sdk_container_image={by_digest(target.image)}",
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


def _delimiter(values: Sequence[str]) -> str:
    """What stands between the values of one flag of gcloud: a sign that is in none, or a value could add another.

    Errors: OptionError if the values have every sign that would do.
    """
    for sign in _DELIMITERS:
        if not any(sign in value for value in values):
            return sign
    raise OptionError(f"a job's parameters: got each of {_DELIMITERS} in them; allowed: values without one of these")


def jobs(target: Target) -> list[str]:
    """The active jobs of the name, as JSON."""
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


def described(target: Target, id: str) -> list[str]:
    """All that the service tells of a job, as JSON: the names of its steps among it."""
    return ["gcloud", "dataflow", "jobs", "describe", id, "--full", "--format=json", *target.place]


def running(target: Target, run: Runs) -> str:
    """The id of the one job of the name that runs. Errors: OptionError if there is none."""
    found = [job["id"] for job in json.loads(run(jobs(target)) or "[]") if job.get("state") in (None, "Running")]
    if not found:
        raise OptionError(
            f"no job {target.job_name!r} runs in {target.project}, {target.region}; start it with `audience deploy "
            "stream`, or name another with --job_name"
        )
    return found[0]


def check_names(told: Mapping, new: set[str], renamed: Mapping[str, str]) -> None:
    """That every step of the running job that may hold state goes on under a name of the new graph.

    told     what `described` gives
    Errors: OptionError with the steps that would lose their state.
    """
    steps = (told.get("pipelineDescription") or {}).get("originalPipelineTransform") or ()
    old = {step["name"] for step in steps if step.get("name")}
    lost = sorted(name for name in old - new if renamed.get(name, "") not in new)
    if lost:
        shown = ", ".join(repr(name) for name in lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise OptionError(
            f"update: {shown} of the running job are not in the new graph, and would lose their state; say what each "
            "has become with --renamed OLD=NEW, or drain the job and start another"
        )


def by_gcloud(words: Sequence[str]) -> str:
    """Run a command and give what it printed. Errors: RunnerError with its last line."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OptionError(
            "there is no gcloud here; install the Google Cloud SDK (https://cloud.google.com/sdk/docs/install), or see "
            "the commands with --dry_run"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise RunnerError(f"`{shlex.join(words[:4])}` failed: {lines[-1]}")
    return done.stdout
