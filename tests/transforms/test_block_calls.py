"""What a block costs before its rows do is counted: it decides what a stream of small blocks takes."""

from functools import cache

import polars as pl

from benchmarks.block_calls import BlockCalls, _Watch, count_block
from transforms.block import BlockCoder, empty, held_bytes

# These only go down: a change that makes a block cheaper lowers them.
MOST_CALLS, MOST_ENCODINGS = 50, 3


@cache
def counted() -> BlockCalls:
    return count_block()


def test_a_block_takes_few_calls_of_polars_through_the_whole_graph():
    listed = {part: dict(names) for part, names in counted().parts.items() if names}
    assert counted().calls <= MOST_CALLS, listed


def test_a_block_is_encoded_few_times():
    assert counted().encodings <= MOST_ENCODINGS


def test_the_count_reaches_from_the_reader_to_the_state_and_the_staged_files():
    parts = counted().parts
    assert parts["deduplicate: code"] == {"DataFrame.write_ipc_stream": 1, "read_ipc_stream": 1}
    assert parts["Write events/Write files"]["DataFrame.write_parquet"] == 1
    assert {"activity_1m: process", "sessions: process", "quality_1m: process"} < set(parts)


def test_calls_of_the_code_that_execute_are_counted_and_no_others():
    block, watch = pl.DataFrame({"source": ["a", "b"]}), _Watch()
    with watch.timed("here"):
        held_bytes(block)  # a select; sizes, types and single values are free, and so are the expressions
        empty({"source": pl.String})
        BlockCoder().encode(block)
        block.with_columns(n=pl.lit(1))  # of this test, not of the product
    assert watch.parts["here"] == {
        "DataFrame.select": 1,
        "DataFrame.__init__": 1,
        "DataFrame.write_ipc_stream": 1,
    }
