"""The BigQuery emulator: REST and the Storage API over gRPC, on free ports of this machine, in memory.

make tools                              once: installs it into .tools/
python -m tests.servers.bigquery        runs it, and prints the environment that leads clients to it
python -m tests.servers.bigquery WORD.. runs it as long as this command, which gets that environment
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ROOT, ServerMissing, running

PYTHON = ROOT / ".tools/bqemulator/bin/python"
SERVE = ROOT / "tests/servers/bqemulator/serve.py"


@dataclass(frozen=True)
class BigQuery:
    """Where it answers: `rest` is a URL, `grpc` host:port."""

    rest: str
    grpc: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {"BIGQUERY_EMULATOR_HOST": self.rest, "BIGQUERY_STORAGE_EMULATOR_HOST": self.grpc}


@contextlib.contextmanager
def bigquery_emulator(storage_root: Path | None = None) -> Iterator[BigQuery]:
    """Start it, and stop it at the end; 2 s. ServerMissing if it is not installed.

    storage_root  the folder of the buckets of a Cloud Storage on this machine, from which it loads gs://...
    """
    if not PYTHON.exists():
        raise ServerMissing("the BigQuery emulator is not installed; run: make tools")
    with running([PYTHON, SERVE, *([storage_root] if storage_root else [])]) as line:
        ports = json.loads(line)
        yield BigQuery(f"http://127.0.0.1:{ports['rest']}", f"127.0.0.1:{ports['grpc']}")


def main(words: list[str]) -> int:
    """Run it until interrupted, or as long as a command; the command's exit status."""
    with bigquery_emulator() as server, contextlib.suppress(KeyboardInterrupt):
        if not words:
            sys.stdout.write("".join(f"export {name}={value}\n" for name, value in server.environment.items()))
            sys.stdout.flush()
            threading.Event().wait()
        with subprocess.Popen(words, env=os.environ | server.environment) as command:
            while True:
                with contextlib.suppress(KeyboardInterrupt):  # the command gets it too, and ends in its own way
                    return command.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
