"""DuckDB over a local warehouse: a connection that reads the live files of the relations that it has, and nothing else.

    connect(warehouse)         every table and view
    ask(warehouse, sql)        only those that the question names, so that a file of another table is never opened
    ask_unlocked(...)          every table and view, and all that DuckDB can reach: what follows is not true of it

No other file, no network, no extension, no variable of Python can be reached, and no setting changed. What a statement
may be, question.py says: DuckDB has no paths that may be read and not written. Memory is limited to MEMORY of the
machine's (or of its container's); what does not fit is spilled to a temporary folder of the connection's own.

Errors: WarehouseError for a damaged file of a relation; duckdb.Error, OptionError for the question.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import duckdb

from pipelines.warehouse import damage, views
from pipelines.warehouse.manifest import Manifest
from pipelines.warehouse.question import Question, read
from pipelines.warehouse.tables import Table, duckdb_type

if TYPE_CHECKING:
    from pipelines.warehouse.local import LocalWarehouse

MEMORY = "60%"
INTERRUPT_SECONDS = 0.1
T = TypeVar("T")
_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY,
}


class Connection:
    """A DuckDB connection in memory, its session in UTC, with the temporary folder that it spills to.

    What it lacks is DuckDB's own: `sql`, `execute`, ...
    """

    def __init__(self, config: dict[str, str] | None = None):
        self.spill = tempfile.mkdtemp(prefix="audience-query-")
        self.duckdb = duckdb.connect(":memory:", config={**(config or {}), "temp_directory": self.spill})
        self._end = weakref.finalize(self, shutil.rmtree, self.spill, ignore_errors=True)
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="duckdb")
        self.duckdb.execute("SET TimeZone = 'UTC'")

    def __getattr__(self, name: str):
        return getattr(self.duckdb, name)

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, which asks DuckDB. Ctrl-C ends it: DuckDB itself does not look for signals."""
        asked = self._asking.submit(work)
        try:
            while not asked.done():  # a wait without an end is not always woken by a signal: a thread may have got it
                wait([asked], INTERRUPT_SECONDS)
        except KeyboardInterrupt:
            while not asked.done():
                self.duckdb.interrupt()
                wait([asked], INTERRUPT_SECONDS)
            raise
        return asked.result()

    def close(self) -> None:
        """Close it and remove what it spilled."""
        self._asking.shutdown()
        self.duckdb.close()
        self._end()


def connect(warehouse: "LocalWarehouse", locked: bool = True) -> Connection:
    """Every table and view as of now; `locked` False: with all that DuckDB can reach."""
    connection, manifest = Connection(_CLOSED if locked else None), warehouse.manifest()
    made = [*manifest.tables, *(name for name, _ in _views(warehouse, manifest))]
    _create(connection, warehouse, manifest, made, (), locked)
    return connection


class Answer(NamedTuple):
    """The rows of an answer, which live as long as the connection, and the files that they are read from."""

    connection: Connection
    rows: duckdb.DuckDBPyRelation | None
    files: list[damage.Live]


def ask(warehouse: "LocalWarehouse", sql: str) -> Answer:
    """The answer to one question."""
    connection = Connection(_CLOSED)
    question, manifest = read(connection.duckdb, sql), warehouse.manifest()
    real, empty = _chosen(warehouse, manifest, question)
    files = _create(connection, warehouse, manifest, real, empty, True)
    with damage.named(warehouse, files):
        return Answer(connection, connection.run(lambda: connection.duckdb.sql(question.sql)), files)


def ask_unlocked(warehouse: "LocalWarehouse", sql: str) -> Answer:
    """The answer to any statements, of which the last has the rows, with all that DuckDB can reach."""
    connection = connect(warehouse, locked=False)
    return Answer(connection, connection.run(lambda: connection.duckdb.sql(sql)), [])


def _chosen(warehouse: "LocalWarehouse", manifest: Manifest, question: Question) -> tuple[list[str], list[str]]:
    """(relations with their rows, relations that only have to be seen), each after those that it reads."""
    made = dict(_views(warehouse, manifest))
    order = [*manifest.tables, *made]
    known = {name.lower(): name for name in order}
    if question.names is None:
        return order, []
    named = {known[name] for name in question.names if name in known}
    lists = question.lists or not question.names <= known.keys()
    if named & made.keys():
        named |= views.read_by(named & made.keys(), made, manifest.tables)
    return [name for name in order if name in named], [name for name in order if lists and name not in named]


def _views(warehouse: "LocalWarehouse", manifest: Manifest) -> list[tuple[str, str]]:
    return views.bigquery_views(manifest.tables.values(), warehouse.time_zone, manifest.funnel)


def _create(
    connection: Connection,
    warehouse: "LocalWarehouse",
    manifest: Manifest,
    real: Collection[str],
    empty: Collection[str],
    locked: bool,
) -> list[damage.Live]:
    """Make the relations; those of `empty` have their columns, and open no file. Returns the files of the others."""
    files = damage.live(warehouse.folder, manifest, [name for name in manifest.tables if name in real])
    damage.check_sizes(warehouse, files)
    if locked:
        connection.execute(f"SET allowed_paths = [{_listed(each.path for each in files)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    made = dict(_views(warehouse, manifest))
    wanted = {*real, *empty}
    with damage.named(warehouse, files):
        for table in manifest.tables.values():
            if table.name in wanted:
                paths = [each.path for each in files if each.table == table.name]
                connection.execute(f"CREATE VIEW {views.quoted(table.name)} AS {_relation(table, paths)}")
        for name in made:
            if name in wanted:
                connection.execute(f"CREATE VIEW {views.quoted(name)} AS {views.in_duckdb(made[name])}")
    return files


def _relation(table: Table, paths: Collection[Path]) -> str:
    """A SELECT over the files, typed by the declaration also where there are no files or older ones."""
    columns = ", ".join(views.quoted(column.name) for column in table.columns)
    typed = ", ".join(f"CAST(NULL AS {duckdb_type(column)}) AS {views.quoted(column.name)}" for column in table.columns)
    empty = f"SELECT {typed} WHERE false"
    if not paths:
        return empty
    # The parser of file lists expands * ? [ in names, so a folder may not hold them; see LocalWarehouse.open.
    files = f"SELECT * FROM read_parquet([{_listed(paths)}], union_by_name = true, hive_partitioning = false)"
    return f"SELECT {columns} FROM ({empty} UNION ALL BY NAME {files})"


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
