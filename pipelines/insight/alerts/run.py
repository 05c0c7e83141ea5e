"""Alerts after a refresh: evaluate the rules, commit what changed, then send it.

The rows are committed before a message is written, and a message before it is sent. So whatever a kill cuts short, the
next refresh does the rest: it writes the messages of all rows of the last day that the outbox does not have.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.insight.alerts.changes import changes, mute_row, open_alerts
from pipelines.insight.alerts.channels import sender
from pipelines.insight.alerts.findings import At, find, reads
from pipelines.insight.alerts.outbox import Message, NotNow, Outbox, Refused
from pipelines.insight.alerts.table import ALERTS, MUTED
from pipelines.insight.place import answers_of
from pipelines.settings.alerts import Alerts
from pipelines.settings.resolve import Place
from pipelines.warehouse.interface import Warehouse, WarehouseRun
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.staged import write_file
from pipelines.warehouse.tables import polars_schema
from transforms.errors import OptionError, WarehouseError, first_line

FOLDER = "alerts"  # of the outbox, in a local warehouse
SENDS = timedelta(days=1)  # before the newest row: what a new outbox still sends
PATIENCE, LOOK_SECONDS = 120.0, 0.2


class Alerted(NamedTuple):
    """What was done: rows that are new by state, ids that were sent, and a line for each thing that could not be."""

    changed: dict[str, int]
    sent: list[str]
    problems: list[str]


def alert(place: Place, alerts: Alerts, as_of: datetime, stated: bool, outbox: Path | None) -> Alerted:
    """Evaluate the rules as of a time, and send what changed. Errors: WarehouseError, OptionError.

    stated  the time was asked for: it stands for the clock, too
    outbox  folder of the messages; None: that in the local warehouse
    """
    box = outbox_of(place, alerts, outbox)
    now = as_of if stated else datetime.now(UTC)
    with open_warehouse(*place) as warehouse, answers_of(warehouse) as answers:
        _refuse_taken(warehouse)
        with _writer(answers) as run:
            log = log_of(answers)
            there = {*warehouse.tables(), *warehouse.view_texts()}
            at = At(as_of, now, warehouse.time_zone)
            with warehouse.asking() as ask:
                findings, evaluated = find(ask, alerts.rules, there, at)
            new = changes(findings, log, alerts.rules, evaluated, as_of, now)
            _append(run, new, answers.time_zone)
    problems = [
        f"rule {rule.name} waits: {reads(rule)} does not exist yet"
        for rule in alerts.rules
        if rule.name not in evaluated
    ]
    counts = new["state"].value_counts(sort=True)
    changed = dict(zip(counts["state"].to_list(), counts["count"].to_list(), strict=True))
    if box is None:
        return Alerted(changed, [], problems)
    with box.held():
        box.add(messages(pl.concat([log, new]), alerts))
        done = box.deliver({name: sender(channel) for name, channel in alerts.channels.items()})
    return Alerted(changed, done.sent, [*problems, *done.problems])


def outbox_of(place: Place, alerts: Alerts, folder: Path | None) -> Outbox | None:
    """The outbox; None where no rule sends anything. Errors: OptionError for a dataset without --outbox."""
    if not any(rule.send for rule in alerts.rules):
        return None
    if folder is None and place.warehouse is None:
        raise OptionError("--outbox is missing: with --dataset, name a folder of this machine for alerts to be sent")
    return Outbox(folder or Path(str(place.warehouse)) / FOLDER)


def messages(log: pl.DataFrame, alerts: Alerts) -> list[Message]:
    """The messages of the rows that are to be sent, for each channel of their rule, in order of time."""
    rows = log.filter(pl.col("state") != MUTED)
    newest = rows["evaluated_time"].max()
    if not isinstance(newest, datetime):
        return []
    rows = rows.filter((pl.col("evaluated_time") > newest - SENDS) & ~pl.col("is_muted"))
    send = {rule.name: rule.send for rule in alerts.rules}
    told = rows.sort("evaluated_time", "alert_id", "state").select(
        "evaluated_time", "alert_id", "state", "rule", "kind", "subject", "opened_time", "value", "threshold", "text"
    )
    columns = {name: told[name].to_list() for name in told.columns}
    found = [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    return [_message(row, channel) for row in found for channel in send.get(row["rule"], ())]


def _message(row: dict, channel: str) -> Message:
    id = f"alert_{row['alert_id']}_{row['state']}"
    body = {"type": f"alert.{row['state']}", "timestamp": row["evaluated_time"], "data": row}
    title = f"[{row['state']}] {row['rule']}: {row['subject']}".translate({10: " ", 13: " "})[:200]
    order = f"{row['evaluated_time']:%Y%m%dT%H%M%S}"
    return Message(id, channel, order, time.time(), title, row["text"], msgspec.json.encode(body).decode())


def send_test(alerts: Alerts, rule: str | None) -> list[tuple[str, str]]:
    """Send a test message over the channels of a rule, None: over all; (channel, what went wrong or nothing)."""
    if rule is not None:
        known = {each.name: each for each in alerts.rules}
        names: Sequence[str] = known[_named(alerts, rule)].send
    else:
        names = list(alerts.channels)
    if not names:
        raise OptionError("--test: no channel to send to; add one to `channels` of `alerts`, and to `send` of the rule")
    id, now = f"test_{uuid.uuid4().hex}", datetime.now(UTC)
    text = "This is a test of the channel. Nothing is wrong."
    body = msgspec.json.encode({"type": "alert.test", "timestamp": now, "data": {"rule": rule, "text": text}}).decode()
    told = []
    for name in names:
        try:
            sender(alerts.channels[name], 0)(Message(id, name, "test", time.time(), "[test] audience", text, body))
            told.append((name, ""))
        except (Refused, NotNow) as problem:
            told.append((name, first_line(problem)))
    return told


def mute(place: Place, alerts: Alerts, rule: str, until: datetime) -> None:
    """Send nothing of a rule until a time. Errors: OptionError, WarehouseError."""
    kinds = {each.name: str(type(each).__struct_config__.tag) for each in alerts.rules}
    row = mute_row(_named(alerts, rule, "mute"), kinds[rule], until.astimezone(UTC), datetime.now(UTC))
    with open_warehouse(*place) as warehouse, answers_of(warehouse) as answers, _writer(answers) as run:
        _refuse_taken(warehouse)
        _append(run, row, answers.time_zone)


def opened(place: Place) -> pl.DataFrame:
    """The newest row of each open alert, by rule and subject."""
    with open_warehouse(*place) as warehouse:
        return open_alerts(log_of(warehouse)).sort("rule", "subject")


def log_of(warehouse: Warehouse) -> pl.DataFrame:
    """All rows of `alerts`."""
    schema = polars_schema(ALERTS)
    if ALERTS.name not in warehouse.tables():
        return pl.DataFrame(schema=schema)
    return warehouse.scan(ALERTS.name).collect().select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _named(alerts: Alerts, rule: str, option: str = "rule") -> str:
    names = [each.name for each in alerts.rules]
    if rule not in names:
        allowed = ", ".join(names) or "none, as the configuration has no rules; give one with --config"
        raise OptionError(f"--{option}: got {rule!r}; allowed: a name of a rule: {allowed}")
    return rule


def _append(run: WarehouseRun, rows: pl.DataFrame, zone: str) -> None:
    if rows.is_empty():
        return
    run.declare([ALERTS])
    parts = by_day(rows, ALERTS.partition, zone)
    run.commit([write_file(run.folder, ALERTS.name, day, part) for day, part in parts])


def _refuse_taken(warehouse: Warehouse) -> None:
    there = warehouse.tables().get(ALERTS.name)
    if there is not None and ALERTS.partition not in {column.name for column in there.columns}:
        raise WarehouseError("table alerts: a metric has this name, which is that of alerts; give it another name")


@contextmanager
def _writer(answers: Warehouse) -> Iterator[WarehouseRun]:
    """The run that writes the answers, once a refresh that runs has ended. Errors: WarehouseError after PATIENCE."""
    until = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while (run := _entered(stack, answers, until)) is None:
            time.sleep(LOOK_SECONDS)
        yield run


def _entered(stack: ExitStack, answers: Warehouse, until: float) -> WarehouseRun | None:
    try:
        return stack.enter_context(answers.writer(of_answers=True))
    except WarehouseError:
        if time.monotonic() > until:
            raise
        return None
