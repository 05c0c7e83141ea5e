"""What a question in DuckDB's SQL may be, and which tables and views it names: DuckDB's own parser says both.

    read(connection, sql) -> Question

A question is one statement that only reads. DuckDB counts `WITH written AS (COPY ... TO ...) SELECT ...` as a SELECT
too, so each query inside the statement is checked, not only the kind of the whole.

Errors: OptionError for what is no question; duckdb.Error for what does not parse.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec

from pipelines.warehouse.local.asked_days import Spans, spans_of
from transforms.errors import OptionError

ALLOWED = "one SELECT, WITH, FROM, VALUES, PIVOT, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN"
_READS = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_ROWS_OF_THEIR_OWN = {"range", "generate_series", "unnest", "repeat", "repeat_row"}  # functions that know no table
_BY_TEXT = {"query", "query_table"}  # they name tables in a text
_REFUSED = {"json_execute_serialized_sql"}  # a statement that nobody has looked at
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s+ANALYZE\b|\s*\([\w\s,]*\))?", re.IGNORECASE)


class Question(NamedTuple):
    """One statement that reads.

    sql     the statement
    names   the relations that it names, in lower case; None: it may name any
    lists   whether it may ask which relations there are, so that those that it does not name have to be seen as well
    own     the names of its CTEs, in lower case
    others  functions that it reads like tables, without those that know no table
    spans   the days that it asks of each relation
    """

    sql: str
    names: frozenset[str] | None
    lists: bool
    own: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    spans: Spans = {}

    def reach(self, relations: Collection[str]) -> set[str]:
        """The relations, files and functions of tables that it names; a CTE that is called like one of `relations`
        counts as that one, since it may hide it in one part of the statement and not in another."""
        hidden = {name for name in self.own if name.isidentifier()} - {*relations}  # others may be names of files
        named = frozenset({"query()"}) if self.names is None else self.names - hidden - {""}
        return {*named, *(f"{each}()" for each in self.others)}


def read(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> Question:
    """Look at a question with these values of its parameters; `connection` only parses, nothing is opened and nothing
    runs."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise _refused(f"got {len(statements)} statements")
    try:
        kind = statements[0].type
    except ValueError:  # a kind that DuckDB has no name for in Python
        raise _refused("got a statement that does not read") from None
    asked = sql
    if kind == duckdb.StatementType.EXPLAIN:
        prefix = _EXPLAIN.match(sql)
        if not prefix:
            raise _refused("got an EXPLAIN that does not begin with this word")
        asked = sql[prefix.end() :]
    elif kind == duckdb.StatementType.MULTI:
        raise _refused("got a PIVOT without its values; name them: PIVOT t ON column IN ('a', 'b') USING sum(n)")
    elif kind != duckdb.StatementType.SELECT:
        raise _refused(f"got {kind.name}")
    return _looked_at(connection, sql, asked, values)


def _looked_at(connection: duckdb.DuckDBPyConnection, sql: str, asked: str, values: Sequence[Any]) -> Question:
    [(serialized,)] = connection.execute("SELECT json_serialize_sql($1)", [asked]).fetchall()
    tree = msgspec.json.decode(serialized)
    if tree["error"] or len(tree["statements"]) != 1:
        raise _refused("got a statement that does not read")
    names, functions, own, lists = set[str](), set[str](), set[str](), False
    nodes = list(_nodes(tree))
    for node in nodes:
        kind = str(node.get("type"))
        own |= {each["key"].lower() for each in (node.get("cte_map") or {}).get("map", ())}
        if kind.endswith("_NODE") and kind not in _READS:
            raise _refused(f"got {kind.removesuffix('_QUERY_NODE').removesuffix('_NODE')} within it")
        if kind == "BASE_TABLE":
            names.add(node["table_name"].lower())
            lists |= bool(node["schema_name"])
        elif kind == "SHOW_REF":
            names.add(node["table_name"].strip('"').lower())
            lists = True
        elif kind == "TABLE_FUNCTION":
            functions.add(node["function"]["function_name"].lower())
    if functions & _REFUSED:
        raise _refused(f"got {min(functions & _REFUSED)}() within it")
    if functions & _BY_TEXT:
        return Question(sql, None, True)
    others = frozenset(functions - _ROWS_OF_THEIR_OWN)
    return Question(sql, frozenset(names), lists or bool(others), frozenset(own), others, spans_of(nodes, values))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a tree; without recursion, as a statement may be as deep as it likes."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _refused(got: str) -> OptionError:
    return OptionError(f"query: {got}; allowed: {ALLOWED}, which reads and changes nothing (--unsafe allows all)")
