"""`audience alert`: open alerts, a test message, and a mute."""

from datetime import UTC, datetime

from pipelines.commands import Command, add_form
from pipelines.settings.arguments import add_all
from pipelines.settings.resolve import place_of
from pipelines.system.terminal import put, say, shown
from transforms.errors import OptionError

TIME_IN_WORDS = "a time with its zone, such as 2026-03-01T10:00:00Z"
LISTED = "rule, subject, opened_time, evaluated_time, value, threshold, is_muted, text"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument(
        "--test", action="store_true", help="Send a test message over the channels of the configuration"
    )
    parser.add_argument("--rule", metavar="NAME", help="With --test: over the channels of this rule (default: all)")
    parser.add_argument(
        "--mute", metavar="NAME", help="Send nothing of this rule until --until; a time that is over ends it"
    )
    parser.add_argument("--until", metavar="TIME", help="With --mute: until when, such as 2026-03-01T10:00:00Z")
    add_form(parser)


def run(values, rest) -> int | None:
    from pipelines.settings.config import read_config

    place, alerts = place_of(vars(values)), read_config(values.config).alerts
    _check(values)
    if values.test:
        from pipelines.insight.alerts.run import send_test

        told = send_test(alerts, values.rule)
        for name, problem in told:
            say(shown(f"channel {name}: {problem or 'sent'}"))
        return 1 if any(problem for _, problem in told) else 0
    if values.mute is not None:
        from pipelines.insight.alerts.run import mute
        from pipelines.settings.alerts import read_time

        until = read_time(values.until)
        if until is None:
            raise OptionError(f"--until: got {values.until!r}; allowed: {TIME_IN_WORDS}")
        mute(place, alerts, values.mute, until)
        say(f"{values.mute}: muted until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {_side(until)}")
        return None
    from pipelines.insight.alerts.run import opened
    from pipelines.warehouse.interface import Result
    from pipelines.warehouse.render import render

    rows = opened(place).select(LISTED.split(", "))
    put(render(Result(rows.columns, iter([rows])), values.form), values.form)
    return None


def _side(until: datetime) -> str:
    return "which is over: messages are sent" if until <= datetime.now(UTC) else "then what is still open is sent"


def _check(values) -> None:
    if values.rule is not None and not values.test:
        raise OptionError("--rule is only for --test; leave it out, or add --test")
    if (values.mute is None) != (values.until is None):
        missing = "--until" if values.until is None else "--mute"
        raise OptionError(f"{missing} is missing: a mute needs both --mute NAME and --until TIME")
    if values.test and values.mute is not None:
        raise OptionError("--test and --mute exclude each other: name one")


COMMAND = Command(
    add_options,
    run,
    "List open alerts, send a test message, or mute a rule.",
    "audience alert --test --config audience.yaml",
)
