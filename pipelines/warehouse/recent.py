"""Recent: several questions of the rows of some tables from a time on, however long the history.

A local warehouse lists only the files that may hold such rows; BigQuery bounds the bytes that each question may bill.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

Since = Mapping[str, datetime]  # table -> earliest time of its partition column that is asked for


@dataclass
class Recent:
    """One state of a warehouse, or as near to one as it gives.

    ask    the whole answer to a question in the SQL of the warehouse (DuckDB's or BigQuery's), asked in UTC
    files  data files that the questions may open; 0 where the warehouse keeps them
    bytes  what has been read: the bytes of these files, or what BigQuery has billed so far
    """

    ask: Callable[[str], pl.DataFrame]
    files: int = 0
    bytes: int = 0
