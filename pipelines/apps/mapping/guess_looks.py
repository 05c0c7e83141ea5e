"""Guess fields by what their values look like, where no name suggests them; each such guess says so."""

import re
from itertools import pairwise

from pipelines.apps.mapping.found import Guess, Guesses, attempt
from pipelines.apps.mapping.profile import Seen

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}\.[A-Za-z]{2,24}")
_IP = re.compile(r"\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}")
_PAGE = re.compile(r"(https?:/)?/\S*")
_MONEY = re.compile(r"-?\d+[.,]\d{2}")
_COUNT = re.compile(r"\d{1,2}|-?\d+[.,]\d*")  # a number of things, or one that is measured
_CODE = re.compile(r"\S{1,64}")
_UNNAMED = re.compile(r"column_\d+")
_LOOKED_AT, _MOST = 500, 0.9
_LEAST_CODES = 6  # distinct values of ids; fewer are kinds of something


def guess_by_looks(found: Guesses) -> None:
    """Guess who, what and how much."""
    _take(found, "user_id", _EMAIL, "found by its values: addresses of people")
    if not {"user_id", "anonymous_id"} & found.made.keys() and not _unnamed(found):
        _take(found, "anonymous_id", _IP, "an IP address, which several people may share and one may change")
    _take(found, "content_id", _PAGE, "found by its values")
    if _unnamed(found):
        _guess_by_place(found)


def _take(found: Guesses, name: str, form: re.Pattern[str], note: str) -> None:
    if name in found.made or (name == "user_id" and "anonymous_id" in found.made):
        return
    for seen in found.unused():
        if (
            len(seen.counts) > 1
            and seen.share > 0.5
            and _share(seen, form) >= _MOST
            and attempt(found, name, seen, {}, [])
        ):
            found.made[name] = found.made[name]._replace(notes=(note,))
            return


def _share(seen: Seen, form: re.Pattern[str]) -> float:
    texts = list(seen.counts)[:_LOOKED_AT]
    return sum(bool(form.fullmatch(text[:400])) for text in texts) / len(texts) if texts else 0.0


def _unnamed(found: Guesses) -> bool:
    """Return whether the columns have no names of their own."""
    return all(_UNNAMED.fullmatch(seen.spelled) for seen in found.seen)


def _guess_by_place(found: Guesses) -> None:
    """Guess, without names, that the first ids are those of people and the next ones those of contents."""
    note = "guessed by its place alone: check it"
    person: Seen | None = None
    for seen in found.unused():
        if seen.share < 0.9 or len(seen.counts) < 2:
            continue
        is_code = len(seen.counts) >= _LEAST_CODES and _share(seen, _CODE) == 1 > _share(seen, _MONEY)
        is_code = is_code and (_share(seen, _COUNT) < 1 or _stands_together(seen))
        if is_code and person is None and "user_id" not in found.made:
            person = seen
            found.add(Guess("user_id", {"path": seen.spelled}, seen.share, (note,)), seen)
        elif is_code and "content_id" not in found.made and not (person and _same(person, seen)):
            found.add(Guess("content_id", {"path": seen.spelled}, seen.share, (note,)), seen)
        elif "value" not in found.made and _share(seen, _MONEY) == 1 and attempt(found, "value", seen, {}, []):
            found.made["value"] = found.made["value"]._replace(notes=("guessed by its two decimals: check it",))


def _stands_together(seen: Seen) -> bool:
    """Return whether records with the same value follow each other, as those of one person in a sorted file."""
    return 1 + sum(one != two for one, two in pairwise(seen.values)) == len(seen.counts)


def _same(one: Seen, other: Seen) -> bool:
    """Return whether two columns number the same things: to each value of one belongs one of the other."""
    return (
        len(set(zip(map(str, one.values), map(str, other.values), strict=True))) == len(one.counts) == len(other.counts)
    )
