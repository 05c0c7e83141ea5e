"""Launch: run a bounded graph on this machine, on the in-process runner by its own name.

Left to the name `DirectRunner`, Beam would first try to download another runner, and one command would run on different
runners on different machines.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from transforms import errors
from transforms.errors import AudienceError, OptionError, WarehouseError

RUNNER = "FnApiRunner"
MOST_WORKERS = 4
SMALL = 48 << 20  # bytes of input below which a second process costs more than it saves
_RAISED = re.compile(r"transforms\.errors\.(\w+): (.*?)(?= \[while running|\\n|\n|$)")


def worker_count(asked: int, input_bytes: int) -> int:
    """Worker processes for an input of this size; 0 asks for as many as there are cores, up to MOST_WORKERS."""
    if asked:
        return asked
    return 1 if input_bytes < SMALL else min(os.cpu_count() or 1, MOST_WORKERS)


def run_bounded(build: Callable[[beam.Pipeline], None], workers: int, beam_options: Sequence[str] = ()) -> None:
    """Build and run a pipeline to its end; an AudienceError of a worker is raised here as what it was."""
    mode = "in_memory" if workers == 1 else "multi_processing"
    options = [*beam_options, f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
    pipeline = beam.Pipeline(RUNNER, options=PipelineOptions(options))
    build(pipeline)
    # Beam logs the traceback of what it raises anyway, once a layer.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    try:
        pipeline.run().wait_until_finish()
    except AudienceError:
        raise
    except Exception as problem:
        raise cause(problem) from problem


def cause(problem: BaseException) -> BaseException:
    """The AudienceError behind what a runner raised (its worker sent only text), or `problem` itself."""
    text = str(problem)
    found = _RAISED.search(text)
    if found and issubclass(getattr(errors, found[1], object), AudienceError):
        return getattr(errors, found[1])(found[2])
    if "No space left on device" in text:
        return WarehouseError("the disk is full: free some space, and run the command again; nothing was changed")
    return problem


def local_options(rest: Sequence[str]) -> list[str]:
    """The options left over for Beam, without the runner; OptionError for one that this machine cannot be asked for."""
    kept = []
    for option in rest:
        name, _, value = option.partition("=")
        if name != "--runner":
            kept.append(option)
        elif value not in (RUNNER, "DirectRunner"):
            raise OptionError(f"--runner: got {value!r}; allowed: {RUNNER} (or DirectRunner, which means it here)")
    return kept
