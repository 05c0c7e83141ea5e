"""Packed summaries: how state holds them. Few rows have few of the columns, and a column costs more than its values.

SUMMARY_SCHEMA frame -> Arrow IPC stream of the columns in which any row has a value
"""

import polars as pl

from transforms.block import BlockCoder, empty
from transforms.sessions.summaries import SUMMARY_SCHEMA


class SummaryCoder(BlockCoder):
    """Of frames of SUMMARY_SCHEMA."""

    def encode(self, block):
        held = [column for column in block.get_columns() if column.null_count() < len(column)]
        return super().encode(pl.DataFrame(held))

    def decode(self, encoded):
        return pl.concat([empty(SUMMARY_SCHEMA), super().decode(encoded)], how="diagonal")
