"""Folders that several tests begin with: each is made once a process and copied, so that no test spoils another's."""

import shutil
from collections.abc import Callable, Hashable
from pathlib import Path
from tempfile import TemporaryDirectory

_home = TemporaryDirectory(prefix="audience-tests-")
_made: dict[Hashable, Path] = {}


def copy_of(content: Hashable, make: Callable[[Path], object], folder: Path) -> Path:
    """Fill a folder, which may be there, with what `make` puts into one; `content` says what that is."""
    if content not in _made:
        (path := Path(_home.name) / f"{len(_made)}").mkdir()
        make(path)
        _made[content] = path
    shutil.copytree(_made[content], folder, dirs_exist_ok=True)
    return folder
