"""Settle: events of a block of gathered columns, by the functions, maps and casts of Polars (functions.py)."""

import polars as pl

from transforms.block import ORIGIN, PARSED_SCHEMA, REJECTED_SCHEMA, TIME, empty
from transforms.mapping.fields import TIMES
from transforms.mapping.functions import Failure, to_time
from transforms.mapping.gather import Gathered, Plan
from transforms.mapping.spec import Event, Mapping
from transforms.mapping.values import Columns, evaluate, value_of
from transforms.records.payloads import errors_json
from transforms.records.times import RFC3339
from transforms.stage import rejections

Mapped = tuple[pl.DataFrame, pl.DataFrame]  # a PARSED_SCHEMA block, a REJECTED_SCHEMA block


def settle(
    gathered: Gathered, raw: pl.DataFrame, mapping: Mapping, plan: Plan, further: pl.Series | None = None
) -> Mapped:
    """(PARSED_SCHEMA block, rejected) of what was gathered; row n of `raw` is where row n of it came from.

    raw       RECORD_SCHEMA; a column `_at` in it stays beside what passes
    further   Boolean: where an earlier rule made an event of the same item, which has the id without a suffix
    """
    columns, derived, properties, extra = gathered
    height, event = len(derived), plan.event
    data, wrong = _fields(columns, height, mapping, event)
    block = raw.select(
        *ORIGIN,
        pl.coalesce("received_time", data.pop("received_time")),
        clock=pl.lit(mapping.clock),
        source=pl.lit(mapping.source),
        source_format=pl.lit(f"mapped:{mapping.source}"),
    ).with_columns(properties=properties, extra=extra, **data)
    absent = {name: pl.lit(None, dtype) for name, dtype in PARSED_SCHEMA.items() if name not in block.columns}
    id = pl.coalesce("event_id", derived)
    if further is not None and further.any():
        shared = further & block["event_id"].is_null() if event.own_id and "event_id" in data else further
        id = pl.when(shared).then(pl.concat_str(id, pl.lit(f"/{event.name}"))).otherwise(id)
    block = block.with_columns(**absent).with_columns(
        id_source=pl.when(pl.col("event_id").is_null()).then(pl.lit("derived")).otherwise(pl.lit("client")),
        event_id=id,
    )
    order = [raw["_at"]] if "_at" in raw.columns else []
    return _split_failures(block.select(*PARSED_SCHEMA, *order), wrong)


def _fields(
    columns: Columns, height: int, mapping: Mapping, event: Event
) -> tuple[dict[str, pl.Series], list[tuple[str, Failure]]]:
    """Columns of PARSED_SCHEMA: the stated fields and all times; and what failed, each with its field."""
    nothing = pl.Series([None] * height, dtype=TIME)
    data = {"client_time": nothing, "sent_time": nothing, "received_time": nothing}
    data["client_time_given"] = pl.repeat(False, height, eager=True)
    wrong: list[tuple[str, Failure]] = []
    for name, field in event.fields.items():
        if name in TIMES:
            values = value_of(field, columns, height).values
            data["client_time" if name == "event_time" else name] = to_time(values, field.time or RFC3339)
            if name == "event_time":
                data["client_time_given"] = values.is_not_null()
        else:
            data[name], failures = evaluate(name, field, columns, height, mapping)
            wrong += [(name, failure) for failure in failures]
    return data, wrong


def _split_failures(block: pl.DataFrame, wrong: list[tuple[str, Failure]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of which nothing failed, the others): the first failure gives the code, `errors` lists all."""
    if not wrong:
        return block, empty(REJECTED_SCHEMA)
    marks = [pl.col(f"_{at}") for at in range(len(wrong))]
    marked = block.with_columns(failure.rows.alias(f"_{at}") for at, (_, failure) in enumerate(wrong))
    bad = marked.filter(pl.any_horizontal(marks))
    codes, errors = [], []
    for mark, (name, failure) in zip(marks, wrong, strict=True):
        codes.append(pl.when(mark).then(pl.lit(failure.code)))
        error = errors_json(f"$.{name}", failure.code, failure.message)[1:-1]
        errors.append(pl.when(mark).then(pl.lit(error)))
    listed = pl.concat_str(pl.lit("["), pl.concat_str(errors, separator=",", ignore_nulls=True), pl.lit("]"))
    passed = marked.filter(~pl.any_horizontal(marks)).select(block.columns)
    return passed, rejections(bad, "map", pl.coalesce(codes), listed)
