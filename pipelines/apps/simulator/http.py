"""Send simulated lines to a collector over HTTP, as they happen: JSON lines of native events, at a rate.

A request that is not answered, or with 429 or 5xx, is sent again: the events of one that was taken before its answer
was lost are duplicates there. Any other answer than success is an error.
"""

import http.client
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import count
from urllib.parse import SplitResult, urlsplit

from pipelines.apps.simulator.faults import Faults
from pipelines.apps.simulator.live import Live
from pipelines.apps.simulator.output import paced
from transforms.errors import OptionError, SourceError

PATH = "/v1/events"
MOST_LINES, MOST_BYTES = 500, 5_000_000  # of a request
AT_ONCE = 20_000  # events that are simulated at a time: some 300 bytes each
TICK_SECONDS = 0.2  # lines due within it are sent together
TRIES_SECONDS, PAUSE_SECONDS, ANSWER_SECONDS = 60.0, 0.5, 30.0
KEY = re.compile(r"[\x21-\x7e]{1,512}")


def collector_at(option: str, url: str) -> SplitResult:
    """The parts of a collector's URL. Errors: OptionError."""
    try:
        parts = urlsplit(url)
        is_base = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        is_base = is_base and not (parts.query or parts.fragment or "@" in parts.netloc) and parts.port != 0
    except ValueError:
        is_base = False
    if not is_base or not url.isascii() or not url.isprintable() or " " in url:
        raise OptionError(f"--{option}: got {url!r}; allowed: the address of a collector, e.g. http://127.0.0.1:8090")
    return parts


def send_live(url: SplitResult, key: str | None, events: int, seed: int, faults: Faults, rate: float) -> int:
    """Send `events` events that happen now, `rate` lines a second, and return the number of lines.

    Errors: SourceError for a collector that is not there for TRIES_SECONDS, or takes no events.
    """
    sent = 0
    with closing(_Sender(url, key)) as sender:
        for lines in _ticks(events, seed, faults, rate):
            for body in requests(lines):
                sender.send(body)
            sent += len(lines)
    return sent


def _ticks(events: int, seed: int, faults: Faults, rate: float) -> Iterator[list[bytes]]:
    """The lines of each tick, as they are due."""
    lives = (
        Live(min(AT_ONCE, events - first), seed + at, faults) for at, first in enumerate(range(0, events, AT_ONCE))
    )
    live, at, owed = next(lives), 0, 0.0
    for due in paced(count(), 1 / TICK_SECONDS):
        owed += len(due) * rate * TICK_SECONDS
        lines: list[bytes] = []
        while owed >= 1:
            part = live.lines(at, int(owed), time.time())
            lines += [line for _, line in part]
            at, owed = at + len(part), owed - len(part)
            if at == len(live):
                if (following := next(lives, None)) is None:
                    yield lines
                    return
                live, at = following, 0
        if lines:
            yield lines


def requests(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines as bodies of JSON lines, of up to MOST_LINES and, unless one line is longer, MOST_BYTES."""
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        if waiting and (len(waiting) == MOST_LINES or size + len(line) > MOST_BYTES):
            yield b"\n".join(waiting)
            waiting, size = [], 0
        waiting.append(line)
        size += len(line) + 1
    if waiting:
        yield b"\n".join(waiting)


class _Sender:
    """A connection that is kept, and made again."""

    def __init__(self, url: SplitResult, key: str | None):
        self._url, self._connection = url, self._connect(url)
        self._headers = {"content-type": "application/x-ndjson"} | ({"authorization": f"Bearer {key}"} if key else {})

    @staticmethod
    def _connect(url: SplitResult) -> http.client.HTTPConnection:
        assert url.hostname is not None
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        return kind(url.hostname, url.port, timeout=ANSWER_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def send(self, body: bytes) -> None:
        end, why = time.monotonic() + TRIES_SECONDS, ""
        while time.monotonic() < end:
            pause = PAUSE_SECONDS
            try:
                self._connection.request("POST", PATH, body, self._headers)
                answer = self._connection.getresponse()
                answer.read()
                if answer.status < 300:
                    return
                why = f"it answers {answer.status}"
                if answer.status < 500 and answer.status != 429:
                    break
                with suppress(ValueError):
                    pause = min(max(float(answer.headers.get("retry-after", "")), pause), TRIES_SECONDS / 4)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                why = getattr(error, "strerror", None) or type(error).__name__
            time.sleep(pause)
        where = f"{self._url.scheme}://{self._url.netloc}"
        raise SourceError(f"the collector at {where} takes no events: {why}; start it, or check the write key")
