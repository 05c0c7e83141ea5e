"""The tables and views of a folder in a DuckDB connection, which reads the files of one state of it and nothing else.

    in_order(warehouse, manifest)            every table and view, each after those that it reads
    chosen(warehouse, manifest, question)    those that a question needs
    Shown(execute, ...).make(names)          makes them

To make a view, DuckDB opens files of what it reads: so only those are made that a question names.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

from pipelines.warehouse import views
from pipelines.warehouse.day_files import day_from
from pipelines.warehouse.local import damage
from pipelines.warehouse.local.asked_days import narrowed
from pipelines.warehouse.local.kept_views import Parts, kept_days_of, kept_paths
from pipelines.warehouse.local.manifest import Manifest
from pipelines.warehouse.local.question import Question
from pipelines.warehouse.tables import FILE_DAY, Table, duckdb_type
from pipelines.warehouse.views import Reach


class Relations(damage.Files, Protocol):
    """What is asked: the tables of a folder, and the views over them."""

    time_zone: str

    def names(self) -> set[str]:
        """Every table and view that may be asked."""

    def tables(self) -> dict[str, Table]:
        """The declared tables."""

    def views(self, manifest: Manifest) -> list[tuple[str, str]]:
        """(name, BigQuery SQL) of every view, in the order of creation."""

    def reaches(self, manifest: Manifest, name: str) -> dict[str, Reach | None]:
        """How far from a day that is asked of a table or view the rows lie that it reads of each table."""


def in_order(warehouse: Relations, manifest: Manifest) -> list[str]:
    """Every table and view, each after those that it reads."""
    return [*manifest.tables, *(name for name, _ in warehouse.views(manifest))]


def chosen(warehouse: Relations, manifest: Manifest, question: Question) -> tuple[list[str], list[str]]:
    """(relations with their rows, relations that only have to be seen), each after those that it reads."""
    made, order = dict(warehouse.views(manifest)), in_order(warehouse, manifest)
    known = {name.lower(): name for name in order}
    if question.names is None:
        return order, []
    named = {known[name] for name in question.names if name in known}
    lists = question.lists or not question.names - question.own <= known.keys()
    if computed := named & made.keys():
        computed -= kept_paths(warehouse.folder, manifest, made, warehouse.time_zone, named).keys()
        named |= views.read_by(computed, made, manifest.tables, warehouse.time_zone)
    return [name for name in order if name in named], [name for name in order if lists and name not in named]


class Shown:
    """The relations of one state of a folder, as a connection shows them.

    files   those that it reads
    """

    def __init__(
        self,
        execute: Callable[[str], Any],
        warehouse: Relations,
        manifest: Manifest,
        real: Collection[str],
        locked: bool = True,
        question: Question | None = None,
    ):
        """`real`: those that have rows, of the days that the `question` can be about; others have columns alone.
        `locked`: nothing but their files can be read from now on."""
        self._execute, self._warehouse, self._manifest = execute, warehouse, manifest
        self._views, self._made, zone = dict(warehouse.views(manifest)), set[str](), warehouse.time_zone
        kept = kept_paths(warehouse.folder, manifest, self._views, zone, real)
        shown = manifest
        if question and question.names is not None:
            named = [name for name in real if name.lower() in question.names and name not in kept]
            shown = narrowed(manifest, question.spans, {name: warehouse.reaches(manifest, name) for name in named})
        self._parts = kept_days_of(warehouse, manifest, shown, self._views, {*real} - kept.keys())
        self._parts |= {name: Parts([path]) for name, path in kept.items()}
        self.files = damage.live(warehouse.folder, shown, [name for name in manifest.tables if name in real])
        self._days = {day for each in self.files if (day := day_from(each.day))}
        damage.check_sizes(warehouse, self.files)
        if locked:
            paths = [each.path for each in self.files] + [path for part in self._parts.values() for path in part.paths]
            execute(f"SET allowed_paths = [{_listed(paths)}]")
            execute("SET enable_external_access = false")
            execute("SET lock_configuration = true")

    def make(self, names: Collection[str]) -> None:
        """Make those that are not made yet; `names` holds what each view of it reads as well.

        Errors: WarehouseError for a damaged file.
        """
        wanted = {*names} - self._made
        with damage.explain_errors(self._warehouse, self.files):
            for table in (each for each in self._manifest.tables.values() if each.name in wanted):
                paths = [each.path for each in self.files if each.table == table.name]
                self._run(table.name, views.duckdb_relation(table.name, _rows_of(table, paths, self._manifest)))
            for name in (each for each in self._views if each in wanted):
                self._run(name, self._statements(name))

    def _statements(self, name: str) -> list[str]:
        part, zone = self._parts.get(name, Parts([])), self._warehouse.time_zone
        statements = views.duckdb_statements(name, self._views[name], zone, part.paths, part.others)
        macros = [each for each in views.days_later_macros(self._days, statements) if each not in self._made]
        self._made |= {*macros}
        return [*macros, *statements]

    def _run(self, name: str, statements: Iterable[str]) -> None:
        for statement in statements:
            self._execute(statement)
        self._made.add(name)


def _rows_of(table: Table, paths: Collection[Path], manifest: Manifest) -> str:
    """A SELECT over the files with FILE_DAY, typed by the declaration also where there are no files or older ones.
    Where all files have the same columns, DuckDB need not open each before it begins."""
    columns = ", ".join(views.quote(column.name) for column in table.columns)
    typed = ", ".join(f"CAST(NULL AS {duckdb_type(column)}) AS {views.quote(column.name)}" for column in table.columns)
    empty = f"SELECT {typed}, CAST(NULL AS VARCHAR) AS filename WHERE false"
    # Of the folder's name: a condition on the day of a file decides which files are opened at all.
    day = f"TRY_CAST(split_part(filename, '/', -2) AS DATE) AS {FILE_DAY}"
    if not paths:
        return f"SELECT {columns}, {day} FROM ({empty})"
    # The parser of file lists expands * ? [ in names, so a folder may not hold them; see Folder.open.
    by_name = "" if table.name in manifest.uniform else "union_by_name = true, "
    files = f"SELECT * FROM read_parquet([{_listed(paths)}], {by_name}hive_partitioning = false, filename = true)"
    return f"SELECT {columns}, {day} FROM ({empty} UNION ALL BY NAME {files})"


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
