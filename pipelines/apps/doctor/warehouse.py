"""`audience doctor`: report on a warehouse: format, days, tables, whether a run is writing it, and problems.

Problems are damaged files, and files that belong to no table.
"""

import time
from pathlib import Path

from pipelines.apps.doctor.check import FILE, FOUND, MISSING, WAREHOUSE, WRONG, Check
from pipelines.system.disk import lock_holder
from pipelines.system.listening import listeners, tree
from pipelines.system.terminal import option
from pipelines.warehouse.local import answers, damage
from pipelines.warehouse.local.manifest import ABOUT, DATA, STAGING, LiveFile, Manifest
from pipelines.warehouse.local.run import RETIRED_SECONDS
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from transforms.errors import WarehouseError

TABLE = "table"
LEFT = "left over"
NAMED = 20  # left-over files that get a row each


def warehouse_checks(folder: str, deep: bool = False) -> list[Check]:
    """Return rows for the warehouse in `folder`, each table that has rows, each damaged file, and each file that a
    killed run left; nothing is written. `deep` reads every file and verifies its checksum."""
    if not (Path(folder) / ABOUT).is_file():
        get = f"audience backfill {option('warehouse', folder)} --input FILES"
        return [Check(WAREHOUSE, folder, MISSING, "no warehouse", get=get)]
    try:
        warehouse = LocalWarehouse.open(folder)
        manifest = warehouse.manifest()
    except WarehouseError as problem:
        return [Check(WAREHOUSE, folder, WRONG, str(problem))]
    writer = lock_holder(warehouse.folder)
    written_by = f"being written by process {writer}" if writer else "no run is writing it"
    about = {"format": manifest.format, "time_zone": warehouse.time_zone, "writer": writer}
    detail = f"format {manifest.format}, days in {warehouse.time_zone}, {written_by}"
    sockets = socket_checks(writer) if writer else []
    tables = [_table(name, days) for name, days in sorted(manifest.files.items()) if any(days.values())]
    left = [] if writer else _list_left_over(warehouse.folder, manifest)
    rows = [Check(WAREHOUSE, folder, FOUND, detail, facts=about), *sockets, *tables]
    return [*rows, *_check_files(warehouse, manifest, deep), *left]


def socket_checks(writer: int) -> list[Check]:
    """Return a row on what the process that writes the warehouse, and its children, listen on; none if this cannot be
    determined."""
    found = listeners(tree(writer))
    if found is None:
        return []
    name, reached = f"sockets of {writer}", [each for each in found if not each.is_local]
    facts = {"listening": [each.address for each in found]}
    if not reached:
        return [Check(WAREHOUSE, name, FOUND, "not reachable from other machines", facts=facts)]
    listed = ", ".join(f"process {each.pid} on {each.address}" for each in reached)
    detail = f"reachable from other machines: {listed}"
    return [Check(WAREHOUSE, name, WRONG, detail, get="stop it; for a stream, run make prism", facts=facts)]


def _check_files(warehouse: LocalWarehouse, manifest: Manifest, deep: bool) -> list[Check]:
    """Return a row for each damaged file, except one that a run has replaced meanwhile."""
    files = damage.live(warehouse.folder, manifest, manifest.tables)
    found = list(damage.faults(files, manifest.tables, deep))
    live = warehouse.manifest().paths() if found else set()
    rows = [
        Check(
            FILE,
            str(fault.live.path),
            WRONG,
            f"table {fault.live.table}, day {fault.live.day}: {fault.what}",
            get=damage.remedy(warehouse, fault),
            facts={"table": fault.live.table, "day": fault.live.day, "rows": fault.live.file.rows},
        )
        for fault in found
        if fault.live.file.path in live
    ]
    unknown = sum(not each.file.xxh3 for each in files)
    if deep and unknown:
        detail = f"{unknown:,} of {len(files):,} files have no checksum, as an older version wrote them; they were read"
        rows.append(Check(FILE, "no checksum", FOUND, detail, facts={"files": unknown}))
    return rows


def _list_left_over(folder: Path, manifest: Manifest) -> list[Check]:
    """Return a row for each staging folder and each data file that is not live, while no run is writing.

    Files of the last ten minutes share one row: most were replaced by a commit, and stay for readers.
    """
    live, recent = manifest.paths(), time.time() - RETIRED_SECONDS
    places = answers.places(folder)
    files = [path for place in places for path in sorted((place / DATA).glob("*/*/*"))]
    stray = [path for path in files if str(path.relative_to(folder)) not in live]
    young = [path for path in stray if path.lstat().st_mtime > recent]
    staged = [path for place in places for path in sorted((place / STAGING).glob("*"))]
    named = [(path, "staged by a run that ended early") for path in staged]
    named += [(path, "belongs to no table") for path in stray if path not in young]
    goes = "the next run that writes removes it"
    rows = [Check(LEFT, str(path), FOUND, f"{why}: {goes}") for path, why in named[:NAMED]]
    if len(named) > NAMED:
        rows.append(Check(LEFT, f"and {len(named) - NAMED:,} more", FOUND, goes, facts={"files": len(named)}))
    if young:
        detail = f"replaced less than ten minutes ago, starting with {young[0]}: a later run that writes removes them"
        facts = {"paths": [str(path) for path in young]}
        rows.append(Check(LEFT, f"{len(young):,} files", FOUND, detail, facts=facts))
    return rows


def dataset_checks(dataset: str) -> list[Check]:
    """Return a row for the warehouse in a BigQuery dataset; nothing is written."""
    try:
        with open_warehouse(dataset, None) as warehouse:
            tables = sorted(warehouse.tables())
    except WarehouseError as problem:
        return [Check(WAREHOUSE, dataset, WRONG, str(problem))]
    about = {"time_zone": warehouse.time_zone, "tables": tables}
    return [Check(WAREHOUSE, dataset, FOUND, f"days in {warehouse.time_zone}, {len(tables)} tables", facts=about)]


def _table(name: str, by_day: dict[str, list[LiveFile]]) -> Check:
    days = sorted(day for day, files in by_day.items() if files)
    live = [file for files in by_day.values() for file in files]
    rows, size = sum(file.rows for file in live), sum(file.bytes for file in live)
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    facts = {"rows": rows, "files": len(live), "bytes": size, "days": len(days), "first": days[0], "last": days[-1]}
    detail = f"{rows:>12,} rows  {len(live):>5,} files  {size / (1 << 20):>9,.1f} MiB  {len(days):>5,} days  {span}"
    return Check(TABLE, name, FOUND, detail, facts=facts)
