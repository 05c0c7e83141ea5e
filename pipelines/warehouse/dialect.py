"""Dialect: BigQuery SQL as DuckDB understands it, by sqlglot and with what sqlglot does not know."""

from collections.abc import Collection
from functools import cache

import sqlglot
from sqlglot import exp

from pipelines.warehouse.tables import DAYS_LATER, FILE_DAY, MACRO
from transforms.errors import OptionError, first_line

PARTITIONS = ("event_time", "bucket_start", "session_start")  # columns whose day views ask for
# Units of TIMESTAMP_DIFF; DuckDB counts microseconds as BigQuery does.
MICROSECONDS = {"MILLISECOND": 10**3, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3600 * 10**6, "DAY": 86400 * 10**6}


@cache
def to_duckdb(sql: str) -> str:
    """One BigQuery statement in DuckDB's SQL. The zone of the session is what BigQuery calls the default time zone.

    Raises sqlglot.errors.SqlglotError.
    """
    return _in_duckdb(_parsed(sql).copy())


def _in_duckdb(tree: exp.Expr) -> str:
    """The statement in DuckDB's SQL; the tree is changed."""
    for node in reversed(
        list(tree.find_all(exp.Expression))
    ):  # the inner ones first: what is put in their place is not looked at again
        meant = _as_bigquery_means(node)
        if meant is not node:
            node.replace(meant)
    return tree.sql(
        dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False, normalize_functions=False
    )


@cache
def view_to_duckdb(sql: str, views: frozenset[str], keeps_day: bool) -> str:
    """The BigQuery SQL of a view in DuckDB's, as a local warehouse asks it.

    It reads tables and current rows by their macros (views.duckdb_relation), all but the `views`, and a row's day from
    there; `keeps_day`: a `*` has FILE_DAY too, as the rows of another macro have to.

    Raises sqlglot.errors.SqlglotError.
    """
    tree = _parsed(sql).copy()
    for cte in tree.find_all(exp.CTE):
        if isinstance(cte.this, exp.Union) and (merged := _of_each_distance(cte.this)):
            cte.set("this", merged)
    own = views | {each.alias for each in tree.find_all(exp.CTE)}
    for select in list(tree.find_all(exp.Select)):
        _unnest_beside(select, own)
        sources = [select.args.get("from_"), *select.args.get("joins", ())]
        read = [
            each.this for each in sources if each and isinstance(each.this, exp.Table) and each.this.name not in own
        ]
        if not read:
            continue
        for date in list(select.find_all(exp.Date)):
            if date.this.name in PARTITIONS and date.args.get("zone") and date.find_ancestor(exp.Select) is select:
                date.replace(exp.column(FILE_DAY))
        for cast in list(select.find_all(exp.Cast)):
            if isinstance(cast.this, exp.DateAdd | exp.DateSub) and cast.this.this.name == FILE_DAY:
                cast.replace(_days_later(cast.this))
        for star in [] if keeps_day else [each for each in select.expressions if isinstance(each, exp.Star)]:
            star.set("except_", [exp.column(FILE_DAY)])
        for table in read:
            macro = exp.Anonymous(this=exp.to_identifier(MACRO + table.name, quoted=True))
            table.replace(exp.Table(this=macro, alias=exp.TableAlias(this=exp.to_identifier(table.alias_or_name))))
    return _in_duckdb(tree)


def _of_each_distance(union: exp.Union) -> exp.Select | None:
    """One SELECT in place of one for each number of days that a row is offered later, where they are equal in all else:
    BigQuery needs each for itself to choose partitions by a day, and DuckDB would look at all files in each of them."""
    selects: list[exp.Select] = []
    waiting: list[object] = [union]
    while waiting:
        each = waiting.pop()
        if isinstance(each, exp.Union):
            waiting += [each.right, each.left]
        elif isinstance(each, exp.Select):
            selects.append(each)
    later = exp.cast(exp.column("later"), exp.DataType.Type.INT)
    merged: dict[str, exp.Select] = {}
    for distance, select in enumerate(selects):
        shifted = select.copy()
        for date in list(shifted.find_all(exp.Date)):
            cast = date.find_ancestor(exp.Cast)
            added = cast.this.expression.name if cast and isinstance(cast.this, exp.DateAdd) else "0"
            if added != f"{distance}":
                return None
            (cast if distance and cast else date).replace(exp.Add(this=date.copy(), expression=later.copy()))
        merged[shifted.sql("bigquery")] = shifted
    if len(merged) != 1:
        return None
    (one,) = merged.values()
    offered = f"SELECT 1 FROM t CROSS JOIN UNNEST(GENERATE_ARRAY(0, {len(selects) - 1})) AS later"
    one.set("joins", sqlglot.parse_one(offered, read="bigquery").args["joins"])
    return one


def _unnest_beside(select: exp.Select, own: Collection[str]) -> None:
    """Put an array of a row's own columns into the list of a subquery: DuckDB moves a condition below it only there."""
    source = select.args["from_"].this if select.args.get("from_") else None
    if not isinstance(source, exp.Table) or source.name not in own:
        return
    for join in list(select.args.get("joins") or ()):
        if isinstance(join.this, exp.Unnest) and join.this.find(exp.Column):
            (array,), (name,) = join.this.expressions, join.this.args["alias"].columns
            each = exp.alias_(exp.Anonymous(this="UNNEST", expressions=[array.copy()]), name.name)
            beside = exp.select("*").select(each).from_(source.copy()).subquery(source.alias_or_name)
            source.replace(beside)
            join.pop()


def _days_later(node: exp.DateAdd | exp.DateSub) -> exp.Expression:
    sign = "minus" if isinstance(node, exp.DateSub) else ""
    macro = exp.to_identifier(f"{DAYS_LATER}{sign}{node.expression.name}", quoted=True)
    return exp.Anonymous(this=macro, expressions=[node.this.copy()])


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


def reach_of(sql: str, project: str, dataset: str, relations: Collection[str]) -> set[str]:
    """What one BigQuery statement reads, in lower case: tables and views of this dataset by their name, those of
    another one with its name before it, functions of tables with (). A CTE that is called like one of `relations`
    counts as that one, since it may hide it in one part of the statement and not in another.

    Raises OptionError for what does not parse.
    """
    try:
        tree = _parsed(sql)
    except sqlglot.errors.SqlglotError as error:
        raise OptionError(f"query: {first_line(error)}") from error
    own = {cte.alias.lower() for cte in tree.find_all(exp.CTE)} - {name.lower() for name in relations}
    named = set[str]()
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            named.add(f"{table.this.sql(dialect='bigquery').partition('(')[0].lower()}()")
        elif (table.catalog or project, table.db or dataset) == (project, dataset):
            named.add(table.name.lower())
        else:
            named.add(".".join(each for each in (table.catalog, table.db, table.name) if each).lower())
    return named - own


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
