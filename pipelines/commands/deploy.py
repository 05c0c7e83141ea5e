"""`audience deploy`: build the template and manage its jobs on Google Dataflow, with gcloud."""

import json
import shlex

from pipelines.commands import Command
from pipelines.dataflow import deploy
from pipelines.dataflow.template import READS, REQUIRED, parameters
from pipelines.settings.arguments import add_all, options_of
from pipelines.settings.resolve import check_on_cluster, resolve
from pipelines.system.terminal import say
from transforms.errors import OptionError

FOLDERS = ("temp", "staging", "templates")
# Options of a job's workers, named as in gcloud.
WORKERS = {
    "num_workers": "Initial number of workers",
    "max_workers": "Maximum number of workers",
    "worker_machine_type": "Machine type of the workers, e.g. n2-standard-4",
    "service_account_email": "Service account the workers run as",
    "network": "Network of the workers, if it has one subnetwork in the region",
    "subnetwork": "Subnetwork of the workers, e.g. regions/europe-west1/subnetworks/private",
    "dataflow_kms_key": "CMEK: Cloud KMS key that encrypts the job's data: projects/.../cryptoKeys/KEY",
}


def add_options(parser) -> None:
    parser.add_argument("action", metavar="|".join(deploy.ACTIONS), help="Action to perform")
    parser.add_argument("--project", help="Google Cloud project")
    parser.add_argument("--region", help="Region of the job, e.g. europe-west1")
    parser.add_argument("--bucket", help="Bucket for three folders: BUCKET/temp, BUCKET/staging, BUCKET/templates")
    for name in FOLDERS:
        parser.add_argument(
            f"--{name}_location", metavar="gs://...", help=f"Folder for {name}, if it is not in --bucket"
        )
    parser.add_argument(
        "--image",
        help="Container image with its build tag, preferably with its digest: "
        "HOST/PROJECT/REPOSITORY/audience:TAG@sha256:...",
    )
    names = f"{deploy.JOB_NAME}; {deploy.BACKFILL_NAME} for a backfill"
    parser.add_argument("--job_name", help=f"Name of the job (default: {names})")
    parser.add_argument(
        "--transform_name_mapping",
        action="append",
        metavar="OLD=NEW",
        help="For an update: new name of a step of the running job; repeatable",
    )
    parser.add_argument("--dry_run", action="store_true", help="Print the commands without running them")
    group = parser.add_argument_group("workers")
    for name, line in WORKERS.items():
        group.add_argument(f"--{name}", help=line)
    group.add_argument("--disable_public_ips", action="store_true", help="Use private IP addresses only")
    add_all(parser, tuple(option.name for option in parameters()))


def run(values, rest) -> None:
    action = values.action
    if action not in deploy.ACTIONS:
        raise OptionError(f"deploy: got {action!r}; allowed: {', '.join(deploy.ACTIONS)}")
    target = _target(values)
    if action == "build":
        return _do(values, deploy.build(target))
    if action == "status":
        return _do(values, deploy.jobs(target))
    if action in deploy.LOSES:
        say(deploy.LOSES[action])
        id = "JOB_ID" if values.dry_run else deploy.running(target, deploy.run_gcloud)
        return _do(values, deploy.end(target, action, id))
    renamed = _parse_name_mapping(values.transform_name_mapping) if action == "update" else None
    if renamed is not None:
        _check_update(values, target, renamed)
    return _do(values, deploy.start(target, _parameters(values), renamed, action != "backfill"))


def _target(values) -> deploy.Target:
    backfills = values.action == "backfill"
    builds = backfills or values.action in ("build", "stream", "update")
    needed = ["project", "region", *(["image"] if builds else [])]
    temp, staging, templates = (_folder(values, name) for name in FOLDERS)
    missing = [f"--{name}" for name in needed if not getattr(values, name)]
    if builds and not (temp and staging and templates):
        missing.append("--bucket")
    if missing:
        raise OptionError(f"{', '.join(missing)}: missing; required by `audience deploy {values.action}`")
    workers = [f"--{name.replace('_', '-')}={getattr(values, name)}" for name in WORKERS if getattr(values, name)]
    if values.disable_public_ips:
        workers.append("--disable-public-ips")
    return deploy.Target(
        values.project,
        values.region,
        values.job_name or (deploy.BACKFILL_NAME if backfills else deploy.JOB_NAME),
        temp,
        staging,
        templates,
        values.image or "",
        tuple(workers),
    )


def _folder(values, name: str) -> str:
    """Return where a folder is: as given, else in the bucket; empty if neither is given."""
    bucket = (values.bucket or "").removeprefix("gs://").rstrip("/")
    return (getattr(values, f"{name}_location") or (f"gs://{bucket}/{name}" if bucket else "")).rstrip("/")


def _parameters(values) -> dict[str, str]:
    """Return the template parameters that were typed, checked as the command that the template starts checks them."""
    command = "backfill" if values.action == "backfill" else "run"
    missing = [f"--{name}" for name in sorted(REQUIRED) if getattr(values, name) is None]
    if all(getattr(values, name) is None for name in READS[command]):
        missing.append(" or ".join(f"--{name}" for name in READS[command]))
    if missing:
        raise OptionError(f"{', '.join(missing)}: missing; required by a job")
    named = {option.name: getattr(values, option.name) for option in parameters()}
    given = {name: value for name, value in named.items() if value not in (None, "false")}
    for name, value in given.items():
        if name not in options_of(command):
            raise OptionError(f"--{name} is not an option of `audience deploy {values.action}`; leave it out")
        if isinstance(value, list) and len(value) > 1:
            raise OptionError(f"--{name}: got {len(value)}; allowed: one, since a template parameter holds one value")
    # The configuration may be in a bucket that this machine cannot read.
    settings = resolve({name: value for name, value in given.items() if name != "config"}, command)
    if command == "backfill":
        check_on_cluster(settings)
    return {name: value[0] if isinstance(value, list) else value for name, value in given.items()}


def _parse_name_mapping(pairs: list[str] | None) -> dict[str, str]:
    for pair in pairs or ():
        if not all(pair.partition("=")):
            raise OptionError(f"--transform_name_mapping: got {pair!r}; allowed: OLD=NEW, two step names")
    return deploy.RENAMED | {old: new for old, _, new in (pair.partition("=") for pair in pairs or ())}


def _check_update(values, target, renamed: dict[str, str]) -> None:
    if values.dry_run:
        print(shlex.join(deploy.jobs(target)))
        print(shlex.join(deploy.describe(target, "JOB_ID")))
        return
    from pipelines.dataflow.job import step_names

    job = json.loads(deploy.run_gcloud(deploy.describe(target, deploy.running(target, deploy.run_gcloud))))
    deploy.check_names(job, step_names(resolve(_parameters(values), "run")), renamed)


def _do(values, words: list[str]) -> None:
    if values.dry_run:
        print(shlex.join(words))
    else:
        print(deploy.run_gcloud(words), end="")


COMMAND = Command(
    add_options,
    run,
    "Build the Dataflow template, and start, monitor, update and stop its jobs.",
    "audience deploy stream --project my-project --region europe-west1 --bucket my-bucket "
    "--image europe-docker.pkg.dev/my-project/audience/audience:TAG --dataset my-project.audience "
    "--input_subscription projects/my-project/subscriptions/events --dry_run",
)
