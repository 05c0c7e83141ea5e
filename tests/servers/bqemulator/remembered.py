"""What the emulator does again for each statement and each dataset, done once.

It parses a statement some ten times, translates it by twenty passes, and puts into a statement the SQL of all views
that it names: 13 s of a processor for the views of one dataset. All of it depends on the text alone but for the name
of the dataset, which in tests is another one for each.

parse_one, translate, table_refs    the functions of the same names, which remember
Names                               a text without the names of datasets, and back
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import pyarrow as pa
import sqlglot
from bqemulator.catalog.memory_repository import MemoryCatalogRepository
from bqemulator.catalog.models import TableMeta
from bqemulator.domain.result import Ok
from bqemulator.sql.rewriter.row_access_filter import rewrite_for_row_access
from bqemulator.sql.table_rewriter import rewrite_table_refs
from bqemulator.sql.translator import SQLTranslator
from bqemulator.storage import arrow_bridge
from bqemulator.storage.arrow_bridge import introspect_arrow_schema
from sqlglot import exp

MOST = 2_000  # texts that are remembered
UNIQUE = re.compile(r"\b[A-Za-z]\w*?[0-9a-f]{12,32}\b")  # how tests name a dataset: with the digits of a UUID
T = TypeVar("T")


class Names:
    """The names that occur in a text, each with one that stands for it and that all texts share."""

    def __init__(self, text: str):
        found = dict.fromkeys(UNIQUE.findall(text))
        self._shared = {name: f"name_{number}_of_a_dataset" for number, name in enumerate(found)}
        self._own = {shared: name for name, shared in self._shared.items()}
        self.text = UNIQUE.sub(lambda match: self._shared[match[0]], text)

    def restored(self, text: str) -> str:
        """A text that was made of `self.text`, with the names."""
        for shared, name in self._own.items():
            text = text.replace(shared, name)
        return text

    def put_into(self, tree: exp.Expr) -> exp.Expr:
        """A tree that was made of `self.text`, changed to the names."""
        if self._own:
            for node in tree.walk():
                for key, value in node.args.items():
                    if isinstance(value, str) and "_of_a_dataset" in value:
                        node.set(key, self.restored(value))
        return tree


class Remembered:
    """Results by their keys, those used last."""

    def __init__(self) -> None:
        self._results: OrderedDict[Hashable, Any] = OrderedDict()

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        made = self._results[key] = make()
        while len(self._results) > MOST:
            self._results.popitem(last=False)
        return made


_trees, _translations, _qualified = Remembered(), Remembered(), Remembered()
_parse_one, _translate, _create_table = sqlglot.parse_one, SQLTranslator.translate, MemoryCatalogRepository.create_table
_with_bare_views: set[str] = set()


def parse_one(sql: str, read: Any = None, dialect: Any = None, into: Any = None, **options: Any) -> exp.Expr:
    """A tree of its own for whoever asks."""
    if into is not None or options or not isinstance(sql, str):
        return _parse_one(sql, read=read, dialect=dialect, into=into, **options)
    names = Names(sql)
    tree = _trees.of((names.text, read, dialect), lambda: _parse_one(names.text, read=read, dialect=dialect))
    return names.put_into(tree.copy())


def translate(translator: SQLTranslator, bq_sql: str, *, schema: dict | None = None, caller: Any = None, **more: Any):
    """The statement in DuckDB's SQL; what fails is not remembered, as its message quotes the text."""
    names = Names(bq_sql)
    known = tuple((table, *columns.items()) for table, columns in sorted((schema or {}).items()))
    key = (names.text, known, repr(caller))
    if key not in _translations._results:
        made = _translate(translator, names.text, schema=schema, caller=caller, **more)
        if not isinstance(made, Ok):
            return _translate(translator, bq_sql, schema=schema, caller=caller, **more)
        _translations.of(key, lambda: made.value)
    return Ok(names.restored(_translations.of(key, str)))


def table_refs(duckdb_sql: str, project_id: str) -> str:
    """The SQL with its tables by their whole names."""
    names = Names(duckdb_sql)
    make = lambda: rewrite_table_refs(names.text, project_id)  # noqa: E731
    return names.restored(_qualified.of((names.text, project_id), make))


def create_table(repository: MemoryCatalogRepository, meta: TableMeta) -> Any:
    """Note the datasets with a view that was made without SQL: of it there is a name alone, and no columns."""
    if meta.table_type == "VIEW" and not meta.schema_.fields:
        _with_bare_views.add(meta.dataset_id)
    return _create_table(repository, meta)


def row_access(bq_sql: str, *, project_id: str, caller: Any, catalog: Any) -> str:
    """The SQL with the policies of rows, of which there are mostly none: then views stay views."""
    if not catalog.list_all_row_access_policies() and not any(name in bq_sql for name in _with_bare_views):
        return bq_sql
    return rewrite_for_row_access(bq_sql, project_id=project_id, caller=caller, catalog=catalog)


def with_integers(engine: Any, target: str) -> pa.Schema:
    """The columns of a table or view. A sum of integers, which DuckDB offers as a DECIMAL, is an integer."""
    schema = introspect_arrow_schema(engine, target)
    whole = pa.decimal128(38, 0)
    return pa.schema([each.with_type(pa.int64()) if each.type == whole else each for each in schema])


def remember() -> None:
    """From now on the emulator remembers."""
    from bqemulator.grpc_api import read_servicer
    from bqemulator.jobs import executor
    from bqemulator.scripting import interpreter
    from bqemulator.sql import inner_query

    arrow_bridge.introspect_arrow_schema = with_integers
    sqlglot.parse_one = parse_one
    SQLTranslator.translate = translate
    MemoryCatalogRepository.create_table = create_table
    executor.rewrite_table_refs = interpreter.rewrite_table_refs = table_refs
    inner_query.rewrite_for_row_access = read_servicer.rewrite_for_row_access = row_access
