"""Metrics as data: read from the configuration and checked before anything runs.

    metrics:
      campaign_1h:
        description: Reach and conversion of campaigns
        bucket: 1h                       # <n>s, <n>m or <n>h that divides a day, or 1d
        dimensions: [campaign, currency]
        where_set: [campaign]            # only events that have one; default: all
        shards: 1                        # number of shards in which a bucket is merged; more for millions of rows
        early: 1m                        # how often a stream publishes an open bucket; `never`: only at its end
        measures:                        # one of count, sum, min, max, distinct, quantile; optionally `where`
          purchases:  {count: all, where: {event_type: purchase}}
          revenue:    {sum: value, where: {event_type: [purchase, refund]}}
          purchasers: {distinct: person, where: {event_type: purchase}}
          basket:     {quantile: value, q: [0.5, 0.99], where: {event_type: purchase}}

Fields and dimensions are columns of the event, or `person`: user_id, else anonymous_id.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import polars as pl
from msgspec import Meta

from transforms.block import NUMERIC
from transforms.errors import ConfigError
from transforms.metrics.columns import (
    BIGQUERY,
    COLUMNS,
    FIELD_TYPES,
    PERSON,
    Scalar,
    check_bucket,
    check_column,
    check_condition,
    check_field,
    describe_type,
    seconds,
)
from transforms.metrics.distinct import LIMIT, REGISTERS, SKETCH
from transforms.metrics.quantile import HISTOGRAM_SUFFIX, suffix

NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
TECHNICAL = (
    "bucket_start",
    "bucket_end",
    "firing",
    "generation",
    "revision",
    "emitted_time",
    "pipeline_version",
)
TAKEN = ("events", "events_unique", "quarantine", "quarantine_open", "quality_1m", "quality_summary", "sessions")
KINDS = ("count", "sum", "min", "max", "distinct", "quantile")
EARLY_SECONDS = (10, 600)  # bounds of the default: often enough to be live, seldom enough to be cheap

Early = Annotated[str, Meta(pattern="^([1-9][0-9]{0,4}[smh]|never)$")]


def _describe(description: str, example: Any, unit: str) -> Meta:
    """Describe a key for editors and for the documentation."""
    return Meta(description=description, examples=[example], extra={"unit": unit})


class Column(NamedTuple):
    """A column of a metric's table: BigQuery's type and mode; a RECORD has `fields`."""

    name: str
    type: str
    mode: str
    description: str
    fields: tuple["Column", ...] = ()


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of count, sum, min, max, distinct, quantile, over the events that meet all of `where`."""

    count: Annotated[Literal["all"] | None, _describe("Number of events", "all", "events")] = None
    sum: Annotated[str | None, _describe("Exact sum of a numeric column", "value", "that of the column")] = None
    min: Annotated[str | None, _describe("Smallest number or time of a column", "event_time", "that of the column")] = (
        None
    )
    max: Annotated[str | None, _describe("Largest number or time of a column", "event_time", "that of the column")] = (
        None
    )
    distinct: Annotated[
        str | None,
        _describe("Number of distinct strings of a column; person: user_id, else anonymous_id", PERSON, "strings"),
    ] = None
    quantile: Annotated[
        str | None, _describe("Quantiles `q` of a numeric column, within 1 %", "value", "that of the column")
    ] = None
    q: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...],
        _describe("The quantiles, one column each; only with quantile", [0.5, 0.99], "fractions, 0 to 1"),
    ] = ()
    where: Annotated[
        dict[str, Scalar | tuple[Scalar, ...]],
        _describe(
            "Only events that meet all conditions: a column and its value or values",
            {"event_type": "click"},
            "values of the column",
        ),
    ] = {}

    def __post_init__(self):
        stated = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(stated) != 1:
            raise ValueError(f"got {' and '.join(stated) or 'nothing'}; state exactly one of {', '.join(KINDS)}")
        if self.kind in FIELD_TYPES:
            check_field(self.kind, self.field)
        if (self.kind == "quantile") != bool(self.q):
            raise ValueError("`q` is only for quantile: a list of fractions from 0 to 1, for example [0.5, 0.99]")
        if len(set(map(suffix, self.q))) < len(self.q):
            raise ValueError(f"q has a fraction twice: {list(self.q)!r}; state each once")
        for column, values in self.conditions:
            check_condition(column, values)

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def field(self) -> str:
        """The column that it measures, or `all`."""
        return getattr(self, self.kind)

    @property
    def conditions(self) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
        """(column, allowed values), all of which must hold."""
        return tuple((name, it if isinstance(it, tuple) else (it,)) for name, it in self.where.items())

    @property
    def sum_type(self) -> Any:
        """The Polars type of a sum: INT64 stays, everything else is summed exactly as NUMERIC."""
        return pl.Int64 if COLUMNS[self.field] == pl.Int64 else NUMERIC


class MetricSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric: rows per bucket of event time and dimensions. Created by `read_metrics`."""

    name: str
    bucket: Annotated[
        str,
        _describe("Width of an event-time bucket: must divide a day evenly", "1h", "a number and s, m or h; or 1d"),
    ]
    measures: Annotated[
        Annotated[dict[str, Measure], Meta(min_length=1)],
        _describe("Measures by column name", {"clicks": {"count": "all"}}, "measures"),
    ]
    dimensions: Annotated[
        tuple[str, ...], _describe("Columns to group events by, strings or booleans", ["channel"], "columns")
    ] = ()
    description: Annotated[str, _describe("Description of the metric's table", "Clicks", "a string")] = ""
    where_set: Annotated[
        tuple[str, ...], _describe("Only events in which none of these columns is NULL", ["campaign"], "columns")
    ] = ()
    shards: Annotated[
        Annotated[int, Meta(ge=1, le=1024)],
        _describe("Number of shards in which a bucket is merged; more for millions of rows", 4, "shards, 1 to 1024"),
    ] = 1
    early: Annotated[
        Early | None,
        _describe(
            "Early firings: how often a stream publishes an open bucket; never: only at its end; by default a sixtieth "
            f"of the bucket, {EARLY_SECONDS[0]} s to {EARLY_SECONDS[1]} s",
            "1m",
            "a number with a suffix: s, m or h",
        ),
    ] = None

    def __post_init__(self):
        check_bucket(self.bucket)
        for name in self.dimensions:
            check_column(name, "dimensions")
            if COLUMNS[name] not in (pl.String, pl.Boolean) or name in ("properties", "extra"):
                raise ValueError(f"dimensions: {name!r} is {describe_type(name)}; a dimension is a string or a boolean")
        for name in self.where_set:
            check_column(name, "where_set")
        self._check_names()

    def _check_names(self):
        seen = set(TECHNICAL)
        for name in (*self.dimensions, *(name for _, name in self._made_columns())):
            if name in seen:
                raise ValueError(f"column {name!r} would exist twice; rename the measure or remove the dimension")
            seen.add(name)

    def _made_columns(self) -> Iterator[tuple[str, str]]:
        """Yield (measure, column) for all columns of its measures in partial or final rows."""
        for name, measure in self.measures.items():
            yield name, name
            if measure.kind == "distinct":
                yield name, name + REGISTERS
                yield name, name + SKETCH
            if measure.kind == "quantile":
                yield from ((name, name + suffix(q)) for q in measure.q)
                yield name, name + HISTOGRAM_SUFFIX

    @property
    def is_daily(self) -> bool:
        """Whether buckets are days of the warehouse's time zone; shorter ones are split in UTC, and at midnight."""
        return self.bucket == "1d"

    @property
    def bucket_width(self) -> timedelta:
        """The width of a bucket; a day may be an hour longer or shorter when clocks change."""
        return timedelta(seconds=seconds(self.bucket))

    @property
    def early_interval(self) -> timedelta | None:
        """How often a stream publishes a bucket before its end; None means never."""
        if self.early == "never":
            return None
        low, high = EARLY_SECONDS
        default = max(low, min(high, seconds(self.bucket) // 60))
        return timedelta(seconds=default if self.early is None else seconds(self.early))

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row: bucket_start and the dimensions."""
        return ("bucket_start", *self.dimensions)

    def measure_columns(self) -> list[Column]:
        """Return the columns of its measures in its table."""
        return [column for name, measure in self.measures.items() for column in _columns_of(name, measure)]


def columns(spec: MetricSpec) -> list[Column]:
    """Return the metric's own columns in its table: dimensions, then measures."""
    described = {PERSON: "user_id, else anonymous_id"}
    dimensions = [
        Column(name, BIGQUERY[COLUMNS[name]], "NULLABLE", described.get(name, f"{name} of the events"))
        for name in spec.dimensions
    ]
    return dimensions + spec.measure_columns()


def _columns_of(name: str, measure: Measure) -> Iterator[Column]:
    kind, field = measure.kind, measure.field
    where = "".join(f", {column} {' or '.join(map(str, values))}" for column, values in measure.conditions)
    if kind == "count":
        yield Column(name, "INT64", "REQUIRED", f"events{where}")
    elif kind == "sum":
        yield Column(name, BIGQUERY[measure.sum_type], "REQUIRED", f"sum of {field}{where}; 0 where there is none")
    elif kind in ("min", "max"):
        word = {"min": "smallest", "max": "largest"}[kind]
        yield Column(name, BIGQUERY[COLUMNS[field]], "NULLABLE", f"{word} {field}{where}")
    elif kind == "distinct":
        yield Column(
            name,
            "INT64",
            "REQUIRED",
            f"distinct {field}{where}; above {LIMIT} an estimate, standard error 1.6 %",
        )
        yield Column(
            name + SKETCH,
            "BYTES",
            "REQUIRED",
            f"Apache DataSketches HLL (lg_k 12) of {name}: merge it, never add",
        )
    else:
        for q in measure.q:
            yield Column(name + suffix(q), "FLOAT64", "NULLABLE", f"quantile {q:g} of {field}{where}, within 1 %")
        inner = (
            Column("bin", "INT64", "NULLABLE", "number of the bin, in the order of values"),
            Column("count", "INT64", "NULLABLE", "values in the bin"),
        )
        yield Column(name + HISTOGRAM_SUFFIX, "RECORD", "REPEATED", f"log-spaced histogram of {field}{where}", inner)


def read_metrics(obj: dict, where: str) -> tuple[MetricSpec, ...]:
    """The metrics stated in `obj`, a metric's name to its form, in their order.

    `where` is the name of the file, for messages. Raises ConfigError with the path of the first mistake.
    """
    return tuple(_read_metric(name, form, where) for name, form in obj.items())


def _read_metric(name: Any, form: Any, where: str) -> MetricSpec:
    path = f"$.metrics.{name}"
    _check_name(name, f"{where}: {path}", "metric")
    if name in TAKEN or name.endswith("_current"):
        raise ConfigError(f"{where}: {path}: the name is taken by a table or view; choose another")
    if not isinstance(form, dict):
        raise ConfigError(f"{where}: {path}: got {form!r}; a metric has bucket, dimensions and measures")
    if "name" in form:
        raise ConfigError(
            f"{where}: {path}.name: got {form['name']!r}; the name is the key {name!r} already, leave it out"
        )
    measures = form.get("measures")
    if isinstance(measures, dict):
        form = form | {
            "measures": {key: _read_measure(key, it, f"{path}.measures", where) for key, it in measures.items()}
        }
    spec = _convert(form | {"name": name}, MetricSpec, path, where)
    for key, measure in spec.measures.items():
        _check_currency(spec, measure, f"{where}: {path}.measures.{key}")
    return spec


def _read_measure(name: Any, form: Any, path: str, where: str) -> Measure:
    _check_name(name, f"{where}: {path}.{name}", "measure")
    return _convert(form, Measure, f"{path}.{name}", where)


def _convert(obj: Any, struct: type[msgspec.Struct], path: str, where: str) -> Any:
    """`msgspec.convert`, its error as one line with file, path, what was got and what is allowed."""
    try:
        return msgspec.convert(obj, struct)
    except msgspec.ValidationError as problem:
        text, _, inside = str(problem).partition(" - at `$")
    inside = inside.rstrip("`")
    if "unknown field" in text or "Invalid enum" in text or "missing required" in text:
        allowed = [name for name in struct.__struct_fields__ if name != "name"]
        text += "; allowed: all" if "enum" in text else f"; fields are {', '.join(allowed)}"
    elif re.fullmatch(r"\.[a-z_]+", inside):
        text += f"; got {obj[inside[1:]]!r}"
    elif inside == "" and not isinstance(obj, dict):
        text += f"; got {obj!r}"
    raise ConfigError(f"{where}: {path}{inside}: {text}") from None


def _check_name(name: Any, place: str, what: str) -> None:
    if not isinstance(name, str) or not NAME.match(name):
        raise ConfigError(f"{place}: the name of a {what} is {NAME.pattern}; got {name!r}")


def _check_currency(spec: MetricSpec, measure: Measure, place: str) -> None:
    """Money of two currencies is never added up."""
    one = "currency" in spec.dimensions or len(dict(measure.conditions).get("currency", ())) == 1
    if measure.field == "value" and not one:
        raise ConfigError(
            f"{place}: {measure.kind} of 'value' would mix currencies; "
            f"add currency to the dimensions, or one currency to its where: {{currency: USD}}"
        )
