"""Settle: a block that is judged at once becomes what its records become rule by rule."""

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks.capacity import START, raw_block
from pipelines.apps.simulator.faults import PRESETS
from pipelines.apps.simulator.live import Live
from transforms import settle
from transforms.block import tag_input
from transforms.lateness import Lateness
from transforms.parse import parse
from transforms.settle import Rules, judge
from transforms.validate import Validator

BOTS = ({"event_type": "page_view"},)
LATENESS = {"in time": Lateness(timedelta(days=1)), "a minute": Lateness(timedelta(minutes=1)), "any": Lateness(None)}


@pytest.mark.parametrize("faults", ["none", "usual"])
@pytest.mark.parametrize("bots", [(), BOTS], ids=["no bots", "bots"])
@pytest.mark.parametrize("lateness", LATENESS)
def test_a_block_judged_at_once_is_as_judged_rule_by_rule(monkeypatch, faults, bots, lateness):
    rules = Rules((), "f", Validator(bots=bots), LATENESS[lateness])
    live, slow, flagged, late = Live(1_200, 3, PRESETS[faults]), [], 0, 0
    one_by_one = settle._judge_each
    monkeypatch.setattr(settle, "_judge_each", lambda *given: slow.append(1) or one_by_one(*given))
    for first in range(0, 1_200, 100):
        raw = raw_block(live.lines(first, 100, START + first), START + first)
        parsed = parse(tag_input(raw, "f"), None, "events").passed
        at_once, expected = judge(parsed, rules), one_by_one(parsed, rules)
        assert at_once.events.equals(expected.events, null_equal=True)
        assert [each.to_dicts() for each in at_once.rejected] == [each.to_dicts() for each in expected.rejected]
        flagged += at_once.events["is_bot"].sum()
        late += sum(each.filter(pl.col("stage") == "late").height for each in at_once.rejected)
    assert not slow if faults == "none" else 0 < len(slow) < 12  # both ways were taken
    assert (flagged > 100) == bool(bots)
    assert (late > 0) == (lateness == "a minute")


@pytest.mark.parametrize("faults", ["none", "usual", "many"])
@pytest.mark.parametrize("bots", [(), BOTS], ids=["no bots", "bots"])
@pytest.mark.parametrize("lateness", LATENESS)
def test_what_is_judged_apart_in_a_large_block_is_as_judged_rule_by_rule(faults, bots, lateness):
    rules = Rules((), "f", Validator(bots=bots), LATENESS[lateness], bounded=True)
    lines = Live(3_000, 3, PRESETS[faults]).lines(0, 3_000, START)
    parsed = parse(tag_input(raw_block(lines, START), "f"), None, "events").passed
    assert len(parsed) >= settle.MANY_ROWS
    apart, expected = judge(parsed, rules), settle._judge_each(parsed, rules)
    assert_frame_equal(apart.events, expected.events, check_row_order=False)
    for one, other in zip(*(rejected_of(judged) for judged in (apart, expected)), strict=True):
        assert one == other


def rejected_of(judged: settle.Judged) -> list[dict]:
    rows = [row for block in judged.rejected for row in block.to_dicts()]
    return sorted(rows, key=lambda row: row["position"])


def test_rejected_records_and_few_events_hold_no_texts_of_a_large_block():
    lines = [line for _, line in Live(6_000, 3, PRESETS["none"]).lines(0, 6_000, START)]
    torn = [line[:-9] if at % 60 == 7 else line for at, line in enumerate(lines)]
    unnamed = [line if at % 60 == 7 else line.replace(b'_type":"', b'_type":"No ', 1) for at, line in enumerate(lines)]
    step = settle._Settle(Rules((), "f", Validator(), Lateness(None)))
    for lines, few in ((torn, "rejected"), (unnamed, "events")):
        outputs = list(step.process(raw_block([(None, line) for line in lines], START)))
        rejected = [each.value for each in outputs if getattr(each, "tag", None) == "rejected"]
        events = [each for each in outputs if isinstance(each, pl.DataFrame)]
        (rows,) = {"rejected": rejected, "events": events}[few]
        assert len(rows) == 100, few
        assert text_bytes(rows) < 60_000, few  # of more than a million


def text_bytes(block: pl.DataFrame) -> int:
    """The bytes of the texts that its columns hold in memory, those of other rows included."""
    arrays = [column.to_arrow(compat_level=pl.CompatLevel.newest()) for column in block]
    return sum(buffer.size for array in arrays for buffer in array.buffers() if buffer)
