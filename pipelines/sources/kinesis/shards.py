"""The shards of a stream: which may be read now, how far each was received, and how far it is finalized.

Order   a shard that came from others by a split or a merge begins once all of them were received to their end
Marks   of a shard: the last record before the first that is not finalized, in whichever order bundles are finalized

Times are in seconds since 1970, by the clock of the server, but for `due` and `since`.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.sources.kinesis.marks import Mark, Marks
from pipelines.sources.retries import waits
from pipelines.sources.watermark import Watermark


@dataclass(eq=False)
class Taken:
    """Records of a shard that are handed on together: the mark before them, since when they are here (by the monotonic
    clock of the reading), how many, and whether they are finalized. `earliest`: received time in us since 1970."""

    before: Mark
    since: float
    rows: int
    bytes: int
    earliest: int
    is_done: bool = False


@dataclass(eq=False)
class Shard:
    """A shard that is read, or waits for its parents.

    mark      how far it is received; what is not finalized yet is in `taken`, in order
    behind    seconds from its tip at the last answer; None before the first one
    is_at_tip, answered   whether the last answer had nothing and there was no more, and when it came (monotonic)
    due       when to ask next, by the monotonic clock
    refused_at   since when it refuses to be read, by the monotonic clock
    turn      changes when what was received is to be received again
    """

    id: str
    parents: tuple[str, ...]
    mark: Mark
    watermark: Watermark
    iterator: str | None = None
    taken: deque[Taken] = field(default_factory=deque)
    behind: float | None = None
    first_behind: float | None = None
    is_at_tip: bool = False
    answered: float = 0.0
    due: float = 0.0
    turn: int = 0
    is_busy: bool = False
    refused_at: float | None = None
    is_begun: bool = False
    tries: Iterator[float] = field(default_factory=waits)

    def finalized(self) -> Mark:
        """How far it is finalized."""
        while self.taken and self.taken[0].is_done:
            self.taken.popleft()
        return self.taken[0].before if self.taken else self.mark

    def go_back(self) -> None:
        """Receive again what is not finalized."""
        self.mark, self.iterator = self.finalized(), None
        self.taken.clear()
        self.turn += 1
        self.is_at_tip = False


def parents_of(listed: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Shard -> those of its parents that are still listed: what has expired was read, or cannot be."""
    names = {shard["ShardId"] for shard in listed}
    kinds = ("ParentShardId", "AdjacentParentShardId")
    return {shard["ShardId"]: tuple(str(shard[kind]) for kind in kinds if shard.get(kind) in names) for shard in listed}


class Shards:
    """The shards of one stream. Not for many threads."""

    def __init__(self, marks: Marks, new_watermark: Any):
        self.marks, self._new_watermark = marks, new_watermark
        self.by_id: dict[str, Shard] = {}

    def update(self, listed: Mapping[str, tuple[str, ...]]) -> None:
        """Learn what the stream has now, shard -> parents; a shard that is listed no more and was read is forgotten."""
        for name, parents in listed.items():
            if name not in self.by_id:
                mark = self.marks.shards.get(name, Mark())
                self.by_id[name] = Shard(name, parents, mark, self._new_watermark())
        for name, shard in list(self.by_id.items()):
            if name not in listed and shard.mark.ended and not shard.taken:
                del self.by_id[name]

    def readable(self) -> list[Shard]:
        """Those that are to be asked for records."""
        return [shard for shard in self.by_id.values() if not shard.mark.ended and self._may_begin(shard)]

    def _may_begin(self, shard: Shard) -> bool:
        if not shard.is_begun:
            parents = [self.by_id[name] for name in shard.parents if name in self.by_id]
            shard.is_begun = all(parent.mark.ended for parent in parents)
            if shard.is_begun and shard.mark == Mark() and parents:  # what it has came after them
                known = [parent.mark.known for parent in parents]
                shard.mark = Mark(known=None if None in known else min(one for one in known if one is not None))
        return shard.is_begun

    def waiting_for_children(self) -> bool:
        """Whether a shard has ended whose children are not known: Kinesis closes a shard only by a split or a merge."""
        parents = {name for shard in self.by_id.values() for name in shard.parents}
        return any(shard.mark.ended and shard.id not in parents for shard in self.by_id.values())

    def finalized(self) -> Marks:
        """The marks to store: how far each shard that was begun is finalized."""
        now = {
            name: mark for name, shard in self.by_id.items() if shard.is_begun and (mark := shard.finalized()) != Mark()
        }
        return Marks(self.marks.stream, self.marks.created, self.marks.start, now)
