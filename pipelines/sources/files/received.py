"""How many records were read of each file: a line a part, in a folder that all threads and processes of a run share."""

import json
import os
import secrets
import threading
from collections import Counter
from pathlib import Path

_PROCESS = secrets.token_hex(8)


class Received:
    """Records what a reader has read, in `folder`; without one, nothing is recorded. Picklable."""

    def __init__(self, folder: str | None = None):
        self.folder = folder

    def __call__(self, name: str, records: int) -> None:
        """Note that so many records of a file, or of a part of it, were read."""
        if self.folder is not None:
            with open(
                os.path.join(self.folder, f"{_PROCESS}-{os.getpid()}-{threading.get_ident()}"), "a", encoding="utf-8"
            ) as file:
                file.write(json.dumps([name, records]) + "\n")

    def forget(self) -> None:
        """Begin again: a run that reads its input twice counts the second time."""
        if self.folder is not None:
            for path in Path(self.folder).iterdir():
                path.unlink()

    def by_file(self) -> Counter[str]:
        """Return the records of each file that all processes have noted."""
        found: Counter[str] = Counter()
        for path in Path(self.folder).iterdir() if self.folder is not None else ():
            for line in path.read_text(encoding="utf-8").splitlines():
                name, records = json.loads(line)
                found[name] += records
        return found
