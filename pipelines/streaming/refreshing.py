"""Refreshing: beside a stream into a local warehouse, `audience refresh --every` in a process of its own.

It starts when the stream has run for that time, steps back for whatever else wants the cores, and ends with the stream,
also where that is killed. One that ends by itself is said in one line and started again. A second one changes nothing:
the lock of the answers lets one in.
"""

import threading
from collections.abc import Callable

from pipelines.settings.forms import write_duration
from pipelines.settings.resolve import Settings
from pipelines.system.child import Child, how_it_ended, start
from pipelines.system.terminal import shown

NICE = 19  # the stream goes first
END_SECONDS = 10.0  # a refresh may be killed at any time: what it has not committed is gone


class Refreshing:
    """A context in which the answers are kept up to date; none with --refresh_every off, or into a dataset."""

    def __init__(self, settings: Settings, say: Callable[[str], None]):
        self._every, self._say = settings.refresh_every, say
        self._words: list[str] = []
        if settings.warehouse is None:
            self._every = None
        elif self._every is not None:
            self._words = ["refresh", "--warehouse", settings.warehouse, "--every", write_duration(self._every)]
            self._words += [] if settings.config is None else ["--config", settings.config]
        self._child: Child | None = None
        self._ending = threading.Event()
        self._starting = threading.Lock()  # so that none is started once it ends
        self._thread = threading.Thread(target=self._keep, name="refreshing", daemon=True)

    def __enter__(self) -> "Refreshing":
        if self._every is not None:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._starting:
            self._ending.set()
        if self._child is not None:
            self._child.terminate()
            self._child.end(END_SECONDS)
        if self._every is not None:
            self._thread.join()

    def _keep(self) -> None:
        assert self._every is not None
        while not self._ending.wait(self._every.total_seconds()):
            with self._starting:
                if self._ending.is_set():
                    return
                try:
                    self._child = start(self._words, lambda line: self._say(shown(f"refresh: {line}")), "refresh", NICE)
                except OSError as problem:  # such as too many processes
                    self._say(shown(f"refresh: {problem}; it is retried in {write_duration(self._every)}"))
                    continue
            status = self._child.wait()
            self._child.end(0)
            if not self._ending.is_set():
                self._say(f"refresh: ended {how_it_ended(status)}; it starts again in {write_duration(self._every)}")
