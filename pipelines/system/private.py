"""Private by default: files that this product writes are readable only by the user who ran it, whatever the umask.

Folders are 0700 and files 0600. A warehouse created for a group (`--group`) is 2750 and its files are 0640: members
read, only the owner writes. Only the mode of the warehouse's own folder decides between the two, so `chgrp` and `chmod`
can share a warehouse later, or stop sharing it. The modes of existing files are never changed.
"""

import functools
import grp
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.system.terminal import word
from transforms.errors import WarehouseError

OWNER, GROUP = 0o077, 0o027  # umasks
SHARED = stat.S_ISGID | stat.S_IRGRP | stat.S_IXGRP


def privately(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a function: what it and its child processes write is private."""

    @functools.wraps(function)
    def runs(*args, **kwargs) -> int:
        with umask(OWNER):
            return function(*args, **kwargs)

    return runs


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask of this process and its children within the context."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def is_shared(folder: Path) -> bool:
    """Return whether a warehouse's folder is shared: members of its group may read, and new files get the group."""
    return folder.stat().st_mode & SHARED == SHARED


def mask_of(folder: Path) -> int:
    """Return the umask with which a warehouse is written."""
    return GROUP if is_shared(folder) else OWNER


def make_folder(folder: Path, group: str | None) -> None:
    """Create the folder of a warehouse; an existing one keeps its mode unless a group is given. Raises OSError, and
    WarehouseError for a group that is unknown or that the user does not belong to."""
    there = folder.is_dir()
    gid = None if group is None else _gid(group)
    with umask(OWNER):
        folder.mkdir(parents=True, exist_ok=True)
    if gid is None:
        return
    try:
        os.chown(folder, -1, gid)
        folder.chmod(0o2750)
    except PermissionError as error:
        if not there:
            folder.rmdir()
        raise WarehouseError(
            f"--group: got {group!r}; allowed: a group that you belong to (`id -Gn` lists them), for a folder that you "
            "own"
        ) from error


def check_group(folder: Path, group: str) -> None:
    """Raise WarehouseError if a warehouse is not shared with the group, with the commands to share it."""
    if is_shared(folder) and folder.stat().st_gid == _gid(group):
        return
    raise WarehouseError(
        f"{folder} was not created for group {group!r}; leave --group out, or share it: {sharing(folder, group)}"
    )


def sharing(folder: Path, group: str) -> str:
    """Return the commands that share a warehouse with a group."""
    name, of = word(str(folder)), word(group)
    return f"chgrp -R {of} {name} && chmod -R u=rwX,g=rX,o= {name} && find {name} -type d -exec chmod g+s {{}} +"


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise WarehouseError(
            f"--group: got {group!r}; allowed: a Unix group of this machine (`id -Gn` lists yours)"
        ) from None


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file atomically with mode 0600, replacing an existing one. Raises OSError.

    A link is followed; a pipe, a device, or a file under /dev or /proc is written to directly.
    """
    target = Path(os.path.realpath(path))
    is_stream = str(Path(path).absolute()).startswith(("/dev/", "/proc/")) or (target.exists() and not target.is_file())
    if is_stream:
        with open(path, "wb") as stream:
            stream.write(content)
        return
    with _naming(path):
        number, aside = tempfile.mkstemp(prefix=f".{target.name[:100]}-", dir=target.parent)
        try:
            with open(number, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside)
            raise


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Report errors of the file system with the name of the target file, not of the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
