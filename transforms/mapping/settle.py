"""Settle: events of a block of gathered columns, by the functions, maps and casts of Polars (functions.py)."""

from collections.abc import Iterator

import polars as pl

from transforms.block import ORIGIN, PARSED_SCHEMA
from transforms.json_objects import errors_json
from transforms.mapping.fields import TIMES, Field
from transforms.mapping.finer import finer_than_micros
from transforms.mapping.functions import Failure, constant, to_time, to_times
from transforms.mapping.gather import Gathered, Plan
from transforms.mapping.position import sequence_of
from transforms.mapping.spec import Event, Mapping
from transforms.mapping.traces import Trace, keep_traces, kept_elsewhere, open_paths
from transforms.mapping.values import Columns, evaluate, value_of, zones_of
from transforms.records.payloads import NOTHING
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
    height, event, received = len(gathered.derived), plan.event, raw["received_time"]
    data, wrong, traces = _fields(gathered.columns, height, mapping, event, queued=not received.null_count())
    own = data.get("received_time")
    if own is not None:
        received = own if received.null_count() == height else received.fill_null(own)
    id, id_source = _ids(data.get("event_id"), gathered.derived, further, event)
    constants = {"clock": mapping.clock, "source": mapping.source, "source_format": f"mapped:{mapping.source}"}
    data |= {name: constant(text, pl.String, height) for name, text in constants.items()}
    data |= {"received_time": received, "event_id": id, "id_source": id_source}
    extra = keep_traces(gathered.extra, gathered.columns, traces, plan.discarded, plan.properties)
    data |= {"properties": gathered.properties, "extra": extra}
    if mapping.sequence == "position":
        data["sequence"] = sequence_of(raw, mapping.explode is not None)
    data |= {name: raw[name] for name in (*ORIGIN, *(name for name in ("_at",) if name in raw.columns))}
    first, *others = (
        data[name].alias(name) if name in data else constant(None, PARSED_SCHEMA[name], height).alias(name)
        for name in (*PARSED_SCHEMA, *(name for name in ("_at",) if name in data))
    )
    return _split_failures(first.to_frame().hstack(others), wrong)


def _ids(
    stated: pl.Series | None, derived: pl.Series, further: pl.Series | None, event: Event
) -> tuple[pl.Series, pl.Series]:
    """(`event_id`, `id_source`)."""
    any_further = further is not None and further.any()
    if stated is not None and not stated.null_count() and not any_further:
        return stated, constant("client", pl.String, len(derived))
    if stated is None:
        stated = constant(None, pl.String, len(derived))
        own_id = False
    else:
        own_id = event.own_id
    id, is_derived = pl.coalesce("stated", "derived"), pl.col("stated").is_null()
    frame = pl.DataFrame({"stated": stated, "derived": derived})
    if further is not None and any_further:
        frame = frame.with_columns(further=further)
        shared = pl.col("further") & is_derived if own_id else pl.col("further")
        id = pl.when(shared).then(pl.concat_str(id, pl.lit(f"/{event.name}"))).otherwise(id)
    source = pl.when(is_derived).then(pl.lit("derived")).otherwise(pl.lit("client"))
    made = frame.select(id=id, source=source)
    return made["id"], made["source"]


def _fields(
    columns: Columns, height: int, mapping: Mapping, event: Event, queued: bool
) -> tuple[dict[str, pl.Series], list[tuple[str, Failure]], list[Trace]]:
    """Columns of PARSED_SCHEMA: the stated fields and times; what failed, and what was read and not kept.

    A record from a queue (`queued`) has its `received_time` already.
    """
    data = {"client_time_given": constant(False, pl.Boolean, height)}
    stated: dict[str, pl.Series] = {}
    wrong: list[tuple[str, Failure]] = []
    traces: list[Trace] = []
    fields = {name: field for name, field in event.fields.items() if name != "received_time" or not queued}
    elsewhere = kept_elsewhere(fields.values())
    for name, field in fields.items():
        if name not in TIMES:
            data[name], failures, lost, passed = evaluate(name, field, columns, height, mapping)
            wrong += [(name, failure) for failure in failures]
            traces += [] if lost is None else [([*open_paths(field)], lost)]
        else:
            stated[name], _, _, passed = value_of(field, columns, height)
        if name not in TRAVELLED:
            traces += [((path,), rows) for path, rows in passed if path not in elsewhere]
    if "event_time" in stated:
        given = stated["event_time"]
        all_given = not given.null_count()
        data["client_time_given"] = constant(True, pl.Boolean, height) if all_given else given.is_not_null()
    data |= {_COLUMNS.get(name, name): times for name, times in _times(stated, columns, event).items()}
    if "event_time" in stated:
        traces += _lost(fields["event_time"], stated["event_time"], data["client_time"])
    return data, wrong, traces


_COLUMNS = {"event_time": "client_time"}
TRAVELLED = TIMES[1:]  # leave no trace: a second delivery states others, and would be another event


def _lost(field: Field, values: pl.Series, times: pl.Series) -> Iterator[Trace]:
    """Yield the traces of times that cannot be read, and of those that are finer than a microsecond."""
    paths = [*open_paths(field)]
    finer = finer_than_micros(values, field.time or RFC3339)
    if finer is not None and finer.any():
        yield paths, finer
    if times.null_count() > values.null_count():
        yield paths, times.is_null() & values.is_not_null()


def _times(stated: dict[str, pl.Series], columns: Columns, event: Event) -> dict[str, pl.Series]:
    """The times that were stated; those of one form and no zone are read together."""
    found: dict[str, pl.Series] = {}
    together: dict[str, list[str]] = {}
    for name, values in stated.items():
        field = event.fields[name]
        if field.time_zone is None:
            together.setdefault(field.time or RFC3339, []).append(name)
        else:
            found[name] = to_time(values, field.time or RFC3339, zones_of(field.time_zone, columns))
    for form, names in together.items():
        found |= zip(names, to_times([stated[name] for name in names], form), strict=True)
    return found


def _split_failures(block: pl.DataFrame, wrong: list[tuple[str, Failure]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of which nothing failed, the others): the first failure gives the code, `errors` lists all."""
    if not wrong:
        return block, NOTHING.clone()
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
