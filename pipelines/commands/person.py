"""`audience person`: find a person in the warehouse, or take one out."""

from pipelines.commands import Command, say
from pipelines.commands.query import add_form
from pipelines.options import add_all
from pipelines.terminal import option, put, shown
from transforms.errors import OptionError

_OPTIONS = ("config", "warehouse", "dataset", "dedup_window", "generation", "shards", "workers")
MOST_NAMED = 10  # other identifiers that are listed


def add_options(parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--find", action="append", metavar="ID", help="Show what the warehouse holds; may be repeated")
    what.add_argument("--delete", action="append", metavar="ID", help="Take the person out; may be repeated")
    add_all(parser, _OPTIONS)
    add_form(parser)


def run(values, rest) -> None:
    from pipelines.options import resolve

    ids = values.find or values.delete
    if not all(ids):
        raise OptionError("--find, --delete: got ''; allowed: a user_id or an anonymous_id")
    settings = resolve(vars(values), "recompute")
    if values.find:
        _find(settings, ids, values.form)
    else:
        _delete(settings, ids)


def _find(settings, ids: list[str], form: str) -> None:
    import polars as pl

    from pipelines.bounded import warehouse_of
    from pipelines.person import Found, also_known_as, find, landed
    from pipelines.summary import DEFAULT, program
    from pipelines.warehouse.query import Result, render

    with warehouse_of(settings) as warehouse:
        found, others, unseen = find(warehouse, ids), also_known_as(warehouse, ids), landed(warehouse)
    rows = pl.DataFrame(found, schema=list(Found._fields), orient="row")
    put(render(Result(rows.columns, iter([rows])), form), form)
    if unseen:
        say(f"not searched: {unseen:,} records of a stream that are not in the books yet")
    if others:
        say(f"also known as {_listed(others)}")
    place = "" if warehouse.option == DEFAULT else f" {warehouse.option}"
    if named := [other for other in others[:MOST_NAMED] if "\0" not in other]:  # no word of a command holds one
        say(f"next: {program()} person {' '.join(option('find', other) for other in named)}{place}")


def _listed(ids: list[str]) -> str:
    return ", ".join(map(shown, ids[:MOST_NAMED]))


def _delete(settings, ids: list[str]) -> None:
    from pipelines.bounded import warehouse_of
    from pipelines.person import also_known_as, erase

    with warehouse_of(settings) as warehouse:
        others = also_known_as(warehouse, ids)
    done = erase(settings, ids)
    told = ", ".join(f"{rows:,} rows of {table}" for table, rows in done.rows.items()) or "nothing: no row names them"
    lines = [f"taken out: {told}"]
    if done.days:
        lines.append(f"written anew without them: {', '.join(map(str, done.days))}, with every metric in force")
    if done.kept_sketches:
        listed = ", ".join(done.kept_sketches)
        lines.append(f"sketches that cannot forget them: those of {listed}, whose metric is not in force")
    if others:
        lines.append(f"also known as {_listed(others)}: what stands under those names alone stays; delete them too")
    lines.append(
        "the proof is in the table erasures; files that were read before, and copies elsewhere, are yours to mend"
    )
    say("\n".join(lines))


COMMAND = Command(
    add_options,
    run,
    "Find a person in the warehouse, or take one out.",
    "audience person --find u17",
)
