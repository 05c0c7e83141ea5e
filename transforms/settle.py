"""Settle: from raw records to events. One step parses, validates and dates a block, and rejects what is late.

    PCollection[RAW_SCHEMA block] -> passed: PCollection[FLOW_SCHEMA block],
                                     rejected: PCollection[REJECTED_SCHEMA block],
                                     replayed: PCollection[PARSED_SCHEMA block], books: PCollection[packed entries]

`replayed` has the records of a replay that passed, for quarantine; of other runs it is empty.

The rules are functions of their own (parse.py, validate.py, event_time.py, lateness.py). Each also states, as one
expression, when it passes a whole block as it is. Where all of them do, which is nearly always, the events of a block
are made by two queries of Polars: a block of a few hundred rows costs little more than its records.

State   none
Emits   at once; never an empty block
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.alike import marked_id
from transforms.block import FLOW_SCHEMA, compacted, split_to_size, tag_input
from transforms.by_source import cut_by_source
from transforms.days import Days, as_events
from transforms.event_time import DATED, DATES, settle_event_time
from transforms.lateness import Lateness
from transforms.mapping import Mapping
from transforms.parse import parse_in_parts
from transforms.quality import Entry, entries_of, pack
from transforms.records.bots import flag_bots
from transforms.validate import Validator

FEW_ROWS = 5_000  # of native records of quarantine; those of other readers are within MOST_BYTES, as their blocks are
MANY_ROWS = 2_000  # of which those that break a rule are judged apart
MOST_BYTES = 64 << 20  # of a block of events: each event of an exploded record holds all bytes of the record
_VALID, _IN_TIME = "_valid", "_in_time"  # of a whole block


class Rules(NamedTuple):
    """How records become events.

    mappings  blocks of the source of one go through it; other records are native, and of that source if they state none
    input     the input of the records; None: each has its own, as those of a replay
    near      events outside these days are left out and counted; None keeps all
    bounded   alike records of files are counted where they are deduplicated (alike.py)
    source_attribute  the attribute of a message that names its source (by_source.py); None: a block has one source
    """

    mappings: Sequence[Mapping]
    input: str | None
    validate: Validator
    lateness: Lateness
    near: Days | None = None
    bounded: bool = False
    source_attribute: str | None = None


class Settle(beam.PTransform):
    """The head of the graph; see the module."""

    def __init__(self, rules: Rules):
        super().__init__()
        self.rules = rules

    def expand(self, raw):
        typed = beam.ParDo(_Settle(self.rules)).with_output_types(
            pl.DataFrame, rejected=pl.DataFrame, replayed=pl.DataFrame, books=bytes
        )
        return raw | "Make events" >> typed.with_outputs("rejected", "replayed", "books", main="passed")


class _Settle(beam.DoFn):
    def __init__(self, rules: Rules):
        self.rules = rules
        self.mappings = {mapping.source: mapping for mapping in rules.mappings}

    def process(self, raw):
        named = self.rules.source_attribute
        if named is None:
            yield from self._settle(raw)
            return
        for block in cut_by_source(raw, named):
            yield from self._settle(block, of=raw.height)

    def _settle(self, raw: pl.DataFrame, of: int = 0) -> Iterator[Any]:
        """Settle a block of one source; `of` rows is that from which it was cut, whose payloads it holds."""
        records = raw if self.rules.input is None else tag_input(raw, self.rules.input)
        books = entries_of(records, "received")
        source, queue = books[0][1], all(minute is not None for minute, *_ in books)
        mapping = self.mappings.get(source)
        marks = self.rules.bounded and mapping is not None and mapping.derived_id == "occurrence"
        # A stream keeps the first of several events with one id.
        for parsed, refused in parse_in_parts(records, mapping, source, ordered=not self.rules.bounded):
            for part in (parsed, refused):
                books += moved(part, source, queue, whole=mapping is None)
            refused = compacted(refused, of=max(records.height, of))
            yield from (TaggedOutput("rejected", block) for block in split_to_size(refused, MOST_BYTES))
            # A mapping may make records many times as large.
            small = mapping is None and (self.rules.input is not None or parsed.height <= FEW_ROWS)
            for block in [parsed] if small else split_to_size(parsed, MOST_BYTES):
                settled, rows = judge(block, self.rules, marks), max(block.height, of)
                yield from (TaggedOutput("rejected", compacted(each, of=rows)) for each in settled.rejected)
                if settled.replayed is not None:
                    yield TaggedOutput("replayed", settled.replayed)
                events, outside = _near(settled.events, self.rules.near)
                books += outside
                if not events.is_empty():
                    yield compacted(events, of=block.height)
        yield TaggedOutput("books", pack(books))


class Judged(NamedTuple):
    """Events (FLOW_SCHEMA), rejected blocks of which none is empty, and the records of a replay that passed."""

    events: pl.DataFrame
    rejected: list[pl.DataFrame]
    replayed: pl.DataFrame | None


def judge(parsed: pl.DataFrame, rules: Rules, marks: bool = False) -> Judged:
    """Apply the rules to a PARSED_SCHEMA block of parse; `marks` adds the position to derived ids."""
    if rules.input is None or marks or parsed.is_empty():
        return _judge_each(parsed, rules, marks)
    if rules.bounded and len(parsed) >= MANY_ROWS:
        return _judge_apart(parsed, rules)
    dated = flag_bots(parsed, rules.validate.bots).with_columns(DATES)
    checks = (DATED & rules.validate.clean).alias(_VALID), rules.lateness.clean().alias(_IN_TIME)
    events = dated.select(*_FLOW, *checks)
    *columns, is_valid, in_time = events.get_columns()
    if not is_valid[0]:
        return _judge_each(parsed, rules, marks)
    if in_time[0]:
        return Judged(pl.DataFrame(columns), [], None)
    kept, late = rules.lateness(dated.with_columns(warnings=pl.lit(None, pl.String)))
    return Judged(as_events(kept), [late], None)


_FLOW = [
    {"stored": pl.lit(False).alias("stored"), "warnings": pl.lit(None, pl.String).alias("warnings")}.get(
        name, pl.col(name)
    )
    for name in FLOW_SCHEMA
]


def _judge_apart(parsed: pl.DataFrame, rules: Rules) -> Judged:
    """The same for a large block of a batch run: first the events that pass as they are, then what the rules make of
    the others. A stream would keep another of two events in another order."""
    dated = flag_bots(parsed, rules.validate.bots).with_columns(DATES)
    is_unsure = dated.select(
        pl.col("received_time").is_null() | rules.validate.unsure | rules.lateness.late.fill_null(False)
    ).to_series()
    if 2 * int(is_unsure.sum() or 0) > len(parsed):
        return _judge_each(parsed, rules)
    events = dated.select(_FLOW)
    if not is_unsure.any():
        return Judged(events, [], None)
    others = _judge_each(parsed.filter(is_unsure), rules)
    return others._replace(events=pl.concat([events.filter(~is_unsure), others.events]))


def _judge_each(parsed: pl.DataFrame, rules: Rules, marks: bool = False) -> Judged:
    """The same, rule by rule."""
    rejected, block = [], parsed
    for rule in (rules.validate, settle_event_time, rules.lateness):
        block, refused = rule(block)
        rejected += [] if refused.is_empty() else [refused]
    replayed = block if rules.input is None and not block.is_empty() else None
    # Behind the rules, one of which is of the length of an id.
    return Judged(as_events(block.with_columns(event_id=marked_id()) if marks else block), rejected, replayed)


def moved(part: pl.DataFrame, source: str, queue: bool, *, whole: bool = False) -> list[Entry]:
    """Entries that move records from the reader's entry to their actual source and minute.

    The reader of a queue already knew the minute (`queue`); a reader of files counted under NULL. The parts of a record
    after its first were not received: they count as `exploded`.

    whole  no record is in parts
    """
    if part.is_empty():
        return []
    exploded: list[Entry] = []
    if not whole and part["part"].max():
        exploded = entries_of(part.filter(pl.col("part") > 0), "exploded")
        part = part.filter(pl.col("part") == 0)
    arrived = entries_of(part, "received")
    left = [(minute if queue else None, source, input, each, -n) for minute, _, input, each, n in arrived]
    return arrived + left + exploded


def _near(events: pl.DataFrame, days: Days | None) -> tuple[pl.DataFrame, list[Entry]]:
    """The events in the days, and entries for the others."""
    if days is None or events.is_empty():
        return events, []
    inside = events.select(days.holds(pl.col("event_time"))).to_series()
    return events.filter(inside), entries_of(events.filter(~inside), "out_of_range")
