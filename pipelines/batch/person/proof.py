"""The proof of an erasure: a row of `erasures` per identifier, which only the holder of a key can attribute.

    key_of(warehouse, given)         the existing key, or None
    make_key(warehouse, given)       the existing key, or a new one
    proofs(warehouse, ids, key)      which identifiers were erased, and when, according to the proofs
    rows(...)                        the proof to commit

The identifier is stored as an HMAC-SHA256, since a plain hash of an e-mail address can be found by trying addresses.
The key is a file that only its owner may read: `erasure.key` in the folder of a local warehouse, else the file named by
`--proof_key`. Whoever holds the key can check an identifier; without it, nobody can.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from pipelines.system.disk import sync_folder
from pipelines.version import VERSION
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.sink import shaped
from pipelines.warehouse.tables import ERASURES
from transforms.errors import OptionError, WarehouseError

FILE = "erasure.key"
LEAST_BYTES = 16


class Key(NamedTuple):
    """A key of proofs, and the file that holds it."""

    secret: bytes
    path: Path

    @property
    def id(self) -> str:
        """An id of the key that does not reveal it."""
        return hashlib.sha256(b"audience erasure key" + self.secret).hexdigest()[:16]

    def subject(self, id: str) -> str:
        """Return the identifier as stored in a proof."""
        return hmac.new(self.secret, id.encode(), hashlib.sha256).hexdigest()


class Proved(NamedTuple):
    """The proofs: (identifier, time, proof) of those made with the key, and the number made with other keys."""

    of_ids: list[tuple[str, datetime, str]]
    by_other_keys: int


def key_of(warehouse: Warehouse, given: str | None) -> Key | None:
    """Return the key in the given file, else in that of a local warehouse. OptionError if it is not a key."""
    path = _path(warehouse, given)
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OptionError(f"--proof_key: {path} cannot be read: {error.strerror}; check its permissions") from error
    if len(secret) < LEAST_BYTES:
        raise OptionError(
            f"--proof_key: {path} has {len(secret)} bytes; allowed: a file of at least {LEAST_BYTES} random bytes, "
            "or the name of a new file to create"
        )
    return Key(secret, path)


def make_key(warehouse: Warehouse, given: str | None) -> Key:
    """Return the existing key, or create one in a file that only its owner may read. The caller holds the lock."""
    if (key := key_of(warehouse, given)) is not None:
        return key
    path = _path(warehouse, given)
    if path is None:
        raise OptionError(
            "--proof_key: missing; allowed: the name of a file with the key of the proof, created if it does not "
            "exist; keep it apart from the data"
        )
    secret = secrets.token_hex(32).encode()
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        for left in path.parent.glob(f"{path.name}.*.tmp") if given is None else ():
            left.unlink()  # of a killed run: the lock of the warehouse is held
        with open(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secret + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another run was faster; its key is used
            os.link(aside, path)
        os.unlink(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise WarehouseError(
            f"cannot create {path}: {error.strerror}; it must hold the key of the proof, check its folder"
        ) from error
    key = key_of(warehouse, given)
    assert key is not None
    return key


def proofs(warehouse: Warehouse, ids: Sequence[str], key: Key | None) -> Proved:
    """Return the proofs in `erasures` for the identifiers."""
    if ERASURES.name not in warehouse.tables():
        return Proved([], 0)
    columns = ["erased_time", "subject_hmac", "key_id"]
    if not set(columns) <= {column.name for column in warehouse.table(ERASURES.name).columns}:
        return Proved([], sum(warehouse.rows_by_day(ERASURES.name).values()))
    known = warehouse.scan(ERASURES.name, columns=columns).sort("erased_time").collect()
    mine = known.filter(pl.col("key_id") == (key.id if key else ""))
    subjects = {key.subject(id): id for id in ids} if key else {}
    found = [(subjects[subject], time, subject) for time, subject, _ in mine.iter_rows() if subject in subjects]
    return Proved(found, len(known) - len(mine))


def rows(ids: Sequence[str], key: Key, said: dict[str, Any]) -> pl.DataFrame:
    """Return rows of `erasures`; `said` are its JSON columns."""
    now = datetime.now(UTC)
    stated = {name: [msgspec.json.encode(value).decode()] * len(ids) for name, value in said.items()}
    proof = pl.DataFrame(
        {
            "erased_time": [now] * len(ids),
            "subject_hmac": list(map(key.subject, ids)),
            "key_id": [key.id] * len(ids),
            **stated,
            "pipeline_version": [VERSION] * len(ids),
        }
    )
    return shaped(proof, ERASURES)


def _path(warehouse: Warehouse, given: str | None) -> Path | None:
    if given is not None:
        return Path(given)
    return None if warehouse.local_path is None else warehouse.local_path / FILE
