"""DuckDB over a local warehouse: a connection that reads the live files of the relations that it has, and nothing else.

    connect(warehouse)         every table and view
    answer(warehouse, sql)     a question, its answer in parts; a person's is asked in the warehouse's time zone
    ask(warehouse, sql)        only those that the question names, so that a file of another table is never opened
    asking(warehouse)          several questions of one state, for a report
    ask_unlocked(...)          every table and view, and all that DuckDB can reach: what follows is not true of it

No other file, no network, no extension, no variable of Python can be reached, and no setting changed. What a statement
may be, question.py says: DuckDB has no paths that may be read and not written. Memory is limited to MEMORY of the
machine's (or of its container's); what does not fit is spilled to a temporary folder of the connection's own.

Errors: WarehouseError for a damaged file of a relation; duckdb.Error, OptionError for the question.
"""

import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import duckdb
import polars as pl

from pipelines.warehouse import views
from pipelines.warehouse.bounds import NONE, Bounds, too_slow
from pipelines.warehouse.interface import Result
from pipelines.warehouse.local import damage
from pipelines.warehouse.local.manifest import Manifest
from pipelines.warehouse.local.question import read
from pipelines.warehouse.local.relations import Relations, Shown, chosen, in_order
from pipelines.warehouse.refusal import Known, point, refuse
from pipelines.warehouse.tables import TYPES
from transforms.errors import OptionError, QueryError, WarehouseError, first_line

MEMORY = "60%"
INTERRUPT_SECONDS = 0.1
SMALL_BYTES = 256 * 2**20  # of all files: below, a second thread costs more than it saves
T = TypeVar("T")
BATCH_ROWS = 50_000
NOT_IN_ARROW = re.compile(r"\b(INTERVAL|UUID|MAP|UNION|ENUM|TIME|BIT|BIGNUM|VARIANT|GEOMETRY|\"NULL\")\b")
_END = re.compile(r" <Token.*")  # how sqlglot writes that nothing follows
_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY,
}


# A type of DuckDB, without its digits -> BigQuery's; the first of two of BigQuery's that are one here.
_TYPES = {kind.partition("(")[0]: name for name, (_, kind) in reversed(TYPES.items())}
_TYPES |= {"HUGEINT": "INT64", "INTEGER": "INT64"}


