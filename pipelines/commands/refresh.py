"""`audience refresh`: bring what is computed of all of history up to date: answers as of a time, and kept views."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipelines.commands import Command, launch_on_dataflow
from pipelines.settings.arguments import add_all
from pipelines.settings.options import DURATION, DURATION_IN_WORDS, Option
from pipelines.settings.refresh_options import AS_OF
from pipelines.settings.resolve import Place, place_of
from pipelines.settings.values import NAMED, Given, value_of
from pipelines.system.terminal import say, shown
from transforms.errors import AudienceError, OptionError, first_line

if TYPE_CHECKING:
    from pipelines.settings.config import Configuration

HELP = "Refresh again after each of these times until interrupted, beside a stream, such as 5m (default: once)"
EVERY = Option("every", HELP, None, DURATION, DURATION_IN_WORDS, read=NAMED["partition_expiration"].read)
LOCAL = ("every", "force", "outbox", "warehouse")  # options of a refresh on this machine alone
OPEN_DAYS = 2  # the newest, which each commit of a stream changes
OUTBOX = "Folder of the messages that alerts send; keep it: it knows what was sent (default: alerts/ in the warehouse)"

FORCE = "Score with models that were worse than a baseline or whose features have drifted, too"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument("--as_of", metavar="TIME", help=AS_OF.help)
    parser.add_argument("--every", metavar="DURATION", help=HELP)
    parser.add_argument("--outbox", metavar="DIR", help=OUTBOX)
    parser.add_argument("--force", action="store_true", default=None, help=FORCE)
    parser.add_argument(
        "--runner", help="Beam runner: FnApiRunner on this machine, or DataflowRunner (default: FnApiRunner)"
    )


def run(values, rest) -> None:
    place = place_of(vars(values))
    as_of = value_of(AS_OF, Given(values.as_of, "option"))
    pause = None if values.every is None else value_of(EVERY, Given(values.every, "option"))
    if as_of is not None and pause is not None:
        raise OptionError("--as_of and --every exclude each other: answers as of one time are computed once")
    if values.runner:
        from pipelines.runners.choose import DATAFLOW

        if values.runner == DATAFLOW:
            launch = partial(_launch, place, values.config, as_of)
            return launch_on_dataflow(values, rest, "a refresh", LOCAL, launch)
        rest = [f"--runner={values.runner}", *rest]
    if rest:
        from pipelines.runners.in_process import beam_options

        rest = beam_options(rest)
    elif not place.dataset:
        from pipelines.runners.beam_import import import_local_beam

        import_local_beam()
    outbox = None if values.outbox is None else Path(values.outbox)
    asked = Asked(place, values.config, outbox, bool(values.force), rest)
    if pause is None:
        return _refresh(asked, as_of)
    _follow(asked, pause)


def _launch(place: Place, config: str | None, as_of: datetime | None, beam_options: list[str]):
    from pipelines.dataflow.refresh import launch

    return launch(place, config, as_of, beam_options)


class Asked(NamedTuple):
    """What each refresh of a command is asked for."""

    place: Place
    config: str | None
    outbox: Path | None
    force: bool
    beam_options: Sequence[str]


def _follow(asked: Asked, pause: timedelta) -> None:
    """Refresh until interrupted. Errors: those of a warehouse or a configuration that cannot be read now."""
    from pipelines.settings.config import read_config
    from pipelines.warehouse.open import open_warehouse

    with open_warehouse(*asked.place):
        _refuse_outbox(asked.place, read_config(asked.config), asked.outbox)
    is_first = True
    while True:
        try:
            _refresh(asked, None, Follows(is_first))
        except Exception as problem:  # such as another refresh, or no closed bucket yet: the next one may do
            name = "" if isinstance(problem, AudienceError) else f"{type(problem).__name__}: "
            say(shown(f"not refreshed: {name}{first_line(problem)}"))
        is_first = False
        time.sleep(pause.total_seconds())


class Follows(NamedTuple):
    """How a refresh that follows another one differs from one alone: it says less, and nothing where nothing changed
    since; and beside a run that writes it keeps no views, which the next commit would put out of date."""

    is_first: bool


def _refresh(asked: Asked, as_of: datetime | None, follows: Follows | None = None) -> None:
    from pipelines.insight.refresh import refresh
    from pipelines.settings.config import read_config

    place = asked.place
    views = _keep_views(place, follows)
    configuration = read_config(asked.config)
    if asked.force:
        configuration = _forced(configuration)
    _refuse_outbox(place, configuration, asked.outbox)  # before anything is computed
    done = refresh(place, configuration, as_of, beam_options=asked.beam_options)
    _say_refreshed(views, done, follows)
    if follows is None or any(each.is_new for each in done.answers):
        for line in model_lines(place):
            say(shown(line))
    if configuration.alerts.rules:
        from pipelines.insight.alerts.run import alert

        alerted = alert(place, configuration.alerts, done.as_of, done.stated, asked.outbox)
        for line in alert_lines(alerted.changed, alerted.sent, alerted.problems):
            say(shown(line))


def _forced(configuration: "Configuration") -> "Configuration":
    from msgspec.structs import replace

    insight = configuration.insight
    return configuration._replace(insight=replace(insight, predictions=replace(insight.predictions, force=True)))


def model_lines(place: Place) -> list[str]:
    """What is wrong with the models of the newest refresh, a line each."""
    import polars as pl

    from pipelines.insight.prediction_tables import PREDICTION_MODELS
    from pipelines.warehouse.answers import LATEST
    from pipelines.warehouse.open import open_warehouse

    models = PREDICTION_MODELS.name
    listed = "target, is_used, problem"
    with open_warehouse(*place) as warehouse:
        if models not in warehouse.tables():
            return []
        asked = f"SELECT {listed} FROM {models}{LATEST} WHERE problem IS NOT NULL ORDER BY target"
        found = pl.concat(warehouse.ask(asked))
    ends = {True: "used all the same", False: "not used without --force"}
    rows = zip(*(found[name].to_list() for name in ("target", "problem", "is_used")), strict=True)
    return [f"{target}: {problem}; {ends[is_used]}" for target, problem, is_used in rows]


def _refuse_outbox(place: Place, configuration: "Configuration", outbox: Path | None) -> None:
    if configuration.alerts.rules:
        from pipelines.insight.alerts.run import outbox_of

        outbox_of(place, configuration.alerts, outbox)


def _keep_views(place: Place, follows: Follows | None) -> list:
    if place.warehouse is None:
        return []
    from pipelines.system.disk import lock_holder
    from pipelines.warehouse.local.kept_views import keep_days
    from pipelines.warehouse.local.kept_views import refresh as refresh_views
    from pipelines.warehouse.local.warehouse import LocalWarehouse

    warehouse = LocalWarehouse.open(place.warehouse)
    if follows and lock_holder(warehouse.folder):
        keep_days(warehouse, OPEN_DAYS)
        return []
    return refresh_views(warehouse)


def alert_lines(changed: dict[str, int], sent: list[str], problems: list[str]) -> list[str]:
    """What alerts did, a line for a person each; none where nothing changed."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(changed.items()))
    lines = [f"alerts: {states or 'as before'}; {len(sent)} messages sent"] if changed or sent else []
    return [*lines, *(f"alerts: {problem}" for problem in problems)]


def _say_refreshed(views, done, follows: Follows | None) -> None:
    made = [(each.view, each.rows, each.is_new) for each in views]
    made += [(each.table, each.rows, each.is_new) for each in done.answers]
    new = sum(is_new for _, _, is_new in made)
    if not new and follows and not follows.is_first:
        return
    why = "" if done.stated else ", the end of the newest closed bucket"
    as_of = f"as of {done.as_of:%Y-%m-%d %H:%M:%S} UTC"
    if follows and not follows.is_first:
        return say(f"{as_of}: {new} answers written, {len(made) - new} as before")
    say(f"{as_of}{why}")
    if not new:
        say(f"nothing has changed: {len(made)} answers are kept already")
    for name, rows, is_new in made:
        say(f"{name:<22} {rows:>9,} rows {'written' if is_new else 'as before'}")


COMMAND = Command(
    add_options,
    run,
    "Bring what is computed of all of history up to date: answers as of a time, and kept views.",
    "audience refresh --warehouse warehouse",
    takes_beam_options=True,
)
