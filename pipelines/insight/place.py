"""Where answers are: among the tables of a dataset; of a local warehouse, beside its tables in `insight/`.

A stream into a local warehouse holds its lock as long as it runs. `insight/` has a lock and a manifest of its own, and
whoever reads the warehouse sees its tables (pipelines/warehouse/local/answers.py).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.system.disk import WRITE_ERRORS, cannot_write
from pipelines.system.private import mask_of, umask
from pipelines.warehouse.answers import is_answer
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.answers import FOLDER
from pipelines.warehouse.local.manifest import NAME
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.errors import WarehouseError

PATIENCE, LOOK_SECONDS = 300.0, 0.5


@contextmanager
def answers_of(warehouse: Warehouse) -> Iterator[Warehouse]:
    """The warehouse that a refresh of this one writes; it is made if it does not exist. Errors: WarehouseError."""
    if warehouse.local_path is None:
        yield warehouse
        return
    folder = warehouse.local_path / FOLDER
    _make(warehouse.local_path, folder)
    inner = LocalWarehouse.open(folder, warehouse.time_zone, create=True)
    with inner.explain_errors():
        yield inner


def forget_answers(warehouse: Warehouse) -> None:
    """Remove all answers, as the rows of a person that they count are gone: the next refresh computes them again.

    Waits for a refresh that runs: it may have read what is gone. Errors: WarehouseError if that takes PATIENCE.
    """
    there = [table.name for table in warehouse.tables().values() if is_answer(table)]
    if warehouse.local_path is not None and not (warehouse.local_path / FOLDER / NAME).exists():
        return
    if warehouse.local_path is None and not there:
        return
    until = time.monotonic() + PATIENCE
    with answers_of(warehouse) as inner:
        while True:
            try:
                with inner.writer(of_answers=True) as run:
                    run.commit([], dict.fromkeys(there))
                    return run.purge()
            except WarehouseError:
                if time.monotonic() > until:
                    raise
            time.sleep(LOOK_SECONDS)


def _make(outer: Path, folder: Path) -> None:
    """The folder with the mode of the warehouse's: whom that is shared with may read the answers, too."""
    try:
        with umask(mask_of(outer)):
            folder.mkdir(exist_ok=True)
    except WRITE_ERRORS as error:
        raise cannot_write(folder, error) from error
