"""By source: a raw block of a queue as blocks of one source each, by an attribute of its messages.

A message names its source in an attribute (Pub/Sub) or a header (Kafka) of its own, which chooses its mapping as the
source of an entry of a log does. One that names none, or what can be the name of no source, keeps that of its block.
"""

import polars as pl

from transforms.contract import PATTERNS

_ALLOWED = PATTERNS["source"][0]
_MESSAGE = "message"  # the message's own attributes, among those of a record


def cut_by_source(raw: pl.DataFrame, attribute: str) -> list[pl.DataFrame]:
    """Return a block with the columns of RAW_SCHEMA as blocks of one source each.

    They are in the order in which their sources come first, and their rows in that of the block.
    """
    told = _values_of(raw["attributes"], attribute)
    if told.null_count() == len(told):
        return [raw]
    named = raw.with_columns(source=pl.when(told.str.contains(_ALLOWED)).then(told).otherwise("source"))
    first = named["source"][0]
    if (named["source"] == first).all():
        return [named]
    return named.partition_by("source", maintain_order=True)


def _values_of(attributes: pl.Series, name: str) -> pl.Series:
    """The value of an attribute of each message, or null. Any text may be its name: a path of JSON would read some."""
    form = pl.Struct({_MESSAGE: pl.Struct({name: pl.String})})
    own = attributes.str.json_decode(form).struct.unnest().to_series()
    return own.struct.unnest().to_series().alias("told")  # its name could be a pattern of columns
