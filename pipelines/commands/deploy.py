"""`audience deploy`: build the template and manage its jobs on Google Dataflow, with gcloud."""

import json
import shlex
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

from pipelines.commands import Command
from pipelines.dataflow import deploy
from pipelines.dataflow.template import READS, REQUIRED, parameters
from pipelines.settings.arguments import add_all, add_to, options_of
from pipelines.settings.refresh_options import AS_OF, REFRESH, REFRESH_OPTIONS
from pipelines.settings.resolve import check_on_cluster, place_of, resolve
from pipelines.settings.values import NAMED, Given, value_of
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
    names = "; ".join([deploy.JOB_NAME, *(f"{name} for a {kind}" for kind, name in deploy.JOB_NAMES.items())])
    parser.add_argument("--job_name", help=f"Name of the job (default: {names})")
    parser.add_argument(
        "--transform_name_mapping",
        action="append",
        metavar="OLD=NEW",
        help="For an update: new name of a step of the running job; repeatable",
    )
    parser.add_argument(
        "--parallel",
        action="store_true",
        help="For an update: start the new job next to the old one, which is drained once the new one has caught up",
    )
    parser.add_argument(
        "--parallel_for",
        default="10m",
        metavar="10m",
        help="For an update with --parallel: how long both jobs run at least (default: 10m)",
    )
    parser.add_argument(
        "--force", action="store_true", help="For a release: also if a view would show less than before"
    )
    parser.add_argument("--dry_run", action="store_true", help="Print the commands without running them")
    group = parser.add_argument_group("workers")
    for name, line in WORKERS.items():
        group.add_argument(f"--{name}", help=line)
    group.add_argument(
        "--dataflow_service_options",
        action="append",
        metavar="NAME=VALUE",
        help="Option of the Dataflow service, such as min_num_workers=2; repeatable",
    )
    group.add_argument("--disable_public_ips", action="store_true", help="Use private IP addresses only")
    add_all(parser, tuple(option.name for option in parameters() if option not in REFRESH_OPTIONS))
    add_to(parser.add_argument_group(AS_OF.group), AS_OF)


def run(values, rest) -> None:
    action = values.action
    if action not in deploy.ACTIONS:
        raise OptionError(f"deploy: got {action!r}; allowed: {', '.join(deploy.ACTIONS)}")
    if action == "release":
        return _release(values)
    target = _target(values)
    if action == "build":
        return _do(values, deploy.build(target))
    if action == "status":
        return _do(values, deploy.jobs(target))
    if action in deploy.LOSES:
        return _end(values, target)
    if values.parallel:
        return _update_in_parallel(values, target)
    renamed = _parse_name_mapping(values.transform_name_mapping) if action == "update" else None
    if renamed is not None:
        _check_update(values, target, renamed)
    return _do(values, deploy.start(target, _parameters(values), renamed, action not in deploy.JOB_NAMES))


def _end(values, target: deploy.Target) -> None:
    """Drain or cancel the job; with --dataset wait for the end of a drained one, and note the days to recompute."""
    say(deploy.LOSES[values.action])
    id = "JOB_ID" if values.dry_run else deploy.running(target, deploy.run_gcloud)
    if values.action != "drain" or values.dataset is None or values.dry_run:
        return _do(values, deploy.end(target, values.action, id))
    with _open_dataset(values) as warehouse:
        from pipelines.dataflow.replaced import Waiting, end_job
        from pipelines.warehouse.bigquery.due import add_due

        _do(values, deploy.end(target, values.action, id))
        say("waiting until the job has ended")
        end_job(target, id, deploy.run_gcloud, Waiting(timedelta()))
        due = add_due(warehouse, datetime.now(UTC), _reach(values))
    say(
        f"{values.dataset}: the days from {due.start} to {due.end} (exclusive) are due for a recompute: run `audience "
        f"recompute --due --dataset {values.dataset}` every hour, e.g. by cron; it does what BigQuery allows by then"
    )


