"""Launch: run a bounded graph on this machine, on the in-process runner by its own name.

Left to the name `DirectRunner`, Beam would first try to download another runner, and one command would run on different
runners on different machines.
"""

import difflib
import errno
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines.runners import beam_import
from pipelines.runners.introspection import remember_introspection
from pipelines.runners.private_sockets import private_sockets
from pipelines.settings.resolve import OPTIONS
from pipelines.system.cores import core_count
from pipelines.system.memory import share_one_arena
from transforms import errors
from transforms.errors import AudienceError, OptionError, RunnerError, WarehouseError

RUNNER = "FnApiRunner"
THREADS = 0  # in place of a number of worker processes: the threads of this process
SMALL = 48 << 20  # bytes of input below which a second thread costs more than it saves
SWITCH_SECONDS = 0.0005  # after which a thread that comes back from Polars gets the interpreter's lock, if it can
_WORKER_THREAD = "run_worker"  # of Beam's, which waits for the process
_RAISED = re.compile(r"transforms\.errors\.(\w+): (.*?)(?= \[while running|\\n|\n|$)")
_NO_SPACE = "|".join(map(str, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
_FULL = re.compile(rf"(?:\[Errno |\(os error )({_NO_SPACE})[\])]")  # as Python and as Polars write it


def worker_count(asked: int, input_bytes: int) -> int:
    """Worker processes for an input of this size; 0 asks for none: one thread if it is small, else THREADS."""
    if asked:
        return asked
    return 1 if input_bytes < SMALL or core_count() == 1 else THREADS


def run_bounded(
    build: Callable[[beam.Pipeline], None],
    workers: int,
    beam_options: Sequence[str] = (),
    watch: AbstractContextManager = nullcontext(),  # noqa: B008 (it can be entered any number of times)
) -> None:
    """Build and run a pipeline to its end, inside `watch`; an AudienceError of a worker is raised as it was.

    workers  how many processes; 1: this one, by one thread; THREADS: this one, by several
    """
    threads = core_count() if workers == THREADS else workers
    share_one_arena()
    remember_introspection()
    # Beam logs the traceback of what it raises anyway, once a layer.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(
        _runner(workers), options=PipelineOptions([*beam_options, f"--direct_num_workers={threads}"])
    )
    build(pipeline)
    try:
        with private_sockets(), watch, report_lost_workers(), sharing_threads(workers):
            pipeline.run().wait_until_finish()
    except Exception as problem:
        raise cause(problem) from problem


@contextmanager
def sharing_threads(workers: int) -> Iterator[None]:
    """While `with` lasts, let threads take turns quickly, if they are what works.

    Most of their time is Polars' and NumPy's, which release the interpreter's lock; each waits for it afterwards.
    """
    before = sys.getswitchinterval()
    if workers == THREADS:
        sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def report_lost_workers() -> Iterator[None]:
    """While `with` lasts, the death of a worker process ends the run by a RunnerError: Beam would wait for it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread takes signals
        return
    before, main, lost = threading.excepthook, threading.get_ident(), threading.Event()

    def notice(raised: threading.ExceptHookArgs) -> None:
        if raised.thread is not None and raised.thread.name == _WORKER_THREAD:
            if not lost.is_set():
                lost.set()
                signal.pthread_kill(main, signal.SIGUSR1)
        elif not lost.is_set():  # else it is a thread of Beam's that has lost its worker
            before(raised)

    def end(*_) -> None:
        for worker in worker_processes():  # Beam waits for the others, which wait for it
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        raise RunnerError(
            "a worker process was killed, for example because the machine ran out of memory; nothing was written; run "
            "it again with fewer --workers or more memory"
        )

    handler = signal.signal(signal.SIGUSR1, end)
    threading.excepthook = notice
    try:
        yield
    finally:
        if not lost.is_set():  # else such threads go on to end, and the process with them
            threading.excepthook = before
        signal.signal(signal.SIGUSR1, handler)


def worker_processes() -> list[int]:
    """The process ids of this process's own workers, where Linux lists its children."""
    found = []
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listed.read_text().split()):
                if b"pipelines.runners.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def _runner(workers: int) -> FnApiRunner:
    if workers in (1, THREADS):
        return FnApiRunner()
    command = f"exec {shlex.quote(sys.executable)} -m pipelines.runners.worker"
    command += f" {beam_import.LOCAL}" if beam_import.is_local() else ""
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def cause(problem: Exception) -> Exception:
    """The AudienceError behind what a runner raised, with its first text; `problem` itself if there is none.

    Beam adds the step to an error's text, and of a worker process it sends only a traceback.
    """
    text = str(problem)
    if isinstance(problem, AudienceError):
        return type(problem)(text.partition(" [while running")[0])
    found = _RAISED.search(text)
    if found and issubclass(getattr(errors, found[1], object), AudienceError):
        return getattr(errors, found[1])(found[2])
    if full := _FULL.search(text):
        why = os.strerror(int(full[1]))
        return WarehouseError(f"the run cannot write: {why}; free space or use another --warehouse, and run it again")
    return problem


def beam_options(rest: Sequence[str]) -> list[str]:
    """What the parser left over, as options for Beam; OptionError for one that Beam lacks or that is decided here."""
    if not rest:
        return []
    parser = _BeamOptions(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(list(rest))
    if unknown:
        raise _unknown(unknown[0])
    if known.runner not in (None, RUNNER, "DirectRunner"):
        raise OptionError(f"--runner: got {known.runner!r}; allowed: {RUNNER} (or DirectRunner, which means it here)")
    for name in ("--direct_num_workers", "--direct_running_mode"):
        if any(word.partition("=")[0] == name for word in rest):
            raise OptionError(f"{name} is decided by --workers; give that instead")
    return list(rest)


class _BeamOptions(_BeamArgumentParser):
    def error(self, message):
        raise OptionError(f"{message}; this is an option of Beam's")


def _unknown(word: str) -> OptionError:
    name, names = word.partition("=")[0], [f"--{option.name}" for option in OPTIONS]
    if not name.startswith("-"):
        return OptionError(f"{word!r} belongs to no option; quote a glob (--input '*.jsonl'), or repeat --input")
    near = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return OptionError(f"unknown option {name!r}; {hint}allowed: {', '.join(names)}, and Beam's own")
