"""Answers that a refresh keeps beside the tables: a warehouse of its own in the folder `insight/`.

A stream holds the lock of the warehouse as long as it runs, and a refresh has to write beside it. So its tables have a
manifest, a lock and staging folders of their own; whoever reads the warehouse sees them among its tables.
"""

from pathlib import Path

import msgspec

from pipelines.system.terminal import option, word
from pipelines.warehouse.local.manifest import NAME, Manifest, load
from transforms.errors import WarehouseError

FOLDER = "insight"


def places(folder: Path) -> tuple[Path, ...]:
    """The folders with data of a warehouse."""
    return folder, folder / FOLDER


def joined(folder: Path, manifest: Manifest) -> Manifest:
    """A manifest with the tables of answers, whose files are named from the warehouse's folder; a table that a run of
    the warehouse itself writes goes before one of the same name. Raises WarehouseError if theirs is damaged."""
    inner = folder / FOLDER
    if not (inner / NAME).exists():
        return manifest
    try:
        found = load(inner)
    except WarehouseError as problem:
        raise WarehouseError(f"{str(problem).partition(';')[0]}; {remedy(folder)}") from problem
    for name in found.tables.keys() - manifest.tables.keys():
        manifest.tables[name] = found.tables[name]
        manifest.files[name] = {
            day: [msgspec.structs.replace(file, path=f"{FOLDER}/{file.path}") for file in files]
            for day, files in found.files.get(name, {}).items()
        }
        if name in found.uniform:
            manifest.uniform[name] = found.uniform[name]
    return manifest


def remedy(folder: Path) -> str:
    """What brings lost answers back."""
    again = f"audience refresh {option('warehouse', str(folder))}"
    return f"remove {word(str(folder / FOLDER))}, and `{again}` computes the newest answers again"
