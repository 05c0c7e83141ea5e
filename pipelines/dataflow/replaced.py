"""Update in parallel: a new job starts next to the running one, and no view shows less at any moment.

    1. A snapshot of the old job's subscription, and a new subscription that starts from it: from now on each job gets
       every message.
    2. What the old job had acknowledged by then is stored: its audit counts reconcile.
    3. The new job starts from restored state (restored.py), and its metric rows are held (bigquery/held.py).
    4. The new job has received as much as the old one, and both have run for a while.
    5. The old job is drained, and ends.
    6. The rows of the new job are shown, once no view shows less by that.

The steps of the two graphs need not match: no state passes between the jobs. If this is interrupted, or fails, the old
job goes on until step 5, and nothing of the new one is shown.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipelines.dataflow import deploy
from pipelines.dataflow.deploy import Runs, Target
from pipelines.warehouse.bigquery.due import add_due
from pipelines.warehouse.bigquery.held import find_smaller, release
from pipelines.warehouse.bigquery.restore import of_input
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.conditions import moment
from pipelines.warehouse.interface import Reader
from pipelines.warehouse.tables import QUALITY_1M
from transforms.errors import RunnerError

PATIENCE = timedelta(hours=3)  # for each of the things that are waited for
QUIET = timedelta(minutes=10)  # then a subscription without new messages counts as settled
_STAMP = re.compile(r"-\d{8}t\d{6}$")
_ENDED = {"JOB_STATE_DRAINED", "JOB_STATE_DONE", "JOB_STATE_CANCELLED", "JOB_STATE_FAILED", "JOB_STATE_UPDATED"}
# (key of a subscription, flag of gcloud) of what the new subscription has like the old one.
_COPIED = (
    ("ackDeadlineSeconds", "--ack-deadline"),
    ("messageRetentionDuration", "--message-retention-duration"),
    ("filter", "--message-filter"),
)
_COPIED_FLAGS = (("enableMessageOrdering", "--enable-message-ordering"),)


class Successor(NamedTuple):
    """The names of what an update in parallel makes."""

    job_name: str
    subscription: str  # projects/.../subscriptions/...
    snapshot: str


class Waiting(NamedTuple):
    """How long an update waits for something, and how often it looks; `parallel` is how long both jobs run at least."""

    parallel: timedelta
    every: float = 20.0
    limit: timedelta = PATIENCE
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def name_successor(target: Target, subscription: str, now: datetime) -> Successor:
    """Return names with the time of the update, in place of that of the last update."""
    stamp = f"{now:%Y%m%dt%H%M%S}"
    name = f"{_STAMP.sub('', subscription)}-{stamp}"
    return Successor(f"{_STAMP.sub('', target.job_name)}-{stamp}", name, name.rpartition("/")[2])


def open_subscription(old: str, to: Successor, found: dict[str, Any] | None) -> list[list[str]]:
    """Return the commands that give the new job every message that the old one has not acknowledged, and all that come.

    found    the description of the old subscription; None: it is not known yet, as in a dry run
    """
    project = f"--project={old.split('/')[1]}"
    topic = (found or {}).get("topic", "TOPIC")
    like = [f"{flag}={found[key]}" for key, flag in _COPIED if found and found.get(key)]
    like += [flag for key, flag in _COPIED_FLAGS if found and found.get(key)]
    if letters := (found or {}).get("deadLetterPolicy"):
        like.append(f"--dead-letter-topic={letters['deadLetterTopic']}")
        like.append(f"--max-delivery-attempts={letters.get('maxDeliveryAttempts', 5)}")
    return [
        ["gcloud", "pubsub", "snapshots", "create", to.snapshot, f"--subscription={old}", project],
        [
            *["gcloud", "pubsub", "subscriptions", "create", to.subscription],
            *[f"--topic={topic}", "--expiration-period=never", *like, project],
        ],
        ["gcloud", "pubsub", "subscriptions", "seek", to.subscription, f"--snapshot={to.snapshot}", project],
        ["gcloud", "pubsub", "snapshots", "delete", to.snapshot, "--quiet", project],
    ]


def describe_subscription(name: str) -> list[str]:
    """Describe a subscription, as JSON."""
    return ["gcloud", "pubsub", "subscriptions", "describe", name, "--format=json"]


def policy_of(name: str) -> list[str]:
    """Read who may use a subscription, as JSON."""
    return ["gcloud", "pubsub", "subscriptions", "get-iam-policy", name, "--format=json"]


def close_subscription(name: str) -> str:
    """Return the command that deletes a subscription, as a person types it."""
    return f"gcloud pubsub subscriptions delete {name}"


class Replacement:
    """One update in parallel.

    old, to      subscription of the old job; names of the new job's parts
    parameters   of the new job, without those that this adds
    """

    def __init__(
        self,
        target: Target,
        old: str,
        to: Successor,
        parameters: dict[str, str],
        warehouse: BigQueryWarehouse,
        run: Runs,
        say: Callable[[str], None],
        wait: Waiting,
    ):
        self.target, self.old, self.to, self.parameters = target, old, to, parameters
        self.warehouse, self.run, self.say, self.wait = warehouse, run, say, wait

    def replace_job(self, reach: timedelta) -> None:
        """Do all of it. `reach`: how long before the end of the old job a bucket may have begun that it closed early.

        Errors: RunnerError, with what has been done by then and what to do.
        """
        job = deploy.running(self.target, self.run)
        began = self._open_subscription()
        since = began.replace(second=0, microsecond=0) + timedelta(minutes=1)
        try:
            self._until(lambda: self._is_settled(since), "the old job has stored what it had acknowledged")
            self.say(f"starting job {self.to.job_name}, which reads {self.to.subscription}; its metric rows are held")
            self._start()
            started = self.wait.clock()
            self._until(
                lambda: self._has_caught_up(since) and self._for_long_enough(started), "the new job has caught up"
            )
        except RunnerError as problem:
            raise RunnerError(
                f"{problem}; job {self.target.job_name} goes on, and nothing of the new job is shown: cancel the new "
                f"job if it runs (`audience deploy cancel --job_name {self.to.job_name} ...`), and "
                f"`{close_subscription(self.to.subscription)}`"
            ) from problem
        self.say(f"draining job {self.target.job_name} {job}")
        self.run(deploy.end(self.target, "drain", job))
        end_job(self.target, job, self.run, self.wait)
        add_due(self.warehouse, datetime.fromtimestamp(self.wait.clock(), UTC), reach)
        self._until(lambda: not self._behind(since) and not find_smaller(self.warehouse), self._stuck())
        release(self.warehouse)
        self.say(
            f"updated: job {self.to.job_name} has replaced {self.target.job_name}, and its rows are shown; name both "
            f"new names from now on: --job_name {self.to.job_name} --input_subscription {self.to.subscription}; the "
            f"old subscription is not read any more: `{close_subscription(self.old)}`"
        )

    def _open_subscription(self) -> datetime:
        found = json.loads(self.run(describe_subscription(self.old)))
        bindings = self._who_may_use_the_old_one()
        snapshot, create, seek, delete = open_subscription(self.old, self.to, found)
        self.run(snapshot)
        began = datetime.fromtimestamp(self.wait.clock(), UTC)
        self.run(create)
        if bindings:
            self._allow(bindings)
        self.run(seek)
        self.run(delete)
        return began

    def _who_may_use_the_old_one(self) -> list[dict]:
        try:
            return json.loads(self.run(policy_of(self.old)) or "{}").get("bindings", [])
        except RunnerError as problem:
            self.say(
                f"{problem}; unless it has it in the whole project, grant the workers' account roles/pubsub.subscriber "
                f"on {self.to.subscription}"
            )
            return []

    def _allow(self, bindings: list[dict]) -> None:
        """Let whoever may use the old subscription use the new one."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"bindings": bindings}, file)
            file.flush()
            words = ["gcloud", "pubsub", "subscriptions", "set-iam-policy", self.to.subscription, str(Path(file.name))]
            self.run([*words, "--format=json"])

    def _start(self) -> None:
        given = self.parameters | {"input_subscription": self.to.subscription, "held": "true"}
        self.run(deploy.start(self.target._replace(job_name=self.to.job_name), given))

    def _is_settled(self, since: datetime) -> bool:
        count, last = _unsettled(self.warehouse, self.old, since)
        waited = self.wait.clock() - since.timestamp()
        return not count and ((last is not None and last >= since) or waited >= QUIET.total_seconds())

    def _has_caught_up(self, since: datetime) -> bool:
        deploy.running(self.target._replace(job_name=self.to.job_name), self.run)
        return not self._behind(since)

    def _behind(self, since: datetime) -> int:
        return minutes_behind(self.warehouse, self.old, self.to.subscription, since)

    def _for_long_enough(self, started: float) -> bool:
        return self.wait.clock() - started >= self.wait.parallel.total_seconds()

    def _stuck(self) -> str:
        return (
            "the new job has all that the old one had; the old one has ended, its rows are shown, and those of the new "
            f"one are not: `audience deploy release --dataset {self.warehouse.name}` shows them"
        )

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        wait_until(holds, what, self.wait)