class Connection:
    """A DuckDB connection in memory, its session in `time_zone`, with the temporary folder that it spills to; what is
    asked of it is stopped `seconds` after it was opened.

    What it lacks is DuckDB's own: `sql`, `execute`, ...
    """

    def __init__(self, config: dict[str, str] | None = None, time_zone: str = "UTC", seconds: float | None = None):
        self._seconds = seconds
        self._until = time.monotonic() + seconds if seconds is not None else float("inf")
        self.spill = tempfile.mkdtemp(prefix="audience-query-")
        self.duckdb = duckdb.connect(":memory:", config={**(config or {}), "temp_directory": self.spill})
        self._end = weakref.finalize(self, shutil.rmtree, self.spill, ignore_errors=True)
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="duckdb")
        self.duckdb.execute(f"SET TimeZone = '{time_zone}'")

    def __getattr__(self, name: str):
        return getattr(self.duckdb, name)

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, which asks DuckDB. Ctrl-C ends it: DuckDB itself does not look for signals.

        Errors: QueryError when its time is over.
        """
        asked = self._asking.submit(work)
        try:
            while not asked.done():  # a wait without an end is not always woken by a signal: a thread may have got it
                if time.monotonic() > self._until:
                    raise too_slow(self._seconds)
                wait([asked], INTERRUPT_SECONDS)
        except (KeyboardInterrupt, QueryError):
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


def connect(warehouse: Relations, locked: bool = True, time_zone: str = "UTC") -> Connection:
    """Every table and view as of now; `locked` False: with all that DuckDB can reach."""
    connection, manifest = Connection(_CLOSED if locked else None, time_zone), warehouse.manifest()
    names = in_order(warehouse, manifest)
    Shown(connection.execute, warehouse, manifest, names, locked).make(names)
    return connection


@contextmanager
def asking(
    warehouse: Relations, manifest: Manifest | None = None, with_views: bool = True
) -> Iterator[Callable[[str], pl.DataFrame]]:
    """Answers to several questions of one state, each whole: its files are listed once, a table or view is made when a
    question first names it.

    manifest    that state; it may have some of the live files, of whose tables alone is asked, so without views
    """
    manifest = manifest or warehouse.manifest()
    size = sum(file.bytes for days in manifest.files.values() for files in days.values() for file in files)
    few = {"threads": "1"} if size < SMALL_BYTES else {}
    connection = Connection(_CLOSED | few)
    try:
        names = in_order(warehouse, manifest) if with_views else [*manifest.tables]
        shown = Shown(connection.execute, warehouse, manifest, names)
        if not with_views:  # to make the tables takes less than to look at each question
            shown.make(names)

        def ask_one(sql: str) -> pl.DataFrame:
            if with_views:
                real, empty = chosen(warehouse, manifest, read(connection.duckdb, sql))
                shown.make([*real, *empty])
            with damage.explain_errors(warehouse, shown.files):
                rows = connection.run(lambda: connection.duckdb.sql(sql))
                return connection.run(lambda: pl.scan_arrow_c_stream(rows).collect())

        yield ask_one
    finally:
        connection.close()


class Answer(NamedTuple):
    """The rows of an answer, which live as long as the connection, and the files that they are read from."""

    connection: Connection
    rows: duckdb.DuckDBPyRelation | None
    files: list[damage.Live]


def ask(warehouse: Relations, sql: str, time_zone: str = "UTC", bounds: Bounds = NONE) -> Answer:
    """The answer to one question."""
    connection = Connection(_CLOSED, time_zone, bounds.seconds)
    values = [each.value for each in bounds.parameters]
    question, manifest = read(connection.duckdb, sql, values), warehouse.manifest()
    if bounds.relations is not None:
        bounds.check(question.reach({name.lower() for name in warehouse.names()}))
    real, empty = chosen(warehouse, manifest, question)
    shown = Shown(connection.execute, warehouse, manifest, real, question=question)
    shown.make([*real, *empty])
    with damage.explain_errors(warehouse, shown.files):
        try:
            rows = connection.run(lambda: connection.duckdb.sql(question.sql, params=values or None))
            return Answer(connection, rows, shown.files)
        except (duckdb.CatalogException, duckdb.BinderException):
            connection.duckdb.execute(question.sql, values)  # which says the same, and where; a relation does not
            raise


def ask_unlocked(warehouse: Relations, sql: str, time_zone: str = "UTC") -> Answer:
    """The answer to any statements, of which the last has the rows, with all that DuckDB can reach."""
    connection = connect(warehouse, locked=False, time_zone=time_zone)
    return Answer(connection, connection.run(lambda: connection.duckdb.sql(sql)), [])


def columns(warehouse: Relations, names: Collection[str]) -> dict[str, dict[str, str]]:
    """The columns of tables and views, each with its type as BigQuery names it; of other types OTHER.

    Errors: WarehouseError if there is none of a name.
    """
    connection, manifest = Connection(_CLOSED), warehouse.manifest()
    made = dict(warehouse.views(manifest))
    if strange := sorted({*names} - {*in_order(warehouse, manifest)}):
        raise WarehouseError(f"{strange[0]!r} is no table or view of this warehouse")
    read_too = views.read_by({*names} & made.keys(), made, manifest.tables, warehouse.time_zone)
    try:
        Shown(connection.execute, warehouse, manifest, ()).make({*names, *read_too})
        found = {name: connection.execute(f"DESCRIBE {views.quote(name)}").fetchall() for name in names}
    finally:
        connection.close()
    return {name: {row[0]: _bigquery_type(row[1]) for row in rows} for name, rows in found.items()}


def _bigquery_type(kind: str) -> str:
    return "OTHER" if kind.endswith("]") else _TYPES.get(kind.partition("(")[0], "OTHER")


def answer(warehouse: Relations, sql: str, dialect: str, unsafe: bool, time_zone: str, bounds: Bounds = NONE) -> Result:
    """The answer to a question in DuckDB's or BigQuery's SQL, in a session of this time zone; see Folder.answer."""
    translated = _translated(sql, warehouse) if dialect == "bigquery" else sql
    try:
        if unsafe:
            found = ask_unlocked(warehouse, translated, time_zone)
        else:
            found = ask(warehouse, translated, time_zone, bounds)
        relation = found.rows
        if relation is None:  # a statement without rows, as SET
            return Result([], iter(()))
        names = _unique(relation.columns)
        kinds = [str(kind).replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMP") for kind in relation.types]
        chosen = (
            f"{f'CAST(#{n} AS VARCHAR)' if NOT_IN_ARROW.search(kind) else f'#{n}'} AS {views.quote(name)}"
            for n, (name, kind) in enumerate(zip(names, kinds, strict=True), 1)
        )
        is_plain = names == relation.columns and not any(map(NOT_IN_ARROW.search, kinds))
        rows = relation if is_plain else relation.project(", ".join(chosen))  # which looks at every file list again
        return Result(names, _batches(found._replace(rows=rows), warehouse, sql, translated), time_zone)
    except duckdb.Error as error:
        raise _refused(error, warehouse, sql, translated) from error


def _translated(sql: str, warehouse: Relations) -> str:
    from sqlglot.errors import ParseError, SqlglotError  # which takes its time, and only BigQuery's SQL needs it

    from pipelines.warehouse.dialect import to_duckdb

    try:
        return to_duckdb(sql)
    except ParseError as error:
        if not error.errors:
            raise QueryError(f"query: {error}") from error
        first = error.errors[0]
        word = first["highlight"] or " "
        place = point(sql, first["line"], first["col"] - len(word) + 1, len(word))
        raise QueryError(f"query: {_END.sub(' the end', first['description'])}{place}") from error
    except SqlglotError as error:
        raise QueryError(f"query: {first_line(error)}") from error


def _batches(answer: Answer, warehouse: Relations, sql: str, translated: str) -> Iterator[pl.DataFrame]:
    """The rows, once; the connection lives until they are read."""
    rows = answer.rows
    assert rows is not None, "only of an answer that has rows"
    try:
        with damage.explain_errors(warehouse, answer.files):
            # By Arrow's C interface: PyArrow would take longer to import than most questions to answer.
            scan = answer.connection.run(lambda: pl.scan_arrow_c_stream(rows))
            yield pl.DataFrame(schema=scan.collect_schema())
            batches = scan.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
            while (batch := answer.connection.run(lambda: next(batches, None))) is not None:
                yield batch
    except (duckdb.Error, pl.exceptions.PolarsError) as error:  # Polars hands on an error of DuckDB's as its own
        raise _refused(error, warehouse, sql, translated) from error
    finally:
        answer.connection.close()


def _refused(problem: Exception, warehouse: Relations, sql: str, translated: str) -> QueryError:
    tables, names = warehouse.tables().keys(), warehouse.names()
    known = Known(tables, names - tables, lambda: _columns(warehouse, translated))
    return refuse(str(problem), sql, known, sql != translated)


def _columns(warehouse: Relations, sql: str) -> dict[str, list[str]]:
    """The columns of the relations that a statement names."""
    connection, manifest = Connection(_CLOSED), warehouse.manifest()
    try:
        question = read(connection.duckdb, sql)
        real, _ = chosen(warehouse, manifest, question)
        Shown(connection.execute, warehouse, manifest, ()).make(real)
        named = [name for name in real if name.lower() in (question.names or ())]
        return {name: connection.duckdb.table(views.quote(name)).columns for name in named}
    except (OptionError, duckdb.Error):  # of several statements, or of what made another fail
        return {}
    finally:
        connection.close()


def _unique(names: list[str]) -> list[str]:
    """Names as DuckDB compares them, without case: of two equal ones the second gets a number."""
    made: list[str] = []
    for name in names:
        taken = {each.lower() for each in made}
        fresh = (f"{name}_{n}" if n else name for n in range(len(names)))
        made.append(next(each for each in fresh if each.lower() not in taken))
    return made
