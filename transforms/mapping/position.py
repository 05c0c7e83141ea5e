"""The position of a record in its input as a number, for `sequence: position`.

file:12                   12
file@4096                 4096, the byte at which it begins
file:2:7, Parquet         2 * 2**28 + 7: row 7 of row group 2
file:12#3/click           12 * 100,000 + 3: element 3 of an exploded record, whatever the rule
a message of a queue      NULL, or its element: the ids of messages have no order
"""

import polars as pl

from transforms.mapping.spec import MOST_ELEMENTS

_GROUP_ROWS = 2**28  # more than any row group has
_RULE = "(?:/[a-z][a-z0-9_]*)?$"
_ITEM = f"(?:#[0-9]+)?{_RULE}"


def sequence_of(raw: pl.DataFrame, exploded: bool) -> pl.Series:
    """Int64: of each record of a RECORD_SCHEMA block, or each item of one."""
    position = pl.col("position").str.replace(_ITEM, "")
    number = position.str.extract(r"[:@]([0-9]{1,15})$").cast(pl.Int64)
    is_parquet = pl.col("attributes").str.contains('"format":"parquet"', literal=True).fill_null(False)
    group = position.str.extract(r":([0-9]{1,9}):[0-9]+$").cast(pl.Int64).fill_null(0)
    place = number + pl.when(is_parquet).then(group * _GROUP_ROWS).otherwise(0)
    if exploded:
        element = pl.col("position").str.extract(f"#([0-9]{{1,6}}){_RULE}").cast(pl.Int64).fill_null(0)
        place = place.fill_null(0) * MOST_ELEMENTS + element
    return raw.select(place.alias("sequence")).to_series()
