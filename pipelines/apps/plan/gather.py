"""The model of the blocks of a job on Dataflow: its reader's small bundles, and the step that gathers them.

gathering   -> GatherFlow
"""

from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.steps import Flow, How, Traffic, blocks_a_second, bundles_a_second, settling, text_factor

NAME = "gather"


class GatherFlow(NamedTuple):
    """The step; `keyed` is the part of the CPU that its shards take, each on one core at a time, with the steps behind
    it up to the next keyed one; `largest` are the bytes that a shard holds at most."""

    flow: Flow
    keyed: float
    shards: int
    largest: float


def gathering(traffic: Traffic, rate: float, how: How) -> GatherFlow:
    """Return the flow of the step for a job on Dataflow."""
    bundles, blocks = bundles_a_second(rate), blocks_a_second(rate, how)
    moved = bundles * figures.BUNDLE_BYTES.call + rate * figures.BUNDLE_BYTES.row * text_factor(traffic)
    each, shards = rate / bundles, how.gather_shards
    a_block = moved / blocks
    flow = Flow(
        bundles,
        moved,
        moved + bundles * figures.GATHERED_BYTES,
        shards * a_block / 2,  # it fills up from nothing
        bundles * (figures.BUNDLE_US.of(each) + figures.HOLD_US.of(each)) / 1e6,
    )
    keyed = bundles * figures.HOLD_US.of(each) / 1e6 + settling(traffic, rate, how)
    return GatherFlow(flow, keyed, shards, a_block)
