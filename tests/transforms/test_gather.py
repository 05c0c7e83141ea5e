"""Gather: small blocks as large ones; no row is lost, held too long, or later than the watermark."""

from datetime import timedelta

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.runners.choose import PRISM_WORK_ROUND, prism_at
from tests.support.raw_block import NOON, block
from transforms import gather
from transforms.block import LARGE_ROWS, RAW_SCHEMA, BlockCoder
from transforms.gather import MOST_BYTES, MOST_SHARDS, GatherBlocks

START = NOON.timestamp()
DELAY = timedelta(seconds=2)


def stamped(made: pl.DataFrame) -> TimestampedValue:
    """A block as a reader hands it on."""
    return TimestampedValue(made, made["received_time"].min().timestamp())


def stream() -> TestStream:
    return TestStream(coder=BlockCoder())


Emitted = tuple[list[int], float]  # the positions of a block in order, and its timestamp in seconds after noon
emitted: list[Emitted] = []


def note(made, at=beam.DoFn.TimestampParam) -> None:
    """Note a block that is emitted."""
    assert made.schema == RAW_SCHEMA
    assert made.n_chunks() == 1  # else each step behind would walk through the bundles again
    emitted.append((sorted(map(int, made["position"])), float(at) - START))


def run(source: TestStream, shards: int = 1) -> list[Emitted]:
    """Run the step over a stream by the test's clock, which begins at 0; what it emits, in order."""
    emitted.clear()
    with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as pipeline:
        blocks = pipeline | source.with_output_types(pl.DataFrame)
        _ = blocks | GatherBlocks(shards=shards, delay=DELAY, clock=float) | beam.Map(note)
    return list(emitted)


cuts = st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=8), max_size=8)


@settings(max_examples=15)
@given(cuts, st.integers(1, 3), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_rows_in_are_rows_out_wherever_blocks_are_cut_and_clocks_move(parts, shards, waits):
    source = stream()
    for part, wait in zip(parts, waits, strict=False):
        source = source.add_elements([stamped(block(*part))])
        if wait:
            source = source.advance_processing_time(wait)
    made = run(source.advance_watermark_to_infinity(), shards)
    assert sorted(row for rows, _ in made for row in rows) == sorted(row for part in parts for row in part)
    assert [at for _, at in made] == [rows[0] for rows, _ in made]  # each at the earliest time of its rows


def test_blocks_wait_for_others_until_the_delay_and_an_idle_shard_does_not_keep_them():
    source = stream().add_elements([stamped(block(3, 4))]).advance_processing_time(1)
    source = source.add_elements([stamped(block(1)), stamped(block(2))]).advance_processing_time(1)
    source = source.add_elements([stamped(block(5))]).advance_processing_time(2)
    assert run(source.advance_watermark_to_infinity()) == [([1, 2, 3, 4], 1.0), ([5], 5.0)]


def test_a_drain_emits_what_is_held():
    source = stream().add_elements([stamped(block(2)), stamped(block(1))])
    assert run(source.advance_watermark_to_infinity()) == [([1, 2], 1.0)]


def test_a_full_shard_does_not_wait():
    half = list(range(LARGE_ROWS // 2))
    source = stream().add_elements([stamped(block(*half))]).add_elements([stamped(block(*half))])
    source = source.add_elements([stamped(block(7))]).advance_processing_time(1).advance_watermark_to_infinity()
    assert run(source) == [(sorted([*half, *half]), 0.0), ([7], 7.0)]


def test_bytes_fill_a_shard_as_rows_do():
    heavy = block(1).with_columns(payload=pl.lit(b"x" * (MOST_BYTES // 2)))
    source = stream().add_elements([stamped(heavy)]).add_elements([stamped(heavy)]).add_elements([stamped(block(2))])
    assert run(source.advance_watermark_to_infinity()) == [([1, 1], 1.0), ([2], 2.0)]


def test_a_large_block_passes_as_it_is_and_an_empty_one_is_dropped():
    split, large = gather._Split(4), block(*range(LARGE_ROWS))
    assert [made is large for made in split.process(large)] == [True]
    assert list(split.process(large.clear())) == []
    [small] = split.process(large[:-1])
    assert small.tag == "small"


def test_a_bundle_that_is_repeated_goes_to_the_same_shard_and_others_are_spread():
    shards = [next(gather._Split(4).process(block(n))).value[0] for n in range(64)]
    assert shards == [next(gather._Split(4).process(block(n))).value[0] for n in range(64)]
    assert set(shards) == {0, 1, 2, 3}


def test_shards_are_few_however_many_the_run_has():
    assert GatherBlocks(shards=64, delay=DELAY).shards == MOST_SHARDS
    assert GatherBlocks(shards=2, delay=DELAY).shards == 2


def note_window(gathered, window=beam.DoFn.WindowParam) -> None:
    """Note the rows of a window of Beam's own, and its start in seconds after noon."""
    rows = sorted(int(row) for made in gathered[1] for row in made["position"])
    emitted.append((rows, float(window.start) - START))


def gather_by_window(blocks):
    """Gather blocks, and group them by windows of 30 seconds, which drop what is late."""
    gathered = blocks | GatherBlocks(shards=1, delay=DELAY)
    keyed = gathered | beam.Map(lambda made: (0, made)).with_output_types(tuple[int, pl.DataFrame])
    return keyed | beam.WindowInto(FixedWindows(30)) | beam.GroupByKey() | beam.Map(note_window)


def test_the_watermark_waits_for_what_is_held_at_its_earliest_time(prism, tmp_path):
    """In the last step a window of 30 seconds would have ended, and dropped the block, were the watermark not held."""
    source = stream().advance_watermark_to(START).add_elements([stamped(block(50))])
    source = source.advance_watermark_to(START + 5).add_elements([stamped(block(10, 55))])
    source = source.advance_watermark_to(START + 8).add_elements([stamped(block(58))])
    source = source.advance_watermark_to(START + 600).advance_processing_time(DELAY.total_seconds())
    source = source.add_elements([stamped(block(610))]).advance_watermark_to_infinity()
    emitted.clear()
    with prism_at(prism, tmp_path / "prism.log") as (endpoint, _):
        words = ["--runner=PrismRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", "--streaming"]
        with beam.Pipeline(options=PipelineOptions([*words, PRISM_WORK_ROUND])) as pipeline:
            gather_by_window(pipeline | source.with_output_types(pl.DataFrame))
    assert sorted(emitted) == [([10, 50, 55, 58], 0.0), ([610], 600.0)]
