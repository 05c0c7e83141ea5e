"""Try a guess: run the values of a path through a mapping of this one field, with the rules of a backfill."""

from collections import Counter
from typing import Any, NamedTuple

import msgspec
import polars as pl

from pipelines.apps.mapping.rehearsal import apply_mapping
from transforms.block import RAW_SCHEMA
from transforms.json_objects import encode_json
from transforms.mapping import Mapping
from transforms.validate import NULL_IDS, Validator

_FIXED = {"event_type": {"const": "event"}, "event_id": {"const": "1"}}


class Trial(NamedTuple):
    """Counts of records: those whose field gets a value, those that are quarantined, and the codes of the latter."""

    records: int
    filled: int
    failed: int
    codes: dict[str, int]

    @property
    def share(self) -> float:
        """The share of records that the guess satisfies."""
        return self.filled / max(self.records, 1)

    @property
    def failing(self) -> float:
        """The share of records that the guess quarantines."""
        return self.failed / max(self.records, 1)


def trial(values: list[Any], field: str, stated: dict[str, Any]) -> Trial:
    """Read `values`, one per record, into `field` as `stated`, with a path that holds them."""
    fields = _FIXED | {field: {**stated, "path": "value"}}
    mapping = msgspec.convert({"source": "sample", "fields": fields}, Mapping)
    passed, unmapped = apply_mapping(raw_of([{} if value is None else {"value": value} for value in values]), mapping)
    passed, invalid = Validator(NULL_IDS)(passed)
    read = passed["client_time" if field == "event_time" else field]
    codes = Counter(unmapped["code"].to_list() + invalid["code"].to_list())
    return Trial(len(values), len(read) - read.null_count(), codes.total(), dict(codes))


def raw_of(records: list[dict[str, Any]]) -> pl.DataFrame:
    """Return records as a RAW_SCHEMA block of JSON."""
    payload = pl.Series("payload", [encode_json(record) for record in records], dtype=pl.Binary)
    others = {name: pl.lit(None, dtype) for name, dtype in RAW_SCHEMA.items() if name != "payload"}
    return payload.to_frame().with_columns(**others).select(list(RAW_SCHEMA))
