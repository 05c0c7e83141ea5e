"""Apache Flink as the runner of a stream: Beam's job server, from a jar that you have, on this machine.

    --flink_job_server_jar PATH     Beam's job server for one version of Flink, with Flink in it
    --flink_master [local]|HOST:PORT
    --flink_checkpoints FOLDER      where Flink keeps its checkpoints; the next start resumes from the newest whole one

The jar is from Maven Central: org.apache.beam:beam-runners-flink-1.20-job-server:2.77.0. It was not to be had where
this was written, so nothing here has run with it; docs/flink.md states what was run, and with what.

Flink keeps the state of the steps, so nothing lands and nothing is rebuilt. What it does not keep is which rows were
written since the last checkpoint: after a crash they are written again. So a stream on Flink writes to BigQuery, where
views show each event once, and not to a local warehouse, whose tables hold each event once.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from transforms.errors import OptionError, RunnerError

NAME = "FlinkRunner"
LOCAL = "[local]"
JAR = re.compile(r"beam-runners-flink-(?P<major>\d+)\.(?P<minor>\d+)-job-server-(?P<beam>[\d.]+)\.jar")
GET_JAR = (
    "download it with `mvn dependency:copy -Dartifact=org.apache.beam:beam-runners-flink-1.20-job-server:2.77.0 "
    "-DoutputDirectory=.`"
)
CHECKPOINT_MS = 2_000  # messages are acknowledged after each checkpoint, and readers are kept until then
BUNDLE_MS = 100  # how long Flink waits for more elements of a bundle
RETAINED = 3  # checkpoints: a kill may leave the newest one incomplete
START_SECONDS = 60.0
DRAINED = "drained"  # a file: the windows were closed, and the next start begins without state
# What Flink 1.x needs of Java 17.
_OPENS = ("java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text", "java.time", "java.util")
_OPENED = (*_OPENS, "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks")


class Flink(NamedTuple):
    """Which Flink: its version is that of the jar."""

    jar: str
    version: tuple[int, int]
    master: str
    checkpoints: Path

    @property
    def is_embedded(self) -> bool:
        """Whether the job server runs the job itself."""
        return self.master in (LOCAL, "[auto]")


def flink_of(jar: str | None, master: str | None, checkpoints: str | None) -> Flink:
    """Return the Flink that the options name. Errors: OptionError."""
    missing = {"--flink_job_server_jar": jar, "--flink_checkpoints": checkpoints}
    if absent := [name for name, value in missing.items() if not value]:
        raise OptionError(f"{', '.join(absent)}: missing; required by --runner={NAME}; {GET_JAR}")
    named = JAR.fullmatch(Path(f"{jar}").name)
    if named is None or not Path(f"{jar}").is_file():
        raise OptionError(
            f"--flink_job_server_jar: got {jar!r}; allowed: Beam's job server under its own name, which states the "
            f"version of Flink; {GET_JAR}"
        )
    if master and master not in (LOCAL, "[auto]") and not re.fullmatch(r"[\w.-]+:\d{1,5}", master):
        raise OptionError(f"--flink_master: got {master!r}; allowed: {LOCAL}, or HOST:PORT of a session cluster")
    version = int(named["major"]), int(named["minor"])
    return Flink(f"{jar}", version, master or LOCAL, Path(f"{checkpoints}").absolute())


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint below the folder, whichever job made it; None after a drain, or without one.

    A kill leaves a checkpoint without `_metadata`, from which Flink cannot start.
    """
    if (folder / DRAINED).exists():
        return None
    found = [path for path in folder.glob("*/chk-*/_metadata") if path.parent.name.removeprefix("chk-").isdecimal()]
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, int(path.parent.name[4:])), default=None)
    return newest.parent if newest else None


def configuration(flink: Flink, resumed: Path | None) -> tuple[str, str]:
    """Return the name and text of Flink's configuration file.

    `[local]` ignores Beam's --savepoint_path without a word, so the checkpoint to start from is named here.
    """
    old = flink.version[0] < 2
    lines = {
        "state.checkpoints.num-retained" if old else "execution.checkpointing.num-retained": str(RETAINED),
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
    }
    if resumed and flink.is_embedded:
        lines["execution.savepoint.path" if old else "execution.state-recovery.path"] = resumed.as_uri()
    return ("flink-conf.yaml" if old else "config.yaml"), "".join(f"{name}: {value}\n" for name, value in lines.items())


def job_options(flink: Flink, endpoint: str, resumed: Path | None) -> list[str]:
    """Return Beam's options for a job."""
    return [
        "--runner=PortableRunner",
        f"--job_endpoint={endpoint}",
        "--environment_type=LOOPBACK",
        "--parallelism=1",
        f"--checkpointing_interval={CHECKPOINT_MS}",
        f"--max_bundle_time_mills={BUNDLE_MS}",
        "--state_backend=filesystem",
        f"--state_backend_storage_path={flink.checkpoints.as_uri()}",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
        *([f"--savepoint_path={resumed.as_uri()}"] if resumed and not flink.is_embedded else []),
    ]


def server_command(flink: Flink, port: int, folder: Path) -> list[str]:
    """Return the command that starts the job server, which listens on this machine alone."""
    java = shutil.which("java")
    if java is None:
        raise OptionError(f"--runner={NAME}: no java found; install Java 17")
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    place = [f"--artifacts-dir={folder / 'artifacts'}", f"--flink-conf-dir={folder}"]
    ports = ["--job-host=127.0.0.1", f"--job-port={port}", "--artifact-port=0", "--expansion-port=0"]
    return [java, "-Xmx1g", *opened, "-jar", flink.jar, f"--flink-master={flink.master}", *ports, *place]


def note_start(flink: Flink) -> None:
    """Note that a job has state again, so that the next start resumes."""
    (flink.checkpoints / DRAINED).unlink(missing_ok=True)


def note_drain(flink: Flink) -> None:
    """Note that every window was closed, so that the next start begins without state."""
    (flink.checkpoints / DRAINED).touch()


@contextmanager
def job_server(command: Sequence[str], ready: Path, port: int) -> Iterator[subprocess.Popen]:
    """Run the job server for the length of a context. `ready` is its log. Errors: RunnerError if it does not start."""
    import socket

    with ready.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > until:
                raise RunnerError(f"Flink's job server does not start; see {ready}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
