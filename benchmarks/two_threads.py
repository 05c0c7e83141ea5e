"""The command line with two threads of one process in place of worker processes, for the benchmarks.

python -m benchmarks.two_threads backfill --input INPUT.jsonl --warehouse OUT

Polars releases the interpreter's lock in its heavy steps; what is Python takes turns.
"""

import sys

from pipelines.runners.beam_import import import_local_beam

THREADS = "2"

if __name__ == "__main__":
    import_local_beam()
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from pipelines.cli import main
    from pipelines.runners import in_process

    in_process._runner = lambda workers: FnApiRunner()  # its bundles run in as many threads as there are workers
    sys.exit(main([*sys.argv[1:], "--workers", THREADS]))
