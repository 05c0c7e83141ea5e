"""What a worker of Dataflow does first: it reads each step of the graph, with nothing but the package."""

import subprocess
import sys
from pathlib import Path

_UNPICKLE = """
import sys
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2 as api

pickler.set_library("cloudpickle")
steps = api.Pipeline.FromString(open(sys.argv[1], "rb").read()).components.transforms.values()
loaded = 0
for step in steps:
    if step.spec.urn == "beam:transform:pardo:v1":
        fn = api.ParDoPayload.FromString(step.spec.payload).do_fn
        if fn.urn == "beam:dofn:pickled_python_info:v1":
            pickler.loads(fn.payload)
            loaded += 1
print(loaded)
"""


def read_by_a_worker(graph: str, folder: Path) -> int:
    """How many steps of a graph a process reads that has the package alone, and no checkout; it runs in `folder`."""
    words = [sys.executable, "-I", "-c", _UNPICKLE, graph]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
