"""Contents that a person may like next: by what others saw together, else by what is popular and what rises.

    together     sum over the persons who saw both of 1 / (contents that the person saw): each person has one vote
    similarity   together(i, j) / sqrt(together(i, i) * together(j, j)), 0 to 1; 0 below `least` persons
    score        sum over what the person saw of weight * similarity, over the nearest neighbours of each

The cosine of co-occurrence, weighted by persons (M. Deshpande and G. Karypis, "Item-Based Top-N Recommendation
Algorithms", ACM TOIS 22, 2004). Contents are numbers from 0 on, in an order that breaks ties: the smaller first.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CELLS = 4_000_000  # of a matrix that is held at a time
NOBODY = -1


class Saw(NamedTuple):
    """What persons saw: an entry for each person and content, sorted by both.

    first    (persons + 1,) int64: where the entries of each person begin, and the number of entries
    content  (entries,) int64
    weight   (entries,) float64, above 0
    """

    first: np.ndarray
    content: np.ndarray
    weight: np.ndarray


class Similar(NamedTuple):
    """The neighbours of each content, the most similar first, (contents, neighbours) each; `value` 0: no neighbour."""

    content: np.ndarray
    value: np.ndarray
    persons: np.ndarray


class Best(NamedTuple):
    """What each person may like next, (persons, places) each.

    content  NOBODY: no more
    score    NaN where nothing similar is left and the order of `otherwise` has decided
    because  the content seen that adds most to the score; NOBODY without a score
    """

    content: np.ndarray
    score: np.ndarray
    because: np.ndarray


def similar(saw: Saw, allowed: np.ndarray, neighbours: int, least: int) -> Similar:
    """The contents most similar to each; allowed (contents,): whether a content may be a neighbour."""
    many, sizes = len(allowed), np.diff(saw.first)
    person = np.repeat(np.arange(len(sizes)), sizes)
    vote = 1 / np.maximum(sizes, 1)
    own = np.bincount(saw.content, vote[person], many)
    by_content = np.argsort(saw.content, kind="stable")
    ends = np.searchsorted(saw.content[by_content], np.arange(many + 1))
    width = min(neighbours, many)
    found = Similar(np.zeros((many, width), np.int64), np.zeros((many, width)), np.zeros((many, width), np.int64))
    rows = max(1, CELLS // max(many, 1))
    for start in range(0, many, rows):
        stop = min(start + rows, many)
        together, persons = np.zeros((stop - start) * many), np.zeros((stop - start) * many, np.int64)
        for entries in _parts(by_content[ends[start] : ends[stop]], sizes[person]):
            at, flat = _spread(saw.first[:-1][person[entries]], sizes[person[entries]])
            cell = (saw.content[entries][at] - start) * many + saw.content[flat]
            together += np.bincount(cell, vote[person[entries]][at], len(together))
            persons += np.bincount(cell, minlength=len(persons))
        both, scale = persons.reshape(-1, many), np.sqrt(np.outer(own[start:stop], own))
        cosine = together.reshape(-1, many) / np.where(scale > 0, scale, 1)
        value = np.where((both >= least) & allowed, cosine, 0.0)
        value[np.arange(stop - start), np.arange(start, stop)] = 0
        nearest, found.value[start:stop] = _largest(value, width)
        found.content[start:stop] = nearest
        found.persons[start:stop] = np.take_along_axis(both, nearest, 1)
    return found


def best(saw: Saw, near: Similar, otherwise: np.ndarray, places: int, without: Saw) -> Best:
    """The `places` contents of the largest score for each person, then those of `otherwise`.

    near       of which no content is one that may not be recommended
    otherwise  (contents,) of numbers below 1, the larger first; 0: never
    without    what is not recommended to each person of `saw`
    """
    many, people = len(otherwise), len(saw.first) - 1
    width = min(places, many)
    found = Best(np.full((people, width), NOBODY), np.full((people, width), np.nan), np.full((people, width), NOBODY))
    step = max(1, CELLS // max(many, near.content.shape[1], 1))
    for start in range(0, people, step):
        stop = min(start + step, people)
        entries = slice(saw.first[start], saw.first[stop])
        person, content = _of(saw, start, stop), saw.content[entries]
        cell = person[:, None] * many + near.content[content]
        adds = saw.weight[entries, None] * near.value[content]
        score = np.bincount(cell.reshape(-1), adds.reshape(-1), (stop - start) * many).reshape(-1, many)
        value = np.where(score > 0, score + 1, otherwise)
        value[_of(without, start, stop), without.content[without.first[start] : without.first[stop]]] = 0
        chosen, told = _largest(value, width)
        found.content[start:stop] = np.where(told > 0, chosen, NOBODY)
        found.score[start:stop] = np.where(told > 1, told - 1, np.nan)
        wanted = np.where(told > 1, chosen, NOBODY)
        found.because[start:stop] = _reasons(wanted, cell, adds, content, many)
    return found


def _of(saw: Saw, start: int, stop: int) -> np.ndarray:
    """Which person of those from start to stop each of their entries is of."""
    return np.repeat(np.arange(stop - start), np.diff(saw.first[start : stop + 1]))


def _reasons(wanted: np.ndarray, cell: np.ndarray, adds: np.ndarray, content: np.ndarray, many: int) -> np.ndarray:
    """The content seen that adds most to each wanted one; of equal ones the smaller."""
    place = np.zeros(len(wanted) * many, np.int64)
    rows, columns = np.nonzero(wanted != NOBODY)
    place[rows * many + wanted[rows, columns]] = 1 + rows * wanted.shape[1] + columns
    target = place[cell]
    entry, neighbour = np.nonzero((target > 0) & (adds > 0))
    target, added, source = target[entry, neighbour] - 1, adds[entry, neighbour], content[entry]
    order = np.lexsort((-source, added, target))
    found = np.full(wanted.size, NOBODY)
    found[target[order]] = source[order]  # the last one of each stays
    return found.reshape(wanted.shape)


def _largest(values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the largest values above 0 of each row, and the values, (rows, width) each: the largest first, of
    equal ones the smaller column. Where a row has fewer, column and value are 0.

    Most values are 0: those above it are moved together first, so that the others are not compared.
    """
    rows, columns = np.nonzero(values > 0)
    counts = np.bincount(rows, minlength=len(values))
    shape = len(values), max(int(counts.max(initial=0)), width)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    column, value, order = np.zeros(shape, np.int64), np.zeros(shape), np.ones(shape)
    column[rows, place], value[rows, place] = columns, values[rows, columns]
    order[rows, place] = columns * 1e-13 - values[rows, columns]
    chosen = np.argpartition(order, width - 1, axis=1)[:, :width]
    chosen = np.take_along_axis(chosen, np.argsort(np.take_along_axis(order, chosen, 1), axis=1, kind="stable"), 1)
    return np.take_along_axis(column, chosen, 1), np.take_along_axis(value, chosen, 1)


def _parts(entries: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """The entries in parts that spread to about CELLS each."""
    sums = np.cumsum(sizes[entries]) if len(entries) else np.zeros(0)
    cuts = np.searchsorted(sums, np.arange(CELLS, sums[-1] if len(sums) else 0, CELLS))
    return (part for part in np.split(entries, cuts) if len(part))


def _spread(first: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of ranges that begin at `first`: which range each number is of, and the numbers."""
    at = np.repeat(np.arange(len(sizes)), sizes)
    begin = np.cumsum(sizes) - sizes
    return at, np.arange(len(at)) - begin[at] + first[at]
