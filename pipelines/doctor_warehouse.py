"""What `audience doctor` tells of a warehouse: format, days, tables, and whether a run is writing it."""

import fcntl
import os
from pathlib import Path

from pipelines.doctor import FOUND, MISSING, WAREHOUSE, WRONG, Check
from pipelines.listening import listeners, tree
from pipelines.terminal import option
from pipelines.warehouse.local import ABOUT, LOCK, LocalWarehouse
from pipelines.warehouse.manifest import LiveFile
from pipelines.warehouse.warehouse import Warehouse, opened
from transforms.errors import WarehouseError

TABLE = "table"


def warehouse_checks(folder: str) -> list[Check]:
    """A row of the warehouse in `folder` and one of each of its tables that has rows; nothing is written."""
    if not (Path(folder) / ABOUT).is_file():
        get = f"audience backfill {option('warehouse', folder)} --input FILES"
        return [Check(WAREHOUSE, folder, MISSING, "no warehouse is there", get=get)]
    try:
        warehouse = LocalWarehouse.open(folder)
        manifest = warehouse.manifest()
    except WarehouseError as problem:
        return [Check(WAREHOUSE, folder, WRONG, str(problem))]
    writer = writing(warehouse.folder)
    written_by = f"being written by process {writer}" if writer else "no run is writing it"
    about = {"format": manifest.format, "time_zone": warehouse.time_zone, "writer": writer}
    told = f"format {manifest.format}, days of {warehouse.time_zone}, {written_by}"
    sockets = socket_checks(writer) if writer else []
    tables = [_table(name, days) for name, days in sorted(manifest.files.items()) if any(days.values())]
    return [Check(WAREHOUSE, folder, FOUND, told, facts=about), *sockets, *tables]


def socket_checks(writer: int) -> list[Check]:
    """A row of what the process that writes the warehouse, and those that it started, listen on; none where this cannot
    be seen."""
    found = listeners(tree(writer))
    if found is None:
        return []
    name, reached = f"sockets of {writer}", [each for each in found if not each.is_local]
    facts = {"listening": [each.address for each in found]}
    if not reached:
        return [Check(WAREHOUSE, name, FOUND, "no other machine reaches it", facts=facts)]
    told = ", ".join(f"process {each.pid} on {each.address}" for each in reached)
    return [
        Check(
            WAREHOUSE, name, WRONG, f"other machines reach {told}", get="stop it; of a stream, make prism", facts=facts
        )
    ]


def dataset_checks(dataset: str) -> list[Check]:
    """A row of the warehouse in a data set of BigQuery; nothing is written."""
    try:
        with opened(dataset, None) as warehouse:
            tables = sorted(warehouse.tables())
    except WarehouseError as problem:
        return [Check(WAREHOUSE, dataset, WRONG, str(problem))]
    about = {"time_zone": warehouse.time_zone, "tables": tables}
    return [Check(WAREHOUSE, dataset, FOUND, f"days of {warehouse.time_zone}, {len(tables)} tables", facts=about)]


def _table(name: str, by_day: dict[str, list[LiveFile]]) -> Check:
    days = sorted(day for day, files in by_day.items() if files)
    live = [file for files in by_day.values() for file in files]
    rows, size = sum(file.rows for file in live), sum(file.bytes for file in live)
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    facts = {"rows": rows, "files": len(live), "bytes": size, "days": len(days), "first": days[0], "last": days[-1]}
    told = f"{rows:>12,} rows  {len(live):>5,} files  {size / (1 << 20):>9,.1f} MiB  {len(days):>5,} days  {span}"
    return Check(TABLE, name, FOUND, told, facts=facts)


def written_by(warehouse: Warehouse) -> str | None:
    """Who writes the warehouse now, so that its books are ahead of or behind its tables."""
    if isinstance(warehouse, LocalWarehouse):
        writer = writing(warehouse.folder)
        return f"process {writer}" if writer else None
    return "a stream" if warehouse.is_streamed() else None


def writing(folder: Path) -> int | None:
    """The process that writes the warehouse now, if one does."""
    try:
        with open(folder / LOCK) as lock:
            process = int(lock.read().strip() or 0)
            if not process or not _is_alive(process):
                return None
            # Only now, as a run that begins while this holds the lock for a moment would be refused.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return process
    except (OSError, ValueError):
        return None
    return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
