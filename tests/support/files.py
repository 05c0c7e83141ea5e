"""What lies in a folder."""

import stat
from pathlib import Path


def modes(folder: Path) -> set[str]:
    """The modes of folders (d) and files (f) in a folder, itself included."""
    every = [folder, *folder.rglob("*")]
    return {f"{'d' if each.is_dir() else 'f'}{stat.S_IMODE(each.lstat().st_mode):o}" for each in every}
