"""The ids of recent events by source, to say `duplicate` to a client that sends again.

The answer is for the client alone: a duplicate goes to the log too, and the graph decides. So a window that is too
short, or two ids with one hash, costs a wrong word in an answer and never an event.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

MOST_IDS = 100_000  # of all sources: some 15 MB


class Recent:
    """Remembers the ids that came last. Not thread-safe."""

    def __init__(self, most: int = MOST_IDS):
        self._most = most
        self._known: OrderedDict[int, None] = OrderedDict()  # hashes of (source, id), the oldest first

    def duplicates(self, source: str, ids: Sequence[str | None]) -> list[bool]:
        """Return for each id whether it is known, or is earlier in the same list."""
        seen, found = set[int](), []
        for each in ids:
            number = hash((source, each))
            found.append(each is not None and (number in self._known or number in seen))
            seen.add(number)
        return found

    def add(self, source: str, ids: Iterable[str | None]) -> None:
        """Remember ids whose events are durable now."""
        for each in ids:
            if each is not None:
                number = hash((source, each))
                self._known[number] = None
                self._known.move_to_end(number)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
