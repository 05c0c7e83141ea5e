"""Private by default: what this product writes to a disk belongs to the user who ran it, whatever the umask was.

Folders are 0700 and files 0600. A warehouse that was made for a group (`--group`) is 2750, its files 0640: members
read, only the owner writes. The mode of the warehouse's own folder says which of the two holds, and nothing else does,
so that `chgrp` and `chmod` share a warehouse later, or end that. What exists is never opened or closed to anybody.
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
    """The function; what it and the processes that it starts write is private."""

    @functools.wraps(function)
    def runs(*args, **kwargs) -> int:
        with umask(OWNER):
            return function(*args, **kwargs)

    return runs


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """The umask of this process, and of those that it starts, while `with` lasts."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def is_shared(folder: Path) -> bool:
    """Whether a warehouse's folder is for a group: its members may read, and what is made in it is of the group."""
    return folder.stat().st_mode & SHARED == SHARED


def mask_of(folder: Path) -> int:
    """The umask with which a warehouse is written."""
    return GROUP if is_shared(folder) else OWNER


def make_folder(folder: Path, group: str | None) -> None:
    """Make the folder of a warehouse; one that is there keeps its mode, unless a group is named. Raises OSError, and
    WarehouseError for a group that is not known or that the user is no member of."""
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
            f"--group: got {group!r}; allowed: a group that you are a member of (`id -Gn` lists them), for a folder "
            "of your own"
        ) from error


def check_group(folder: Path, group: str) -> None:
    """Raises WarehouseError for a warehouse that is not shared with the group, with the commands that share it."""
    if is_shared(folder) and folder.stat().st_gid == _gid(group):
        return
    raise WarehouseError(
        f"{folder} was not made for group {group!r}; leave --group out, or share it: {sharing(folder, group)}"
    )


def sharing(folder: Path, group: str) -> str:
    """The commands that share a warehouse with a group."""
    name, of = word(str(folder)), word(group)
    return f"chgrp -R {of} {name} && chmod -R u=rwX,g=rX,o= {name} && find {name} -type d -exec chmod g+s {{}} +"


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise WarehouseError(
            f"--group: got {group!r}; allowed: a group of this machine (`id -Gn` lists yours)"
        ) from None


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file that appears whole, 0600, in the place of one that is there, or not at all. Raises OSError.

    A link is followed; a pipe, a device or what lies under /dev and /proc is written to as it is.
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
    """Errors of the file system with the name of the file that was meant, not of the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
