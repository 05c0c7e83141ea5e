"""Alike records of a file: the nth with a content has an id of its own, `derived:<hash>-<n>` from the second on.

A log that grows and is rotated has the same records under other names: the nth of a content in one file is the nth of
it in the other. So a mapping with `derived_id: occurrence` keeps alike records of one file apart, and reads none twice.

    mark(parsed)        adds the position to derived ids, as `derived:<hash>@<position>`, until they are counted
    base_of()           the id without a mark and a number: what alike events share, and are gathered by
    number_alike(..)    the final ids of events that are gathered by window and base

Where parts of a file are read by several processes, the events with a content come together only where they are
deduplicated. Records of a queue have no place in a file: of them the content alone is the id. Where some of the alike
records of an input are stored already, such as those of a replay, the others are numbered behind them.
"""

import polars as pl

_BASE = r"^(derived:[0-9a-f]{32}(?:/[a-z][a-z0-9_]*)?)(?:-[0-9]+)?(?:@|$)"
_PLACE = r"^(?<file>.*?)[:@](?<first>[0-9]+)(?::(?<second>[0-9]+))?(?:#(?<element>[0-9]+))?(?:/[a-z][a-z0-9_]*)?$"
_PLACES = ["first", "second", "element"]
_DERIVED = pl.col("id_source") == "derived"
_MARKED = _DERIVED & pl.col("event_id").str.contains("@", literal=True)
_OF_QUEUE = pl.col("attributes").str.contains('"received_time":', literal=True).fill_null(False)


def marked_id() -> pl.Expr:
    """Return the id of a PARSED_SCHEMA block, with the position in the file where it is derived."""
    place = pl.concat_str(pl.col("event_id"), pl.lit("@"), pl.col("position"))
    return pl.when(_DERIVED & ~_OF_QUEUE & pl.col("position").is_not_null()).then(place).otherwise("event_id")


def base_of() -> pl.Expr:
    """Return the id that alike events share."""
    base = pl.coalesce(pl.col("event_id").str.extract(_BASE), "event_id")
    return pl.when(_DERIVED).then(base).otherwise("event_id")


def number_alike(events: pl.DataFrame, shared: list[str], gathered: pl.Series) -> pl.DataFrame:
    """Give events with marked ids their final ids.

    events    all that share any of the bases; in no order
    shared    columns that alike events share besides their base
    gathered  Boolean: whether an event may share its base with another
    """
    marked = events.select(_MARKED).to_series()
    if not marked.any():
        return events
    based = events.with_columns(_base=base_of(), _marked=marked)
    alone = based.filter(~gathered).with_columns(event_id=pl.when("_marked").then("_base").otherwise("event_id"))
    some = based.filter(gathered)
    place = pl.col("event_id").str.splitn("@", 2).struct.field("field_1").str.extract_groups(_PLACE)
    placed = some.filter("_marked").with_columns(place.alias("_place")).unnest("_place")
    placed = placed.sort(pl.col(name).cast(pl.Int64) for name in _PLACES)
    same = [*shared, "_base"]
    before = some.filter("stored").group_by(*same, "input").len("_before")
    placed = placed.join(before, on=[*same, "input"], how="left", nulls_equal=True, maintain_order="left")
    nth = pl.int_range(1, pl.len() + 1).over(*same, "file") + pl.col("_before").fill_null(0).cast(pl.Int64)
    numbered = pl.concat_str("_base", pl.lit("-"), nth)
    placed = placed.with_columns(event_id=pl.when(nth == 1).then("_base").otherwise(numbered))
    rest = some.filter(~pl.col("_marked"))
    return pl.concat([part.select(events.columns) for part in (alone, rest, placed)])
