"""Google's Pub/Sub emulator, run with java: it starts on a free loopback port in about two seconds.

pubsub_emulator(log)   an emulator that is not started; SourceError, with what to install, if java or the jar is missing
ended(process)         ends a child process, by its id
"""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import grpc

from pipelines.runners.choose import free_port
from pipelines.sources.pubsub.client import PubSub
from transforms.errors import SourceError

PROJECT = "demo-project"
START_SECONDS = 60.0
END_SECONDS = 20.0
JAVA = (
    "java, which runs the Pub/Sub emulator, is not installed; install a runtime of version 17 or later "
    "(Debian: `apt install default-jre-headless`)"
)
JAR = (
    "the Pub/Sub emulator is not installed; install the Google Cloud SDK (https://cloud.google.com/sdk/docs/install), "
    "then run `gcloud components install pubsub-emulator`, "
    "with Debian's packages `apt install google-cloud-cli-pubsub-emulator`"
)


def pubsub_emulator(log: Path) -> "PubSubEmulator":
    """The emulator on this machine; it appends to `log`. Errors: SourceError."""
    if shutil.which("java") is None:
        raise SourceError(JAVA)
    jar = find_jar()
    if jar is None:
        raise SourceError(JAR)
    return PubSubEmulator(jar, log)


def find_jar() -> Path | None:
    """The emulator's jar in the Cloud SDK, if there is one."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    output = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    root = output.stdout.strip()
    return next(Path(root).glob("platform/pubsub-emulator/lib/*.jar"), None) if root else None


class PubSubEmulator:
    """The process of the emulator; its data is lost when it ends.

    memory   maximum heap, in the syntax of java: acknowledged messages stay there too
    options  more options of java
    """

    memory = "512m"
    options: tuple[str, ...] = ()

    def __init__(self, jar: Path, log: Path):
        self.jar, self.log, self.port = jar, log, free_port()
        self.process: subprocess.Popen | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "PubSubEmulator":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        if self.process is not None:
            ended(self.process)

    def start(self) -> None:
        """Start it and wait until it answers. Errors: SourceError if it does not."""
        java = ["java", f"-Xmx{self.memory}", *self.options]
        command = [*java, "-jar", str(self.jar), "--host=127.0.0.1", f"--port={self.port}"]
        with self.log.open("ab") as log:
            # In its own session, so that Ctrl-C does not end it before the process that uses it.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        try:
            while not self._answers():
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SourceError(f"the Pub/Sub emulator does not start; see {self.log}")
                time.sleep(0.05)
        except BaseException:
            ended(self.process)
            raise

    def kill(self) -> None:
        """Send SIGKILL and wait until it has ended."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def _answers(self) -> bool:
        pubsub = PubSub(self.host)
        try:
            pubsub.topic(f"projects/{PROJECT}/topics/none")
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        finally:
            pubsub.close()
        return True


def ended(process: subprocess.Popen, seconds: float = END_SECONDS) -> None:
    """End a process with SIGTERM, and with SIGKILL if it has not ended in time."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
