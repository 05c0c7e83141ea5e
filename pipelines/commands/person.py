"""`audience person`: find a person in the warehouse, or erase one."""

from pipelines.commands import Command, add_form
from pipelines.settings.arguments import add_all
from pipelines.system.terminal import option, put, say, shown
from transforms.errors import OptionError

_OPTIONS = ("config", "warehouse", "dataset", "dedup_window", "generation", "shards", "workers")
_SHOWN = 10  # other identifiers that are listed at most


def add_options(parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--find", action="append", metavar="ID", help="Show where the person appears; repeatable")
    what.add_argument("--delete", action="append", metavar="ID", help="Erase the person; repeatable")
    parser.add_argument(
        "--mentions",
        choices=("redact", "keep"),
        help="With --delete: what to do with rows of other people that mention the person (default: redact, unless "
        "there are more than 1,000)",
    )
    parser.add_argument(
        "--proof_key",
        metavar="FILE",
        help="File with the key of the proof of erasure, created if it does not exist (default: erasure.key in the "
        "folder of the warehouse; required with --dataset)",
    )
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="DIR",
        help="Write-ahead log that no stream has read into this warehouse yet; others on this machine are known",
    )
    add_all(parser, _OPTIONS)
    add_form(parser)


def run(values, rest) -> None:
    from pipelines.settings.resolve import resolve

    ids = values.find or values.delete
    for id in ids:
        if not id or not _is_text(id):
            raise OptionError(f"--find, --delete: got {id!r}; allowed: a user_id or an anonymous_id, in UTF-8")
    if values.mentions and values.find:
        raise OptionError("--mentions: got it with --find; allowed: only with --delete")
    given = {name: value for name, value in vars(values).items() if name not in ("mentions", "proof_key", "log")}
    settings = resolve(given, "recompute")
    if values.find:
        _find(settings, ids, values.form, values.proof_key, values.log)
    else:
        _delete(settings, ids, values.proof_key, values.mentions, values.log)


def _is_text(id: str) -> bool:
    try:
        id.encode()
    except UnicodeEncodeError:  # bytes on the command line that are not UTF-8
        return False
    return True


def _find(settings, ids: list[str], form: str, proof_key: str | None, logs: list[str]) -> None:
    import polars as pl

    from pipelines.assemble import open_configured
    from pipelines.batch.person.erase import also_known_as
    from pipelines.batch.person.logs import TABLE as LOG
    from pipelines.batch.person.logs import find
    from pipelines.batch.person.places import LANDED, LIVE, Found, find_similar
    from pipelines.batch.person.proof import key_of, proofs
    from pipelines.batch.person.search import Search
    from pipelines.batch.summary import DEFAULT, program
    from pipelines.warehouse.interface import Result
    from pipelines.warehouse.render import render

    with open_configured(settings) as warehouse:
        found, unread = find(warehouse, Search(ids), logs)
        others, similar = also_known_as(warehouse, ids), find_similar(warehouse, ids)
        proved = proofs(warehouse, ids, key_of(warehouse, proof_key))
    rows = pl.DataFrame(found, schema=list(Found._fields), orient="row")
    put(render(Result(rows.columns, iter([rows])), form), form)
    for id, time, proof in proved.of_ids:
        say(f"{shown(id)} was erased on {time:%Y-%m-%d %H:%M:%S} UTC, by proof {proof}")
    if proved.by_other_keys:
        say(f"not compared: {proved.by_other_keys:,} proofs made with another key; pass it with --proof_key")
    if any(each.place not in (LIVE, LANDED) and each.table != LOG for each in found):
        say("files that are not live are removed by the next run that writes, or now by --delete of the same ids")
    if any(each.place == LANDED for each in found):
        say("landed records belong to a stream that is not drained: drain it before --delete")
    if unread:
        say(f"not searched: {unread:,} unreadable files that are not live, left behind by a killed run")
    if others:
        say(f"also known as {_join_ids(others)}")
    place = "" if warehouse.option == DEFAULT else f" {warehouse.option}"
    if named := [other for other in others[:_SHOWN] if "\0" not in other]:  # no word of a command holds one
        say(f"next: {program()} person {' '.join(option('find', other) for other in named)}{place}")
    if similar:
        say(f"similar identifiers, treated as other people: {_join_ids(similar)}")


def _delete(settings, ids: list[str], proof_key: str | None, mentions: str | None, logs: list[str]) -> None:
    from pipelines.assemble import open_configured
    from pipelines.batch.person.elsewhere import list_copies
    from pipelines.batch.person.erase import also_known_as, erase

    with open_configured(settings) as warehouse:
        others = also_known_as(warehouse, ids)
    done = erase(settings, ids, proof_key, mentions, logs=logs)
    with open_configured(settings) as warehouse:
        copies = list_copies(warehouse)
    for line in _summary(done):
        say(line)
    if others:
        say(f"also known as {_join_ids(others)}: rows with only those identifiers remain; delete them too")
    for line in copies:
        say(f"not covered: {line}")


def _summary(done) -> list[str]:
    """Describe what an erasure did."""
    if done.before is not None:
        return [f"nothing left to erase: the proof records an erasure on {done.before:%Y-%m-%d %H:%M:%S} UTC"]
    deleted = ", ".join(f"{rows:,} rows of {table}" for table, rows in done.rows.items())
    lines = [f"deleted: {deleted or 'nothing: they have no rows'}"]
    lines += [
        f"redacted: {each.rows:,} rows of {each.table}, {each.column} ({each.kind})"
        for each in done.outcomes
        if each.outcome == "redacted"
    ]
    lines += [
        f"kept: {each.rows:,} rows of {each.table}, {each.column} ({each.kind}): {each.reason}"
        for each in done.outcomes
        if each.outcome == "kept"
    ]
    if done.days:
        lines.append(f"rebuilt without them: {', '.join(map(str, done.days))}, with every active metric")
    if done.kept_sketches:
        listed = ", ".join(done.kept_sketches)
        lines.append(f"sketches that still include them: those of {listed}, whose metrics are not active")
    return [*lines, "the proof is in the table erasures; keep its key apart from the data"]


def _join_ids(ids: list[str]) -> str:
    return ", ".join(map(shown, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")


COMMAND = Command(
    add_options,
    run,
    "Find a person in the warehouse, or erase one.",
    "audience person --find u17",
)
