"""`audience doctor`: check what is installed, what a launch needs, and the state of a warehouse."""

from pipelines.commands import Command, add_form
from pipelines.settings.arguments import OF_QUEUES, add_all, add_to
from pipelines.settings.resolve import Place, landing_of, place_of
from pipelines.settings.values import NAMED
from pipelines.sources.queues import LAUNCH_OPTIONS, OPTIONS, find_queue
from pipelines.system.terminal import put, say
from transforms.errors import AudienceError


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "landing", "config"))
    parser.add_argument(
        "--audit",
        action="store_true",
        help="Recount the warehouse's tables and reconcile them with its audit counts; exit status 1 if they differ",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="Read each file of the warehouse and verify its checksum; otherwise only sizes and footers are checked",
    )
    group = parser.add_argument_group("launch", "Check what a stream on Google Cloud needs, before anything starts")
    for name in LAUNCH_OPTIONS:
        add_to(group, NAMED[name])
    here = parser.add_argument_group("queue", "Check that a stream on this machine can read a queue")
    for name in (*(each for each in OPTIONS if each not in LAUNCH_OPTIONS), *OF_QUEUES):
        add_to(here, NAMED[name])
    group.add_argument("--bucket", metavar="gs://BUCKET", help="Staging bucket of the job")
    group.add_argument("--project", help="Project of the job: check enabled APIs and granted permissions")
    group.add_argument("--region", help="Region of the job, e.g. europe-west1")
    add_form(parser)


def run(values, rest) -> int | None:
    if values.audit:
        return _audit(place_of(vars(values)), values.form)
    from pipelines.apps.doctor.check import FILE, WAREHOUSE
    from pipelines.apps.doctor.machine import checks, faults, lines

    place = place_of(vars(values))
    is_asked = find_queue(vars(values)) or values.bucket or values.region or values.project
    before = (lambda: _before_launch(values, place)) if is_asked else None
    landing = landing_of(vars(values)) if place.dataset else None
    found = checks(place.warehouse, place.dataset, before, landing, values.deep, values.config)
    put(lines(found, values.form), values.form)
    if wrong := faults(found):
        damaged = [row for row in wrong if row.section in (WAREHOUSE, FILE)]
        named = ", ".join(f"{row.name} ({row.state})" for row in wrong if row not in damaged)
        problems = [f"required but missing: {named}"] if named else []
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            problems.append(f"{damaged[0].name}{more} cannot be used: {damaged[0].detail}")
        raise AudienceError(f"{'; '.join(problems)}; see above for what to do")
    return 0


def _before_launch(values, place: Place) -> list:
    from pipelines.apps.doctor.launch import Launch, preflight

    return preflight(
        Launch(find_queue(vars(values)), place.dataset, values.bucket, values.region, values.config, values.project)
    )


def _audit(place: Place, form: str) -> int:
    import polars as pl

    from pipelines.warehouse.interface import Result
    from pipelines.warehouse.open import open_warehouse
    from pipelines.warehouse.recount import Difference, differences
    from pipelines.warehouse.render import render

    with open_warehouse(*place) as warehouse:
        writer = warehouse.written_by()
        found = differences(warehouse, writing=writer is not None)
    rows = pl.DataFrame(found, schema=list(Difference._fields), orient="row")
    put(render(Result(rows.columns, iter([rows])), form), form)
    result = f"{len(found)} differences between the tables and the audit counts" if found else "the counts reconcile"
    if writer:
        result += f"; {writer} is writing: records in flight are left out, and the latest minutes may still change"
    say(result)
    return 1 if found else 0


COMMAND = Command(
    add_options,
    run,
    "Check what is installed, what a launch needs, and the state of a warehouse.",
    "audience doctor --warehouse warehouse --json",
)
