"""A rehearsal: records through the rules of a backfill, without a graph or a warehouse; nothing is written."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from transforms.block import FLOW_SCHEMA, REJECTED_SCHEMA, empty, entered
from transforms.days import as_events
from transforms.deduplicate import keep_smallest, split
from transforms.event_time import settle_event_time
from transforms.lateness import too_late
from transforms.mapping import Mapping
from transforms.parse import parse
from transforms.validate import NULL_IDS, validator

INPUT = "rehearsal"
DAY = timedelta(days=1)
_PART = r"(#[0-9]+)?(/[a-z][a-z0-9_]*)?$"  # which of a record's events, behind its position


class Rehearsal(NamedTuple):
    """What became of the records: FLOW_SCHEMA of the first three, REJECTED_SCHEMA of the last."""

    records: int
    events: pl.DataFrame
    duplicates: pl.DataFrame
    conflicts: pl.DataFrame  # among the duplicates
    rejected: pl.DataFrame

    def passed(self) -> int:
        """Records of which no rule refused anything; a duplicate is one of them."""
        record = pl.col("position").str.replace(_PART, "")
        return self.records - self.rejected.select(record.n_unique()).item()


def rehearse(raw: Iterable[pl.DataFrame], mapping: Mapping, max_lateness: timedelta = DAY) -> Rehearsal:
    """Take RAW_SCHEMA blocks through parse, map, validate, event time, lateness and deduplication."""
    records, events, rejected = 0, [empty(FLOW_SCHEMA)], [empty(REJECTED_SCHEMA)]
    for block in raw:
        records += len(block)
        made, refused = settled(block, mapping, max_lateness)
        events.append(made)
        rejected.append(refused)
    pieces = [keep_smallest(piece.events) for piece in split(pl.concat(events), DAY, 1)]
    kept, duplicates, conflicts = zip(*pieces, strict=True) if pieces else ([empty(FLOW_SCHEMA)],) * 3
    return Rehearsal(records, pl.concat(kept), pl.concat(duplicates), pl.concat(conflicts), pl.concat(rejected))


def settled(
    raw: pl.DataFrame, mapping: Mapping | None, max_lateness: timedelta = DAY
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(FLOW_SCHEMA, REJECTED_SCHEMA) of a raw block, before deduplication."""
    block, rejected = mapped(raw, mapping)
    refused = [rejected]
    for sieve in (validator(NULL_IDS), settle_event_time, too_late(max_lateness)):
        block, rejected = sieve(block)
        refused.append(rejected)
    return as_events(block), pl.concat(refused)


def mapped(raw: pl.DataFrame, mapping: Mapping | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA, REJECTED_SCHEMA) of a raw block; without a mapping its records are of the native form."""
    return parse(entered(raw, INPUT), mapping, mapping.source if mapping else INPUT)
