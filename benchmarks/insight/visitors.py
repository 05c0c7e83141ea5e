"""Simulated persons whose truth is known: how often each comes, how often it buys, and when it leaves without a word.

A person comes at a rate of its own (gamma), buys in a visit with a probability of its own (beta), and leaves for good
at a rate of its own. From these the probability of a purchase ahead is exact, given that it has not left: no model can
rank persons better, as none knows these numbers.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Persons(NamedTuple):
    """One number for each: first day, last day, visits a day, purchases a visit, rate of leaving a day."""

    first: np.ndarray
    last: np.ndarray
    visits: np.ndarray
    buys: np.ndarray
    leaves: np.ndarray


def persons(count: int, days: int, seed: int, rare: float = 12) -> Persons:
    """Persons of a warehouse of so many days: a third is there at its beginning; one of 1 + `rare` visits buys."""
    random = np.random.default_rng(seed)
    first = np.maximum(random.uniform(-days / 2, days, count), 0)
    leaves = random.gamma(1.5, 0.02, count) + 1e-3
    last = first + random.exponential(1 / leaves)
    return Persons(first, last, random.gamma(0.8, 0.5, count) + 0.02, random.beta(1, rare, count), leaves)


def events(of: Persons, days: int, seed: int) -> Iterator[dict[str, object]]:
    """Their events in the native format: in each visit page views and perhaps a purchase; a third is anonymous."""
    random = np.random.default_rng(seed + 1)
    for at in range(of.first.size):
        end = min(of.last[at], days)
        who = {"anonymous_id": f"a{at}"} if at % 3 == 0 else {"anonymous_id": f"a{at}", "user_id": f"u{at}"}
        for begin in np.sort(random.uniform(of.first[at], end, random.poisson(of.visits[at] * (end - of.first[at])))):
            pages = 1 + random.poisson(1.5)
            kinds = ["page_view"] * pages + ["purchase"] * int(random.random() < of.buys[at])
            for place, kind in enumerate(kinds):
                time = START + float(begin) * DAY + place * timedelta(seconds=20)
                bought = {"value": 10, "currency": "EUR"} if kind == "purchase" else {}
                event = {"event_type": kind, "event_time": time.isoformat(), "source": "web"}
                yield event | who | bought


def truth(of: Persons, at: float, days: int) -> np.ndarray:
    """The probability of a purchase in so many days from day `at` on; 0 of who has left."""
    rate = of.visits * of.buys
    found = rate / (rate + of.leaves) * -np.expm1(-(rate + of.leaves) * days)
    return np.where((of.first <= at) & (at < of.last), found, 0.0)


def truth_of_absence(of: Persons, at: float, days: int) -> np.ndarray:
    """The probability of no visit in so many days from day `at` on; 1 of who has left."""
    gone = of.leaves / (of.visits + of.leaves)
    none = gone + (1 - gone) * np.exp(-(of.visits + of.leaves) * days)
    return np.where((of.first <= at) & (at < of.last), none, 1.0)


def names(count: int) -> list[str]:
    """The person of each in a warehouse."""
    return [f"a{at}" if at % 3 == 0 else f"u{at}" for at in range(count)]
