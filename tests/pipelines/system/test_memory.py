"""What the C library keeps of freed memory."""

import subprocess
import sys

import pytest

ARENAS = """
import ctypes, sys, tempfile, threading
from pipelines.system.memory import share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
at_once = threading.Barrier(4)

def allocate():
    at_once.wait()
    libc.malloc(5_000)
    at_once.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as told:
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.fclose.argtypes = [ctypes.c_void_p]
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(open(told.name).read().count("<heap "))
"""


def arenas(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", ARENAS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_info is of glibc")
def test_threads_share_one_arena():
    assert arenas("each its own") > 1
    assert arenas("shared") == 1
