"""What a stream into a folder keeps: records of a stream before it, and what a runner cannot read again."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines.batch.days import opened
from pipelines.cli import main
from pipelines.runners.choose import LEGACY
from pipelines.settings.resolve import resolve
from pipelines.sources.landing import LANDING, Again
from pipelines.streaming.recovery.local import KeptLocally
from pipelines.streaming.stream import _mended
from pipelines.warehouse.tables import QUALITY_1M
from tests.support.previous_stream import book, land, write

OLD, NEW = "projects/demo-project/subscriptions/old", "projects/demo-project/subscriptions/new"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.mark.parametrize(("received", "waiting"), [(2, 0), (1, 2)])
def test_what_another_subscription_landed_is_done_once_its_own_books_have_it(received, waiting, tmp_path):
    warehouse = tmp_path / "warehouse"
    settings = resolve({"input_subscription": NEW, "warehouse": str(warehouse)}, "run")
    with opened(settings, create=True, streaming=True) as into:
        other = land(warehouse / LANDING, OLD, NOON, 2)
        write(into, QUALITY_1M, book(NOON, other, received=received, events=received))
        with KeptLocally(into, NEW) as kept:
            assert kept.waiting == waiting
            assert len(kept.again()) == (waiting > 0)
            kept.retire(None)
            assert len(kept.landing.files()) == (waiting > 0)
            kept.stop()


def test_a_runner_that_cannot_read_them_again_takes_out_nothing(queue, tmp_path, capsys):
    warehouse = tmp_path / "warehouse"
    with opened(resolve({"input_subscription": NEW, "warehouse": str(warehouse)}, "run"), create=True, streaming=True):
        pass
    land(warehouse / LANDING, OLD, NOON, 2)
    words = ["run", f"--runner={LEGACY}", "--input_subscription", queue.subscription, "--warehouse", str(warehouse)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"records of a run before wait in {warehouse / LANDING}, and {LEGACY} does not read them again" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("days", "told"), [(1, False), (6, True)])
def test_records_that_may_be_too_late_to_read_again_are_told_with_the_recompute_that_takes_them_in(days, told):
    day = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=days)
    kept, again = SimpleNamespace(waiting=2, events=0), [Again("f", (int(day.timestamp()) * 1_000_000,))]
    said = _mended(kept, again, resolve({"input_subscription": NEW}, "run"))
    assert "2 records landed and are not in the books: they are read again" in said
    recompute = f"`audience recompute --start {day.date()} --end {day.date() + timedelta(days=1)}` takes them in"
    assert (recompute in said) == told
