"""Cores: Polars gets a thread for each core where threads of one process hand it work, and one elsewhere."""

import os
import subprocess
import sys

import pytest

from pipelines.system.cores import MOST_CORES, core_count
from transforms import POLARS_THREADS

ASK = "import polars; print(polars.thread_pool_size())"
GIVE = "from pipelines.system.cores import give_polars_threads; give_polars_threads(); "


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [
        (f"import transforms; {ASK}", None, 1),
        (f"{GIVE}{ASK}", None, min(os.cpu_count(), MOST_CORES)),
        (f"{GIVE}{ASK}", "3", 3),
        (f"import transforms, polars; {GIVE}{ASK}", None, 1),
    ],
    ids=["one", "a core each", "as the person says", "too late"],
)
def test_polars_has_a_thread_for_each_core_only_if_it_is_given_them(code, given, expected):
    environment = {name: value for name, value in os.environ.items() if name != POLARS_THREADS}
    environment |= {POLARS_THREADS: given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected


def test_a_run_uses_at_most_so_many_cores():
    assert 1 <= core_count() <= MOST_CORES
