"""`audience sync`: send what changed in segments of persons to their targets, or show what was sent."""

from pathlib import Path

from pipelines.commands import Command, add_form
from pipelines.settings.arguments import add_all
from pipelines.settings.resolve import place_of
from pipelines.system.terminal import put, say, shown
from transforms.errors import OptionError

STATE = "Folder that keeps what each target has; keep it (default: sync/ in the warehouse)"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument("--segment", action="append", default=[], metavar="NAME", help="Only this one; repeatable")
    parser.add_argument("--to", action="append", default=[], metavar="TARGET", help="Only to this one; repeatable")
    parser.add_argument("--state", metavar="DIR", help=STATE)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry_run", action="store_true", help="Count what would be sent; nothing is sent or kept")
    what.add_argument("--log", action="store_true", help="Print the finished syncs; nothing is sent")
    parser.add_argument(
        "--remove_many", action="store_true", help="Remove more than half of the members of a segment if it says so"
    )
    add_form(parser)


def run(values, rest) -> int:
    import polars as pl

    from pipelines.insight.sync.run import Asked, Synced, pairs, states_of, sync_all
    from pipelines.settings.config import read_config
    from pipelines.warehouse.configured import open_asked
    from pipelines.warehouse.interface import Result
    from pipelines.warehouse.render import render

    sync = read_config(values.config).sync
    if not sync.segments:
        raise OptionError("nothing to sync: the configuration has no segments; name a file that has `sync` by --config")
    asked = Asked(values.segment, values.to, values.dry_run, values.remove_many)
    states = states_of(place_of(vars(values)), None if values.state is None else Path(values.state))
    if values.log:
        rows = _log(states, pairs(sync, asked))
        put(render(Result(rows.columns, iter([rows])), values.form), values.form)
        return 0
    with open_asked(vars(values)) as warehouse:
        done = sync_all(warehouse, sync, states, asked)
    rows = pl.DataFrame(done, schema=list(Synced._fields), orient="row").drop("problem")
    put(render(Result(rows.columns, iter([rows])), values.form), values.form)
    for each in done:
        if each.problem:
            say(shown(f"{each.segment} to {each.target}: {each.problem}"))
        if each.failed:
            refused = f"{each.failed:,} changes were refused; the next sync tries again"
            say(shown(f"{each.segment} to {each.target}: {refused}"))
    return 1 if any(each.problem or each.failed for each in done) else 0


def _log(states: Path, asked: list[tuple[str, str]]):
    import msgspec
    import polars as pl

    from pipelines.insight.sync.state import Line, State

    schema: dict = {
        "segment": pl.String,
        "target": pl.String,
        "number": pl.Int64,
        "time": pl.Datetime("us", "UTC"),
        "added": pl.Int64,
        "changed": pl.Int64,
        "removed": pl.Int64,
        "failed": pl.Int64,
    }
    lines: list[tuple[str, str, Line]] = [
        (name, target, line) for name, target in asked for line in State(states / f"{name}.{target}").log()
    ]
    found = [(name, target, *msgspec.structs.astuple(line)) for name, target, line in lines]
    return pl.DataFrame(found, schema=schema, orient="row").sort("time", "segment", "target")


COMMAND = Command(
    add_options,
    run,
    "Send what changed in segments of persons to their targets.",
    "audience sync --config audience.yaml --dry_run",
)
