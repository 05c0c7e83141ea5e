"""Folders that several tests begin with: each is made once a process and copied, so that no test spoils another's."""

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

_made: dict[Hashable, Path] = {}


def copy_of(content: Hashable, make: Callable[[Path], object], folder: Path) -> Path:
    """Fill a folder, which may be there, with what `make` puts into one; `content` says what that is."""
    if content not in _made:
        path = _new_folder()
        make(path)
        _made[content] = path
    shutil.copytree(_made[content], folder, dirs_exist_ok=True)
    return folder


def _new_folder() -> Path:
    """A folder whose name has no digit: rows hold the names of files, and a test may look for an id such as u1."""
    path = Path(tempfile.gettempdir()) / f"audience-tests-{''.join(secrets.choice('ghjkmn') for _ in range(20))}"
    path.mkdir(mode=0o700)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
