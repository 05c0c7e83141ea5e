"""Answers of views that need all of history, kept beside the tables until what they were computed from changes.

    views/<view>-<state>.parquet    the rows of a view; the state stands for its SQL and for every file that it reads

Views of a day that others read, or many questions, are kept by day (kept_days.py): BY_DAY. Of these a question computes
the days alone that have changed since the last refresh.

A question takes the kept rows where the state is that of the warehouse now, and computes the view otherwise: so no late
event, recompute, replay or erasure has to remember them. What is out of date goes with the next run that writes, and at
once when a person is erased: some views have rows about people.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from pipelines.warehouse import views
from pipelines.warehouse.day_files import UNKNOWN
from pipelines.warehouse.local.kept_days import DayRows, KeptDays, Source, write_rows
from pipelines.warehouse.local.manifest import Manifest

if TYPE_CHECKING:
    from pipelines.warehouse.local.folder import Folder

FOLDER = "views"
KEPT = (
    "activity_by_day",
    "lifecycle_by_day",
    "retention_by_day",
    "retention_by_week",
    "content_leaderboard",
    "rfm_segments",
    "identities",
)

BY_DAY = ("visits", "active_days", "engagement_by_content")


class Parts(NamedTuple):
    """Files with rows of a view, and a condition on `day` for the rows that they lack; None: they have all."""

    paths: list[Path]
    others: str | None = None


class Refreshed(NamedTuple):
    """A view whose answer is kept: how many rows, and whether they were written now."""

    view: str
    rows: int
    is_new: bool


def kept_paths(
    folder: Path, manifest: Manifest, made: Mapping[str, str], time_zone: str, names: Collection[str]
) -> dict[str, Path]:
    """The files of those of the views whose kept rows are those of the warehouse now; `made`: name -> BigQuery SQL."""
    paths = {name: _path(folder, manifest, made, time_zone, name) for name in KEPT if name in made and name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def kept_days_of(
    warehouse: "Source", manifest: Manifest, shown: Manifest, made: Mapping[str, str], names: Collection[str]
) -> dict[str, Parts]:
    """Of those of the views that are kept by day what is kept of them.

    shown  the manifest with the files of the days that are asked
    made   name -> BigQuery SQL
    """
    kept, found = KeptDays(warehouse, manifest), {}
    for name in BY_DAY:
        if name in names and name in made:
            rows = _day_rows(manifest, made, warehouse.time_zone, name)
            days = {each: kept.path(rows, each) for each in KeptDays(warehouse, shown).days(rows)}
            paths = {each: path for each, path in days.items() if path.is_file()}
            missing = [f"DATE '{each}'" for each in days if each not in paths]
            others = [f"day IN ({', '.join(missing)})"] if missing else []
            others += ["day IS NULL"] if shown.files.get(rows.tables[0], {}).get(UNKNOWN) else []
            if paths:
                found[name] = Parts([*paths.values()], " OR ".join(others) or None)
    return found


def keep_days(warehouse: "Folder", but_newest: int = 0) -> None:
    """Compute and keep the days of the views of BY_DAY that are not kept, without so many of the newest days.

    Raises WarehouseError as `refresh`.
    """
    import polars as pl

    manifest = warehouse.manifest()
    made, kept = dict(warehouse.views(manifest)), KeptDays(warehouse, manifest)
    for name in (each for each in BY_DAY if each in made):
        rows = _day_rows(manifest, made, warehouse.time_zone, name)
        days = kept.days(rows)
        for run in kept.missing(rows, days[: len(days) - but_newest]):
            asked = f"SELECT * FROM {name} WHERE day BETWEEN DATE '{run[0]}' AND DATE '{run[-1]}'"
            found = warehouse.answer(asked).frame()
            kept.keep(rows, {day: found.filter(pl.col("day") == day) for day in run})


def refresh(warehouse: "Folder") -> list[Refreshed]:
    """Compute and keep the views and the days whose answers are not kept; nothing is written for the others.

    Raises WarehouseError for a damaged file of a table, or a folder that cannot be written.
    """
    import polars as pl

    keep_days(warehouse)
    manifest = warehouse.manifest()
    made = dict(warehouse.views(manifest))
    done = []
    for name in KEPT:
        if name not in made:
            continue
        path = _path(warehouse.folder, manifest, made, warehouse.time_zone, name)
        if path.is_file():
            done.append(Refreshed(name, pl.scan_parquet(path, glob=False).select(pl.len()).collect().item(), False))
            continue
        rows = warehouse.answer(f"SELECT * FROM {name}").frame()
        # A commit since then: the rows may be those of either state, and the next refresh keeps them.
        now = _path(warehouse.folder, warehouse.manifest(), made, warehouse.time_zone, name)
        if now == path:
            write_rows(warehouse.folder, path, rows)
            done.append(Refreshed(name, rows.height, True))
    return done


def sweep(folder: Path, manifest: Manifest, made: Mapping[str, str], time_zone: str, seconds: float) -> None:
    """Remove what no question takes any more, once it is so many seconds old: a reader may be at it. Raises OSError."""
    live = kept_paths(folder, manifest, made, time_zone, KEPT).values()
    for path in (folder / FOLDER).glob("*"):
        with suppress(FileNotFoundError):
            if path not in live and path.stat().st_mtime <= time.time() - seconds:
                path.unlink()


def _day_rows(manifest: Manifest, made: Mapping[str, str], time_zone: str, name: str) -> DayRows:
    read = views.read_by([name], made, manifest.tables, time_zone)
    tables = tuple(sorted(read & manifest.tables.keys()))
    reach = next(view.around for view in views.VIEWS if view.name == name)
    assert reach is not None and len(tables) == 1, "a view of the days of one table"
    texts = [made[each] for each in sorted({name, *read} & made.keys())]
    columns = [f"{column.name} {column.type}" for column in manifest.tables[tables[0]].columns]
    return DayRows(name, tables, reach.before, reach.after, "\n".join([*texts, *columns]))


def _path(folder: Path, manifest: Manifest, made: Mapping[str, str], time_zone: str, name: str) -> Path:
    read = views.read_by([name], made, manifest.tables, time_zone)
    state = [made[each] for each in sorted({name, *read} & made.keys())]
    for table in sorted(read & manifest.files.keys()):
        state += sorted(f"{file.path} {file.xxh3}" for files in manifest.files[table].values() for file in files)
    digest = xxhash.xxh3_128_hexdigest("\n".join(state).encode())
    return folder / FOLDER / f"{name}-{digest}.parquet"
