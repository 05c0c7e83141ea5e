"""The proof of an erasure: a row of `erasures` for each identifier, which names it to nobody but the holder of a key.

    key_of(warehouse, given)         the key at hand, None if there is none
    make_key(warehouse, given)       the same, made where there is none
    proofs(warehouse, ids, key)      when which of the identifiers were erased, as the proofs say
    rows(...)                        the proof to commit

The identifier is there as an HMAC-SHA256: a bare hash of an e-mail address is found by trying addresses. The key is a
file that only its owner may read: `erasure.key` in the folder of a local warehouse, else the file that `--proof_key`
names. Whoever holds the key can check an identifier; without it, or once it is destroyed, nobody can.
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
        """What tells keys apart without giving them away."""
        return hashlib.sha256(b"audience erasure key" + self.secret).hexdigest()[:16]

    def subject(self, id: str) -> str:
        """The identifier as a proof has it."""
        return hmac.new(self.secret, id.encode(), hashlib.sha256).hexdigest()


class Proved(NamedTuple):
    """What the proofs say: (identifier, when, proof) of those made with the key, and how many were made with others."""

    of_ids: list[tuple[str, datetime, str]]
    by_other_keys: int


def key_of(warehouse: Warehouse, given: str | None) -> Key | None:
    """The key in the file that is given, else in that of a local warehouse. OptionError if it is no key."""
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
            "or the name of a file that is not there yet and will be made"
        )
    return Key(secret, path)


def make_key(warehouse: Warehouse, given: str | None) -> Key:
    """The key at hand; if there is none, a new one, in a file that only its owner may read."""
    if (key := key_of(warehouse, given)) is not None:
        return key
    path = _path(warehouse, given)
    if path is None:
        raise OptionError(
            "--proof_key: got nothing; allowed: the name of a file that holds the key of the proof, made if it is not "
            "there; keep it where the data is not"
        )
    secret = secrets.token_hex(32).encode()
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secret + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another run was faster: its key counts
            os.link(aside, path)
        os.unlink(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise WarehouseError(
            f"{path} cannot be made: {error.strerror}; the key of a proof has to lie there, check its folder"
        ) from error
    made = key_of(warehouse, given)
    assert made is not None
    return made


def proofs(warehouse: Warehouse, ids: Sequence[str], key: Key | None) -> Proved:
    """What `erasures` says of the identifiers."""
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
    """Rows of `erasures`; `said` are its JSON columns."""
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
