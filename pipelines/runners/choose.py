"""Runners: what a stream runs on, what each runner can do, and how it is started.

    PrismRunner                Beam's local runner for streams, built by `make prism`. It keeps state in memory, so the
                               source lands what it reads (sources/landing.py) and a restart resumes from there.
    BundleBasedDirectRunner    Beam's legacy local runner, with Beam's own reader: only where there is no Prism
    FlinkRunner                Apache Flink, by a job server whose jar you have (flink.py); it keeps its state durably
    DataflowRunner             Google's: the job is submitted and runs without this process (dataflow/job.py)

`DirectRunner`, which Beam itself would resolve by a download, means the first of the two that is available here.

Adding a runner takes a line in RUNNERS: what a stream lands, rebuilds and drains follows from the flags there.

Prism must be the one of `make prism`, which listens on a Unix socket. Beam's own build of Prism accepts jobs, and so
commands, from the whole network. It is refused.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipelines.runners.flink import NAME as FLINK
from pipelines.runners.flink import (
    Flink,
    configuration,
    job_options,
    job_server,
    newest_checkpoint,
    note_drain,
    note_start,
    server_command,
)
from pipelines.runners.private_sockets import loopback_servers, private_sockets
from pipelines.system.listening import listeners, tree
from transforms.errors import OptionError, RunnerError

PRISM, LEGACY, ANY, DATAFLOW = "PrismRunner", "BundleBasedDirectRunner", "DirectRunner", "DataflowRunner"
# Not `prism`, the name of Beam's own build, so that no such one is taken for it.
PRISM_HERE = Path(__file__).parents[2] / ".tools" / "prism-local"
GET_PRISM = "run `make prism` (it needs Go), or name the binary with --prism_location"
LEGACY_LIMITS = (
    "Beam's legacy local runner. It acknowledges a message before it is written, so a crash loses messages in flight, "
    f"and it reads ten messages at a time; for anything but a trial {GET_PRISM}"
)
# With every job: Prism 2.77 splits a slow bundle even where keys have state, and releases the keys of the second half
# while the first may still be processing them. Two bundles then change one state, and a change is lost.
PRISM_WORK_ROUND = "--experiments=prism_disable_sdf_split"
JOB_SOCKET = "--job_socket"  # the option that our patch adds to Prism, templates/prism
OPEN = (
    "{} is refused: it takes jobs from the whole network, as Beam builds Prism; run `make prism` (it needs Go), which "
    "builds one that only you can reach, and leave --prism_location out"
)
START_SECONDS = 20.0
IDLE_SECONDS = 60  # after which a Prism without a job exits
# Becomes the program that it is given, which then dies with the process that started it, however that ends: after a
# kill Prism would spin while it waits for its worker. Only Linux offers this.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Started(NamedTuple):
    """A runner that accepts jobs: Beam's options for it, its process where it has one of its own, and what to call
    when a job was drained."""

    options: list[str]
    process: subprocess.Popen | None = None
    drained: Callable[[], None] = lambda: None

    def exit_status(self, seconds: float = 0.0) -> str:
        """How its process ended, within so many seconds; empty while it runs."""
        status = None
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(seconds) if self.process else None
        if status is None:
            return ""
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


@dataclass(frozen=True)
class Runner:
    """What a stream has to know of its runner.

    name              the value of Beam's --runner
    state_is_durable  a restart resumes with the state of the steps; otherwise the stream rebuilds it
    reads_itself      the runner reads the queue with a reader of its own; otherwise the queue's reader does
    can_drain         `audience stop --drain` closes its windows
    ends_drained      a job ends once its windows are closed; otherwise the stream sees from its rows that they are
    launch            starts it on this machine, with its program and a folder for its log; None: it runs elsewhere, and
                      the job is submitted
    limits            what a person should know before using it
    program           the path of its binary, where it has one
    """

    name: str
    state_is_durable: bool
    reads_itself: bool
    can_drain: bool
    launch: "Callable[[str, Path], AbstractContextManager[Started]] | None" = None
    limits: str = ""
    program: str = ""
    ends_drained: bool = True

    @property
    def runs_here(self) -> bool:
        """Whether this process starts it and is its worker."""
        return self.launch is not None

    @property
    def lands(self) -> bool:
        """Whether records land before the graph sees them: the runner loses them with its state, and the reader that
        could land them is ours."""
        return not self.state_is_durable and not self.reads_itself

    @property
    def said(self) -> str:
        """The runner in a line for a person."""
        program = f" ({self.program})" if self.program else ""
        limits = f": {self.limits}" if self.limits else ""
        return f"runner {self.name}{program}{limits}"

    def start(self, folder: Path) -> AbstractContextManager[Started]:
        """Start it for the length of a context; its log goes to `folder`. Errors: RunnerError."""
        if self.launch is None:
            raise RunnerError(f"{self.name} does not run on this machine")
        return self.launch(self.program, folder)


@contextmanager
def _start_prism(program: str, folder: Path) -> Iterator[Started]:
    with prism_at(program, folder / "prism.log") as (endpoint, process):
        reached_by = [f"--runner={PRISM}", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]
        yield Started([*reached_by, PRISM_WORK_ROUND], process)


@contextmanager
def _start_legacy(program: str, folder: Path) -> Iterator[Started]:
    with private_sockets():
        yield Started([f"--runner={LEGACY}"])


RUNNERS = {
    runner.name: runner
    for runner in (
        Runner(PRISM, state_is_durable=False, reads_itself=False, can_drain=True, launch=_start_prism),
        Runner(
            LEGACY,
            state_is_durable=False,
            reads_itself=True,
            can_drain=False,
            launch=_start_legacy,
            limits=LEGACY_LIMITS,
        ),
        Runner(DATAFLOW, state_is_durable=True, reads_itself=True, can_drain=False),  # Dataflow drains its jobs itself
    )
}


def flink_runner(asked: Flink) -> Runner:
    """Flink as the runner of a stream."""

    @contextmanager
    def launch(program: str, folder: Path) -> Iterator[Started]:
        resumed, port = newest_checkpoint(asked.checkpoints), free_port()
        asked.checkpoints.mkdir(parents=True, exist_ok=True)
        name, text = configuration(asked, resumed)
        (folder / name).write_text(text)
        with loopback_servers(), job_server(server_command(asked, port, folder), folder / "flink.log", port) as process:
            note_start(asked)
            yield Started(job_options(asked, f"127.0.0.1:{port}", resumed), process, lambda: note_drain(asked))

    resumed = newest_checkpoint(asked.checkpoints)
    said = f"resumes from {resumed}" if resumed else "starts without state"
    return Runner(
        FLINK, True, False, True, launch, f"Flink {asked.version[0]}.{asked.version[1]}, {said}", asked.jar, False
    )


def choose(asked: str | None, prism_location: str | None = None, flink: Callable[[], Flink] | None = None) -> Runner:
    """The runner for a stream. Errors: OptionError for one that is not available, with what to do.

    flink   returns the Flink that the options name, for `FlinkRunner`
    """
    name = asked or ANY
    if name == FLINK and flink:
        return flink_runner(flink())
    if name not in (ANY, *RUNNERS):
        allowed = ", ".join([PRISM, ANY, *(each for each in RUNNERS if each != PRISM), FLINK])
        raise OptionError(f"--runner: got {name!r}; allowed for a stream: {allowed}")
    if name not in (ANY, PRISM):
        return RUNNERS[name]
    if prism := find_prism(prism_location):
        return replace(RUNNERS[PRISM], program=prism)
    if name == PRISM:
        raise OptionError(f"--runner: got {PRISM!r}, but there is no Prism here; {GET_PRISM}")
    return RUNNERS[LEGACY]


def find_prism(location: str | None = None) -> str | None:
    """The Prism binary: as given, else as `make prism` leaves it, else on the PATH. Errors: OptionError.

    The one rule of `audience run`, `demo` and `doctor`; it does not depend on the current folder.
    """
    if location is not None:
        if not os.access(location, os.X_OK) or os.path.isdir(location):
            raise OptionError(f"--prism_location: got {location!r}, which is no program; run `make prism`")
        return location
    if os.access(PRISM_HERE, os.X_OK):
        return str(PRISM_HERE)
    return shutil.which("prism")


@contextmanager
def prism_at(binary: str, log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start a Prism for this process alone, on a private socket: (its endpoint, its process).

    It ends with the context, or when this process is killed; until then Beam's servers in this process listen on
    private sockets too. Errors: RunnerError if it does not start, or if other machines can reach it.
    """
    words = [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), binary, "--serve_http=false", "--log_kind=json"]
    words += ["--log_level=warn", f"--idle_shutdown_timeout={IDLE_SECONDS}s"]
    with private_sockets() as folder, log.open("ab") as out:
        endpoint, before = folder / "prism", log.stat().st_size
        process = subprocess.Popen(
            [*words, f"{JOB_SOCKET}={endpoint}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        try:
            _wait_for(endpoint, process, binary, log, before)
            _refuse_open(process, binary)
            yield f"unix:{endpoint}", process
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Find a port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(endpoint: Path, process: subprocess.Popen, binary: str, log: Path, before: int) -> None:
    """Wait until it accepts connections; its log had `before` bytes when it was started."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
            one.connect(str(endpoint))
            return
        time.sleep(0.02)
    if f"not defined: {JOB_SOCKET[1:]}".encode() in log.read_bytes()[before:]:
        raise RunnerError(OPEN.format(binary))
    raise RunnerError(
        f"Prism does not start: {last_error(log) or 'it logged no error'}; see {log}, or rebuild it: {GET_PRISM}"
    )


def _refuse_open(process: subprocess.Popen, binary: str) -> None:
    """Errors: RunnerError, if other machines can reach it."""
    if reached := [each.address for each in listeners(tree(process.pid)) or () if not each.is_local]:
        raise RunnerError(f"{OPEN.format(binary)} (it listens on {', '.join(reached)})")


def last_error(log: Path) -> str:
    """The last error that Prism logged, in its own words and on one line."""
    found = ""
    with suppress(OSError):
        for line in log.read_bytes().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("level") == "ERROR":
                    found = f"{entry.get('msg', '')}: {entry.get('error', '')}".splitlines()[0]
    return found[:300]
