"""A worker process of a local run: Beam's own, which reaches the run by private sockets (private_sockets.py) and whose
tracebacks do not reach the terminal.

Beam prints what a bundle raised to the worker's stderr and sends it to the run as well, which reports it in one line
(`in_process.cause`). An error that ends the process itself appears as one line.

With LOCAL as its argument, it imports of Beam what the run that starts it has imported (beam_import.py).
"""

import os
import sys

from pipelines.runners.beam_import import LOCAL, import_local_beam
from pipelines.runners.introspection import remember_introspection
from pipelines.runners.private_sockets import reach_privately
from pipelines.system.memory import share_one_arena
from pipelines.system.terminal import shown
from transforms.errors import first_line


def _report(kind, problem, trace) -> None:
    print(shown(f"error: a worker process ended: {kind.__name__}: {first_line(problem)}"), file=sys.__stderr__)


if __name__ == "__main__":
    sys.excepthook = _report
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    share_one_arena()
    if LOCAL in sys.argv:
        import_local_beam()
    from apache_beam.runners.worker import sdk_worker_main

    remember_introspection()
    reach_privately()
    sdk_worker_main.main(sys.argv)
