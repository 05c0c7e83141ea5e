"""What a stream into a folder keeps: records of a stream before it, and what a runner cannot read again."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines.assemble import open_run
from pipelines.cli import main
from pipelines.runners.choose import LEGACY, RUNNERS
from pipelines.settings.resolve import resolve
from pipelines.sources.landing import LANDING, Again
from pipelines.streaming.recovery.local import LocalRecovery
from pipelines.streaming.stream import _describe, recovery_of
from pipelines.warehouse.tables import EVENTS, QUALITY_1M
from tests.support.previous_stream import book, land, write

OLD, NEW = "projects/demo-project/subscriptions/old", "projects/demo-project/subscriptions/new"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.mark.parametrize(("received", "waiting"), [(2, 0), (1, 2)])
def test_what_another_subscription_landed_is_done_once_its_own_books_have_it(received, waiting, tmp_path):
    warehouse = tmp_path / "warehouse"
    settings = resolve({"input_subscription": NEW, "warehouse": str(warehouse)}, "run")
    with open_run(settings, create=True, streaming=True) as into:
        other = land(warehouse / LANDING, OLD, NOON, 2)
        write(into, QUALITY_1M, book(NOON, other, received=received, events=received))
        with LocalRecovery(into, settings, NEW).open() as kept:
            assert kept.waiting == waiting
            assert len(kept.again()) == (waiting > 0)
            kept.retire(None)
            assert len(kept.landing.files()) == (waiting > 0)
            kept.stop()


@pytest.mark.parametrize(("rebuilds", "events"), [(True, 1), (False, 0)])
def test_state_is_rebuilt_only_where_the_runner_loses_it(rebuilds, events, tmp_path):
    settings = resolve({"input_subscription": NEW, "warehouse": str(tmp_path / "warehouse")}, "run")
    stored = {"event_id": "1", "event_type": "click", "source": "web", "input": NEW}
    with open_run(settings, create=True, streaming=True) as into:
        write(into, EVENTS, stored | dict.fromkeys(("event_time", "received_time", "client_time"), NOON))
    with (
        open_run(settings, streaming=True) as into,
        LocalRecovery(into, settings, NEW, rebuilds).open() as recovery,
    ):
        assert (recovery.events, recovery.seeds is not None) == (events, rebuilds)
        recovery.stop()


def test_the_kind_of_the_warehouse_and_the_state_of_the_runner_choose_the_recovery(tmp_path):
    settings = resolve({"input_subscription": NEW, "warehouse": str(tmp_path / "warehouse")}, "run")
    with open_run(settings, create=True, streaming=True) as into:
        for runner in RUNNERS.values():
            recovery = recovery_of(into, settings, NEW, runner)
            assert isinstance(recovery, LocalRecovery)
            assert recovery.rebuilds is not runner.state_is_durable


def test_a_runner_that_cannot_read_them_again_takes_out_nothing(queue, tmp_path, capsys):
    warehouse = tmp_path / "warehouse"
    with open_run(
        resolve({"input_subscription": NEW, "warehouse": str(warehouse)}, "run"), create=True, streaming=True
    ):
        pass
    land(warehouse / LANDING, OLD, NOON, 2)
    words = ["run", f"--runner={LEGACY}", "--input_subscription", queue.subscription, "--warehouse", str(warehouse)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"records of a previous run wait in {warehouse / LANDING}, and {LEGACY} does not read them again" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("days", "told"), [(1, False), (6, True)])
def test_records_that_may_be_too_late_to_read_again_are_told_with_the_recompute_that_takes_them_in(days, told):
    day = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=days)
    kept, again = SimpleNamespace(waiting=2, events=0), [Again("f", (int(day.timestamp()) * 1_000_000,))]
    said = _describe(kept, again, resolve({"input_subscription": NEW}, "run"))
    assert "2 landed records are not reconciled yet: they are read again" in said
    recompute = f"`audience recompute --start {day.date()} --end {day.date() + timedelta(days=1)}` takes them in"
    assert (recompute in said) == told
