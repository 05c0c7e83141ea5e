"""Dialect: BigQuery SQL as DuckDB understands it, by sqlglot and with what sqlglot does not know."""

from functools import cache

import sqlglot
from sqlglot import exp

from transforms.errors import OptionError


@cache
def to_duckdb(sql: str) -> str:
    """One BigQuery statement in DuckDB's SQL, for a session in UTC. Raises sqlglot.errors.SqlglotError."""
    tree = _parsed(sql).transform(_as_bigquery_means)
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
    return node


def _in_parentheses(operand: exp.Expression) -> exp.Expression:
    return exp.Paren(this=operand) if isinstance(operand, exp.Binary) else operand
