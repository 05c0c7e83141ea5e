"""`audience doctor`: what is installed, what each missing part would allow, and what a warehouse holds."""

from pipelines.commands import Command
from pipelines.commands.query import add_form
from pipelines.settings.arguments import add_all, add_to
from pipelines.settings.resolve import Place, landing_of, place_of
from pipelines.settings.values import NAMED
from pipelines.sources.queues import LAUNCH_OPTIONS, find_queue
from pipelines.system.terminal import put, say
from transforms.errors import AudienceError


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "landing", "config"))
    parser.add_argument(
        "--books",
        action="store_true",
        help="Recount the tables of the warehouse and compare them with its books; exit status 1 if they differ",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="Read each file of the warehouse and verify its checksum; without it, sizes and footers are looked at",
    )
    group = parser.add_argument_group("launch", "What a stream on Google Cloud needs, looked at before anything starts")
    for name in LAUNCH_OPTIONS:
        add_to(group, NAMED[name])
    group.add_argument("--bucket", metavar="gs://BUCKET", help="Bucket in which a job stages")
    group.add_argument("--project", help="Project of the job: which interfaces are on, and what you may do there")
    group.add_argument("--region", help="Region of the job, e.g. europe-west1")
    add_form(parser)


def run(values, rest) -> int | None:
    if values.books:
        return _books(place_of(vars(values)), values.form)
    from pipelines.apps.doctor.check import FILE, WAREHOUSE
    from pipelines.apps.doctor.machine import checks, faults, lines

    place = place_of(vars(values))
    is_asked = find_queue(vars(values)) or values.bucket or values.region or values.project
    before = (lambda: _before_launch(values, place)) if is_asked else None
    landing = landing_of(vars(values)) if place.dataset else None
    found = checks(place.warehouse, place.dataset, before, landing, values.deep)
    put(lines(found, values.form), values.form)
    if wrong := faults(found):
        damaged = [row for row in wrong if row.section in (WAREHOUSE, FILE)]
        named = ", ".join(f"{row.name} ({row.state})" for row in wrong if row not in damaged)
        said = [f"what is required is not there: {named}"] if named else []
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            said.append(f"{damaged[0].name}{more} cannot be used: {damaged[0].detail}")
        raise AudienceError(f"{'; '.join(said)}; what to do is said above")
    return 0


def _before_launch(values, place: Place) -> list:
    from pipelines.apps.doctor.launch import Launch, preflight

    return preflight(
        Launch(find_queue(vars(values)), place.dataset, values.bucket, values.region, values.config, values.project)
    )


def _books(place: Place, form: str) -> int:
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
    said = f"{len(found)} differences between the tables and the books" if found else "the books are right"
    if writer:
        said += f"; {writer} is writing, what is in flight was left out: a minute just told of may still change"
    say(said)
    return 1 if found else 0


COMMAND = Command(
    add_options,
    run,
    "Show what is installed, what each missing part would allow, and what a warehouse holds.",
    "audience doctor --warehouse warehouse --json",
)