def _update_in_parallel(values, target: deploy.Target) -> None:
    if values.transform_name_mapping:
        raise OptionError("--transform_name_mapping: no state passes between two jobs with --parallel; leave it out")
    if values.input_subscription is None:
        raise OptionError("--input_subscription: missing; with --parallel it names the subscription of the old job")
    given, parallel = _parameters(values), value_of(NAMED["max_lateness"], Given(values.parallel_for, "option"))
    from pipelines.dataflow import replaced

    old, to = values.input_subscription, replaced.name_successor(target, values.input_subscription, datetime.now(UTC))
    if values.dry_run:
        new = given | {"input_subscription": to.subscription, "held": "true"}
        for words in (
            deploy.jobs(target),
            replaced.describe_subscription(old),
            replaced.policy_of(old),
            *replaced.open_subscription(old, to, None),
            deploy.start(target._replace(job_name=to.job_name), new),
            deploy.end(target, "drain", "JOB_ID"),
            ["audience", "deploy", "release", f"--dataset={given['dataset']}"],
        ):
            print(shlex.join(words))
        return
    with _open_dataset(values) as warehouse:
        waiting = replaced.Waiting(parallel)
        replacement = replaced.Replacement(target, old, to, given, warehouse, deploy.run_gcloud, say, waiting)
        replacement.replace_job(_reach(values))


def _reach(values) -> timedelta:
    """Return how long before the end of a job a bucket may have begun that was open then."""
    from transforms.lateness import allowed_lateness

    lateness = values.max_lateness or NAMED["max_lateness"].default
    return allowed_lateness(value_of(NAMED["max_lateness"], Given(lateness, "option"))) + timedelta(days=1)


def _release(values) -> None:
    with _open_dataset(values) as warehouse:
        from pipelines.warehouse.bigquery.held import release

        shown = release(warehouse, values.force)
    say(f"{values.dataset}: {'no rows were held' if shown is None else f'the rows of generation {shown} are shown'}")


@contextmanager
def _open_dataset(values):
    """Open the dataset of --dataset. Errors: OptionError if it is missing, WarehouseError."""
    if values.dataset is None:
        raise OptionError(f"--dataset: missing; required by `audience deploy {values.action}`")
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    named = place_of({"dataset": values.dataset}).dataset
    with closing(BigQueryWarehouse.open(f"{named}")) as warehouse:
        yield warehouse


def _target(values) -> deploy.Target:
    builds = values.action in ("build", "stream", "update", *deploy.JOB_NAMES)
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
    workers += deploy.service_options(values.dataflow_service_options or ())
    return deploy.Target(
        values.project,
        values.region,
        values.job_name or deploy.JOB_NAMES.get(values.action, deploy.JOB_NAME),
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
    command = values.action if values.action in deploy.JOB_NAMES else "run"
    values.refresh = "true" if command == REFRESH.name else None  # by the action, not by an option
    missing = [f"--{name}" for name in sorted(REQUIRED) if getattr(values, name) is None]
    if all(getattr(values, name) is None for name in READS[command]):
        missing.append(" or ".join(f"--{name}" for name in READS[command]))
    if missing:
        raise OptionError(f"{', '.join(missing)}: missing; required by a job")
    named = {option.name: getattr(values, option.name) for option in parameters()}
    given = {name: value for name, value in named.items() if value not in (None, "false")}
    for name, value in given.items():
        if name not in (*options_of(command), *READS[command]):
            raise OptionError(f"--{name} is not an option of `audience deploy {values.action}`; leave it out")
        if isinstance(value, list) and len(value) > 1:
            raise OptionError(f"--{name}: got {len(value)}; allowed: one, since a template parameter holds one value")
    # The configuration may be in a bucket that this machine cannot read.
    read_here = {name: value for name, value in given.items() if name != "config"}
    if command == REFRESH.name:
        place_of(read_here)
        value_of(AS_OF, Given(given.get(AS_OF.name), "option"))
    elif command == "backfill":
        check_on_cluster(resolve(read_here, command))
    else:
        resolve(read_here, command)
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
