"""The guesses of a proposal, and how a path's name and values are scored."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.apps.mapping.currencies import without_unit
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.trial import Trial, trial
from pipelines.apps.mapping.words import ENDS, NAMES

FAILING = 0.05  # share of records; a guess that sends more of them to quarantine is discarded
UNNAMED, ENDING = 200, 100  # ranks of a path by its name; a lower rank is the index of the name in the list


class Guess(NamedTuple):
    """A field as the mapping would state it. `share` is the share of records that get a value."""

    field: str
    stated: dict[str, Any]
    share: float
    notes: tuple[str, ...] = ()
    comments: dict[str, str] = {}  # on the keys of a map


@dataclass
class Guesses:
    """The guesses so far, in the order in which they were made."""

    seen: list[Seen]
    made: dict[str, Guess] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # path -> why it is not used for what its name suggests
    used: set[str] = field(default_factory=set)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)  # of `events`, if one event a record is not enough

    def add(self, guess: Guess, *paths: Seen) -> None:
        self.made[guess.field] = guess
        self.used.update(seen.spelled for seen in paths)

    def unused(self) -> list[Seen]:
        """Return the paths of scalars that no guess uses."""
        return [seen for seen in self.seen if seen.spelled not in self.used and seen.scalar]

    def candidates(self, name: str) -> list[Seen]:
        """Return the unused paths whose name suggests the field, the best name first, the top before the deep."""
        named = [(rank(seen, name), seen) for seen in self.unused()]
        named = [(found + buried(seen), seen) for found, seen in named if found < UNNAMED]
        return [seen for _, seen in sorted(named, key=lambda pair: pair[0])]


def rank(seen: Seen, name: str) -> int:
    """Return how well a path's name suggests a field: lower is better, UNNAMED is not at all."""
    squeezed = {hint.replace("_", ""): at for at, hint in reversed(list(enumerate(NAMES[name])))}
    names = [without_unit(each) for each in seen.names] if name == "value" else seen.names
    found = [squeezed[each.replace("_", "")] for each in names if each.replace("_", "") in squeezed]
    if found:
        return min(found)
    ends = (end for end in ENDS.get(name, ()) for each in seen.names if f"_{each}".endswith(f"_{end}"))
    return ENDING if next(ends, None) else UNNAMED


def buried(seen: Seen) -> int:
    """Return how much worse a name is for its place: deep in the record, and there in few records only."""
    rare = 30 if seen.depth > 1 and seen.share < 0.5 else 0
    return (0, 3)[min(seen.depth, 2) - 1] + 12 * max(seen.depth - 2, 0) + rare


def attempt(found: Guesses, name: str, seen: Seen, how: dict[str, Any], others: list[Seen]) -> bool:
    """Make the guess if it holds, and return whether it does."""
    tried = trial(seen.values, name, how)
    if tried.failing > FAILING or not tried.filled:
        found.refused[seen.spelled] = because(tried, f"no {name}")
        return False
    notes = [because(tried, "") + ", which are quarantined; on_error: null keeps them"] if tried.failed else []
    if named := [each.spelled for each in others[:3]]:
        notes.append(f"alternatively {join_names(named)}")
    found.add(Guess(name, {"path": seen.spelled, **how}, tried.share, tuple(notes)), seen)
    return True


def some_lack(seen: Seen) -> str:
    return f"{share_text(1 - seen.share)} of the records have none"


def because(tried: Trial, what: str) -> str:
    codes = ", ".join(f"{code} in {count:,}" for code, count in tried.codes.items())
    return ": ".join(filter(None, (what, f"{codes} of {tried.records:,} records" if codes else "")))


def join_names(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def share_text(share: float) -> str:
    """Format a share: 100 % and 0 % are exact."""
    percent = round(share * 100, 1)
    if percent in (0, 100) and share not in (0, 1):
        return "over 99.9 %" if share > 0.5 else "under 0.1 %"
    return f"{percent:g} %"
