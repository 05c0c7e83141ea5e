"""Runners: on what a stream runs, decided by name before the graph is built.

    PrismRunner                Beam's local runner for streams: `make prism` builds it. State is kept in its memory, so
                               the source lands what it reads (sources/landing.py) and a restart goes on from there.
    BundleBasedDirectRunner    Beam's legacy local runner, with Beam's own reader: only where there is no Prism
    DataflowRunner             Google's: the job is submitted and goes on by itself (dataflow.py)

`DirectRunner`, which Beam itself would resolve by a download, means the first of the two that is at hand.

Prism is the one of `make prism`, which listens on a Unix socket: a Prism as Beam builds it takes jobs, and so commands,
from the whole network. It is refused.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pipelines.runners.private_sockets import private_sockets
from pipelines.system.listening import listeners, tree
from transforms.errors import OptionError, RunnerError

PRISM, LEGACY, ANY, DATAFLOW = "PrismRunner", "BundleBasedDirectRunner", "DirectRunner", "DataflowRunner"
RUNNERS = (PRISM, ANY, LEGACY)
# Not `prism`, the name of Beam's own build, so that no such one is taken for it.
PRISM_HERE = Path(__file__).parents[2] / ".tools" / "prism-local"
MEND = "run `make prism` (it needs Go), or name the binary with --prism_location"
LEGACY_LIMITS = (
    f"{LEGACY}: Beam's legacy local runner. It acknowledges a message before it is written, so a crash loses what is "
    f"under way, and reads ten messages at a time; for anything but a try {MEND}"
)
# With every job: Prism 2.77 splits a slow bundle also where keys have state, and lets go the keys of the second half
# while the first may still be at work on them. Two bundles then change one state, and a change is lost.
PRISM_WORK_ROUND = "--experiments=prism_disable_sdf_split"
JOB_SOCKET = "--job_socket"  # the option that our patch adds to Prism, templates/prism
OPEN = (
    "{} is refused: it takes jobs from the whole network, as Beam builds Prism; run `make prism` (it needs Go), which "
    "builds one that only you can reach, and leave --prism_location out"
)
START_SECONDS = 20.0
IDLE_SECONDS = 60  # after which a Prism without a job ends by itself
# Becomes the program that it is given, which then dies with the process that began it, however that ends: after a kill
# a Prism would wait for its worker for ever, and busily. Only Linux can say so.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Choice(NamedTuple):
    """A runner. `prism` is the binary's path, for Prism; `said` what a person should know of it."""

    name: str
    prism: str | None
    said: str


def choose(asked: str | None, prism_location: str | None = None) -> Choice:
    """The runner for a stream. Errors: OptionError for one that cannot run it here, with what to do."""
    name = asked or ANY
    if name not in RUNNERS:
        raise OptionError(f"--runner: got {name!r}; allowed for a stream: {', '.join([*RUNNERS, DATAFLOW])}")
    prism = find_prism(prism_location) if name != LEGACY else None
    if prism:
        return Choice(PRISM, prism, f"runner {PRISM} ({prism})")
    if name == PRISM:
        raise OptionError(f"--runner: got {PRISM!r}, but there is no Prism here; {MEND}")
    return Choice(LEGACY, None, f"runner {LEGACY_LIMITS}")


def find_prism(location: str | None = None) -> str | None:
    """The Prism binary: as given, else as `make prism` leaves it, else on the PATH. Errors: OptionError."""
    if location is not None:
        if not os.access(location, os.X_OK) or os.path.isdir(location):
            raise OptionError(f"--prism_location: got {location!r}, which is no program; run `make prism`")
        return location
    if os.access(PRISM_HERE, os.X_OK):
        return str(PRISM_HERE)
    return shutil.which("prism")


@contextmanager
def prism_at(binary: str, log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A Prism of one's own, on a private socket: (its endpoint, its process).

    It ends with the context, or when this process is killed; until then also Beam's servers in this process listen on
    private sockets. Errors: RunnerError if it does not start, or if others than this machine can reach it.
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
    """A port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(endpoint: Path, process: subprocess.Popen, binary: str, log: Path, before: int) -> None:
    """Until it accepts connections; its log had `before` bytes when it began."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
            one.connect(str(endpoint))
            return
        time.sleep(0.02)
    if f"not defined: {JOB_SOCKET[1:]}".encode() in log.read_bytes()[before:]:
        raise RunnerError(OPEN.format(binary))
    raise RunnerError(
        f"Prism does not start: {last_error(log) or 'it says nothing'}; see {log}, or build it anew: {MEND}"
    )


def _refuse_open(process: subprocess.Popen, binary: str) -> None:
    """Errors: RunnerError, if others than this machine can reach it."""
    if reached := [each.address for each in listeners(tree(process.pid)) or () if not each.is_local]:
        raise RunnerError(f"{OPEN.format(binary)} (it listens on {', '.join(reached)})")


def last_error(log: Path) -> str:
    """The last error that Prism logged, in its own words and on one line."""
    found = ""
    with suppress(OSError):
        for line in log.read_bytes().splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict) and told.get("level") == "ERROR":
                    found = f"{told.get('msg', '')}: {told.get('error', '')}".splitlines()[0]
    return found[:300]
