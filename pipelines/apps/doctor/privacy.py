"""`audience doctor`: check who else may read or change a folder of events (a warehouse, or a stream's landing folder).

Nothing is written or changed. A folder that nobody else may enter is not searched.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipelines.apps.doctor.check import FOUND, WRONG, Check
from pipelines.system.private import is_shared
from pipelines.system.terminal import word

ACCESS = "access"
_ALL_WRITE, _ALL_READ = 0o002, 0o005
_GROUP_WRITE, _GROUP_READ = 0o020, 0o050


def access_checks(folder: Path) -> list[Check]:
    """Return a row on who may read or change the folder, and one for each parent in which anybody may replace it."""
    if not folder.is_dir():
        return []
    real = Path(os.path.realpath(folder))
    return [_access(str(folder), real), *(_above(each) for each in real.parents if _anybody_replaces(each))]


def _access(name: str, folder: Path) -> Check:
    """Return the row for the folder and its contents."""
    about = folder.stat()
    shared, modes = is_shared(folder), _modes(folder)
    wrong = modes & (_ALL_WRITE | _ALL_READ | _GROUP_WRITE | (0 if shared else _GROUP_READ))
    facts = {"mode": f"{stat.S_IMODE(about.st_mode):04o}", "owner": _user(about.st_uid), "group": _group(about.st_gid)}
    who = f"only {facts['owner']}" if not shared else f"{facts['owner']}; members of {facts['group']} may read"
    if not wrong:
        return Check(ACCESS, f"readers of {name}", FOUND, who, facts=facts)
    bits = "u=rwX,g=rX,o=" if shared else "go="
    others = "; ".join(_others(wrong, facts["group"]))
    return Check(ACCESS, f"readers of {name}", WRONG, others, get=f"chmod -R {bits} {word(str(folder))}", facts=facts)


def _others(wrong: int, group: str) -> Iterator[str]:
    for write, read, who in (
        (_ALL_WRITE, _ALL_READ, "every user of this machine"),
        (_GROUP_WRITE, _GROUP_READ, f"members of {group}"),
    ):
        if wrong & (write | read):
            yield f"{who} may {'change' if wrong & write else 'read'} it or parts of it"


def _modes(folder: Path) -> int:
    """Return what others may do with the folder or anything reachable in it, as the union of their mode bits."""
    own = folder.stat().st_mode & 0o077
    if not own & 0o011:  # nobody else enters
        return own
    reached = (0o007 if own & 0o001 else 0) | (0o070 if own & 0o010 else 0)
    found = own
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # removed meanwhile, or not readable
                if entry.is_dir(follow_symlinks=False):
                    found |= _modes(Path(entry.path)) & reached
                elif not entry.is_symlink():
                    found |= entry.stat(follow_symlinks=False).st_mode & 0o066 & reached
    return found


def _anybody_replaces(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _above(folder: Path) -> Check:
    detail = "every user of this machine may replace its contents, whatever their modes are"
    return Check(ACCESS, str(folder), WRONG, detail, get=f"chmod o-w {word(str(folder))}")


def _user(id: int) -> str:
    try:
        return pwd.getpwuid(id).pw_name
    except KeyError:
        return f"user {id}"


def _group(id: int) -> str:
    try:
        return grp.getgrgid(id).gr_name
    except KeyError:
        return f"group {id}"
