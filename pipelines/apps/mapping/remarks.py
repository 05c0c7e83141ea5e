"""What a proposal says beside its fields: what fails, what it could not find, and what it does not use."""

import re
from collections import Counter
from collections.abc import Iterator

import polars as pl

from pipelines.apps.mapping.document import printable
from pipelines.apps.mapping.found import Guess, Guesses, share_text
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.rehearsal import Rehearsal

MOST_NAMED = 50  # unused paths that are listed
_EXAMPLES, _LONGEST = 3, 24
_PAIR = 4  # keys of an object that is one key and its value, in one type or another
_PERSON = re.compile(r"(user|visitor|person|customer)_")


def failure_of(rehearsed: Rehearsal) -> str:
    """Return what fails if most records do, else an empty text."""
    if rehearsed.passed() * 2 >= rehearsed.records:
        return ""
    codes = ", ".join(f"{code} in {count:,}" for code, count in _codes(rehearsed))
    return f"MOST RECORDS FAIL under this proposal: {rehearsed.passed():,} of {rehearsed.records:,} pass; {codes}."


def remarks(found: Guesses, unused: list[str], rehearsed: Rehearsal, native: bool) -> list[str]:
    """Return the comments below the fields."""
    notes = ["The records are in the native format: audience backfill reads them without a mapping."] if native else []
    notes += _missing(found)
    notes += _about_ids(found, rehearsed)
    notes += [f"Quarantined: {count:,} of the sample, {code}." for code, count in _codes(rehearsed)]
    notes += [f"{path}: {why}." for path, why in found.refused.items() if path in unused]
    if unused:
        notes.append("Not used, kept in the column `extra` (with values of the sample):")
        notes += [f"  {path}: {values}" for path, _, values in examples(found, unused)]
    if len(unused) > MOST_NAMED:
        notes.append(f"  and {len(unused) - MOST_NAMED} more")
    return notes


def examples(found: Guesses, unused: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (path, the share of records that have it, some of its values) of what is not used."""
    by_path = {seen.spelled: seen for seen in found.seen}
    for path in unused[:MOST_NAMED]:
        yield path, share_text(by_path[path].share), values_of(by_path[path])


def values_of(seen: Seen) -> str:
    """Return the commonest values, shortened, on one line."""
    if not seen.present:
        return "empty"
    if not seen.counts:
        return _about_lists(seen) if seen.kinds["list"] else "objects"
    texts = [printable(text[: _LONGEST + 1]) for text, _ in seen.counts.most_common(_EXAMPLES)]
    shown = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in texts]
    return " | ".join(shown) + (" | …" if len(seen.counts) > _EXAMPLES else "")


def _about_lists(seen: Seen) -> str:
    """Return that it is lists, and of lists of keys and values the keys."""
    elements = [each for value in seen.present if isinstance(value, list) for each in value if isinstance(each, dict)]
    for key in ("key", "name"):
        keys = Counter(str(each[key]) for each in elements if key in each and len(each) <= _PAIR)
        if elements and sum(keys.values()) > len(elements) / 2:
            return f"lists of keys and values: {', '.join(printable(name) for name, _ in keys.most_common(10))}"
    return "lists"


def _codes(rehearsed: Rehearsal) -> list[tuple[str, int]]:
    rejected = rehearsed.rejected.group_by("stage", "code").len().sort(["len", "code"], descending=[True, False])
    return [(f"{code} ({stage})", count) for stage, code, count in rejected.iter_rows()]


def _missing(found: Guesses) -> list[str]:
    made, notes = found.made, []
    if "user_id" not in made and "anonymous_id" not in made:
        persons = [seen.spelled for seen in found.seen if _PERSON.match(seen.names[0])]
        notes.append("No path identifies people. If several do together, set user_id: {hash: [{path: a}, {path: b}]}.")
        if persons:
            notes[-1] += f" Candidates: {', '.join(persons[:6])}."
    if "channel" not in made:
        notes.append("If all records belong to one channel, set it: channel: {const: web}.")
    if "value" in made and "currency" not in made:
        notes.append("Sums of value need a currency, and none was found: state it, as currency: {const: ...}.")
    if "value" in made and "quantity" in made and _is_price(made["value"]):
        price, quantity = made["value"].stated["path"], made["quantity"].stated["path"]
        notes.append(f"{price} looks like a unit price: the amount paid is {price} times {quantity}.")
    return notes


def _is_price(guess: Guess) -> bool:
    return str(guess.stated.get("path", "")).lower().endswith("price")


def _about_ids(found: Guesses, rehearsed: Rehearsal) -> list[str]:
    notes = []
    if "event_id" not in found.made:
        notes.append("No path is a unique id: event_id is derived from the content of the record.")
    if alike := len(rehearsed.duplicates.filter(pl.col("id_source") == "derived")):
        notes.append(
            f"{alike:,} records equal another one in all fields, and count as its duplicates; if each is an event of"
            " its own, set derived_id: occurrence."
        )
    return notes
