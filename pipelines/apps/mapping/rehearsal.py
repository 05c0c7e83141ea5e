"""Run records through the rules of a backfill, without a graph or a warehouse; nothing is written."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from transforms.alike import marked_id
from transforms.block import FLOW_SCHEMA, REJECTED_SCHEMA, empty, tag_input
from transforms.days import as_events
from transforms.deduplicate import keep_smallest, split
from transforms.event_time import settle_event_time
from transforms.lateness import Lateness
from transforms.mapping import Mapping
from transforms.parse import parse
from transforms.validate import NULL_IDS, Validator

INPUT = "rehearsal"
DAY = timedelta(days=1)
_PART = r"(#[0-9]+)?(/[a-z][a-z0-9_]*)?$"  # suffix of a position: which of a record's events


class Rehearsal(NamedTuple):
    """The outcome of the records: the first three frames are FLOW_SCHEMA, the last is REJECTED_SCHEMA."""

    records: int
    events: pl.DataFrame
    duplicates: pl.DataFrame
    conflicts: pl.DataFrame  # among the duplicates
    rejected: pl.DataFrame

    def passed(self) -> int:
        """Return the number of records that no rule rejected, including duplicates."""
        record = pl.col("position").str.replace(_PART, "")
        return self.records - self.rejected.select(record.n_unique()).item()


def rehearse(raw: Iterable[pl.DataFrame], mapping: Mapping, max_lateness: timedelta = DAY) -> Rehearsal:
    """Run RAW_SCHEMA blocks through parse, map, validate, event time, lateness and deduplication."""
    records, events, rejected = 0, [empty(FLOW_SCHEMA)], [empty(REJECTED_SCHEMA)]
    for block in raw:
        records += len(block)
        accepted, refused = apply_rules(block, mapping, max_lateness)
        events.append(accepted)
        rejected.append(refused)
    days = [keep_smallest(part.events) for part in split(pl.concat(events), DAY, 1, alike=True)]
    kept, duplicates, conflicts = zip(*days, strict=True) if days else ([empty(FLOW_SCHEMA)],) * 3
    return Rehearsal(records, pl.concat(kept), pl.concat(duplicates), pl.concat(conflicts), pl.concat(rejected))


def apply_rules(
    raw: pl.DataFrame, mapping: Mapping | None, max_lateness: timedelta = DAY
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a raw block as (FLOW_SCHEMA, REJECTED_SCHEMA), before deduplication."""
    block, rejected = apply_mapping(raw, mapping)
    refused = [rejected]
    for rule in (Validator(NULL_IDS), settle_event_time, Lateness(max_lateness)):
        block, rejected = rule(block)
        refused.append(rejected)
    if mapping is not None and mapping.derived_id == "occurrence":
        block = block.with_columns(event_id=marked_id())
    return as_events(block), pl.concat(refused)


def apply_mapping(raw: pl.DataFrame, mapping: Mapping | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a raw block as (PARSED_SCHEMA, REJECTED_SCHEMA); without a mapping, it is in the native format."""
    return parse(tag_input(raw, INPUT), mapping, mapping.source if mapping else INPUT)
