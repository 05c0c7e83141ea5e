"""Dialect: BigQuery SQL as DuckDB understands it, by sqlglot and with what sqlglot does not know."""

from functools import cache

import sqlglot
from sqlglot import exp

from transforms.errors import OptionError

# Units of TIMESTAMP_DIFF; DuckDB counts microseconds as BigQuery does.
MICROSECONDS = {"MILLISECOND": 10**3, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3600 * 10**6, "DAY": 86400 * 10**6}


@cache
def to_duckdb(sql: str) -> str:
    """One BigQuery statement in DuckDB's SQL. The zone of the session is what BigQuery calls the default time zone.

    Raises sqlglot.errors.SqlglotError.
    """
    tree = _parsed(sql).copy()
    for node in reversed(
        list(tree.find_all(exp.Expression))
    ):  # the inner ones first: what is put in their place is not looked at again
        meant = _as_bigquery_means(node)
        if meant is not node:
            node.replace(meant)
    return tree.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)


def check_read_only(sql: str) -> None:
    """Raise OptionError for what BigQuery would not only read: whoever asks may be allowed to do more."""
    try:
        why = None if is_query(sql) else "it is no SELECT"
    except sqlglot.errors.SqlglotError as error:
        why = str(error).strip().splitlines()[0]
    if why:
        raise OptionError(f"query: {why}; allowed with --dataset: one SELECT; for more, use the bq command")


def relations_of(sql: str) -> set[str]:
    """The tables and views that one BigQuery statement names, and its own CTEs. Raises sqlglot.errors.SqlglotError."""
    return {table.name for table in _parsed(sql).find_all(exp.Table)}


def is_query(sql: str) -> bool:
    """Whether BigQuery's SQL is one statement that only reads. Raises sqlglot.errors.SqlglotError."""
    return isinstance(_parsed(sql), exp.Query)


@cache
def _parsed(sql: str) -> exp.Expr:
    """The one statement; nobody may change it. Of several, the parser's own function would take the first."""
    found = [each for each in sqlglot.parse(sql, read="bigquery") if each is not None]
    if len(found) != 1:
        raise sqlglot.errors.ParseError(f"got {len(found)} statements; allowed: one")
    return found[0]


def _as_bigquery_means(node: exp.Expression) -> exp.Expression:
    """What sqlglot carries over by name although DuckDB means something else by it."""
    if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.DECIMAL and not node.expressions:
        return exp.DataType.build("DECIMAL(38, 9)")  # a bare one has 3 decimals in DuckDB
    if isinstance(node, exp.CountIf):  # DuckDB's is NULL over no rows, and a HUGEINT
        return exp.Count(this=exp.Case().when(node.this, exp.Literal.number(1)))
    if isinstance(node, exp.IntDiv):  # DIV(a + b, c) would be a + b // c
        return exp.IntDiv(this=_in_parentheses(node.this), expression=_in_parentheses(node.expression))
    if isinstance(node, exp.Extract):
        return _part(node)
    if isinstance(node, exp.TimestampAdd | exp.TimestampSub | exp.TimestampDiff):
        return _in_seconds(node)
    return _in_zone(node)


def _in_parentheses(operand: exp.Expression) -> exp.Expression:
    return exp.Paren(this=operand) if isinstance(operand, exp.Binary) else operand


def _part(node: exp.Extract) -> exp.Expression:
    name = node.this.name.upper()
    if name == "DATE":
        return exp.cast(node.expression, "DATE")
    if name == "DAYOFWEEK":  # from 1, where DuckDB counts from 0
        return exp.Paren(this=exp.Add(this=node.copy(), expression=exp.Literal.number(1)))
    return node


def _in_seconds(node: exp.TimestampAdd | exp.TimestampSub | exp.TimestampDiff) -> exp.Expression:
    """A day of a TIMESTAMP has 24 hours in any zone, and a difference counts what is whole, not the borders between."""
    unit = node.unit.name.upper() if node.unit else ""
    if isinstance(node, exp.TimestampDiff):
        if unit not in MICROSECONDS:
            return node
        later, earlier = (exp.func("EPOCH_US", exp.cast(each, "TIMESTAMPTZ")) for each in (node.this, node.expression))
        width = exp.Literal.number(MICROSECONDS[unit])
        return exp.IntDiv(this=exp.Paren(this=exp.Sub(this=later, expression=earlier)), expression=width)
    if unit != "DAY":
        return node
    number = exp.Literal.number(node.expression.name) if node.expression.is_string else node.expression
    hours = exp.Paren(this=exp.Mul(this=_in_parentheses(number), expression=exp.Literal.number(24)))
    return type(node)(this=node.this, expression=hours, unit=exp.var("HOUR"))


def _in_zone(node: exp.Expression) -> exp.Expression:
    """A function of times that names its zone, or whose result DuckDB gives none."""
    zone = node.args.get("zone")
    if isinstance(node, exp.Date | exp.String) and zone:
        return exp.cast(_at(node.this, zone), "DATE" if isinstance(node, exp.Date) else "TEXT")
    if isinstance(node, exp.TimeToStr) and zone:
        return exp.TimeToStr(this=_at(node.this.this, zone), format=node.args["format"])
    if isinstance(node, exp.StrToTime):
        parsed = node.copy()
        parsed.set("zone", None)
        return exp.AtTimeZone(this=parsed, zone=zone) if zone else exp.cast(parsed, "TIMESTAMPTZ")
    if isinstance(node, exp.UnixToTime) and node.args.get("scale"):
        return exp.AtTimeZone(this=node.copy(), zone=exp.Literal.string("UTC"))
    return node


def _at(moment: exp.Expression, zone: exp.Expression) -> exp.Expression:
    return exp.AtTimeZone(this=exp.cast(moment, "TIMESTAMPTZ"), zone=zone)