def end_job(target: Target, job: str, run: Runs, wait: Waiting) -> None:
    """Wait until a job that was drained has ended. Errors: RunnerError."""
    wait_until(lambda: json.loads(run(state_of(target, job)))["currentState"] in _ENDED, "the old job has ended", wait)


def state_of(target: Target, job: str) -> list[str]:
    """Describe a job in short, as JSON."""
    return ["gcloud", "dataflow", "jobs", "describe", job, "--format=json", *target.place]


def wait_until(holds: Callable[[], bool], what: str, wait: Waiting) -> None:
    """Wait until something holds. Errors: RunnerError after the limit."""
    until = wait.clock() + wait.limit.total_seconds()
    while not holds():
        if wait.clock() >= until:
            raise RunnerError(f"waited {wait.limit} in vain until {what}")
        wait.sleep(wait.every)


def minutes_behind(warehouse: Reader, old: str, new: str, since: datetime) -> int:
    """Return for how many minutes, from `since` on, the input `new` has received fewer records than `old` has kept.

    What the old stream received again as a repeat is left out, since a queue may deliver a message to one of two
    subscriptions twice.
    """
    of_old = f"IF({of_input(old)}, `received` - `duplicates`, 0)"
    of_new = f"IF({of_input(new)}, `received`, 0)"
    sql = (
        f"SELECT COUNTIF(is_behind) AS n FROM (SELECT SUM({of_new}) < SUM({of_old}) AS is_behind "
        f"FROM `{QUALITY_1M.name}_current` WHERE ({of_input(old)} OR {of_input(new)}) "
        f"AND `bucket_start` >= {moment(since)} GROUP BY `source`, `bucket_start`)"
    )
    return pl.concat(warehouse.ask(sql)).item() or 0


def _unsettled(warehouse: Reader, input: str, before: datetime) -> tuple[int, datetime | None]:
    """Return how many minutes before a time do not reconcile, and the last minute that the input has counted."""
    sql = (
        f"SELECT COUNTIF(`balance` <> 0 AND `bucket_start` < {moment(before)}) AS n, MAX(`bucket_start`) AS last "
        f"FROM `{QUALITY_1M.name}_current` WHERE {of_input(input)}"
    )
    found: Sequence[Any] = pl.concat(warehouse.ask(sql)).row(0)
    return found[0] or 0, found[1]
