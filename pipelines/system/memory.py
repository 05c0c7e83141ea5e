"""Memory: what the C library keeps of freed memory."""

import ctypes
from contextlib import suppress

_ARENA_MAX = -8  # M_ARENA_MAX of mallopt(3)


def share_one_arena() -> None:
    """Let the threads of this process share one arena of glibc: each keeps what its threads have freed.

    Without effect where the C library has no such setting.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
