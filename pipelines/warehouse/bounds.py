"""What the answer to a question may take, and what the question may name."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from transforms.errors import QueryError

Scalar = str | int | float | bool | Decimal | date | datetime


class Parameter(NamedTuple):
    """The value of a `?` of a statement, and its type as BigQuery names it."""

    type: str
    value: Scalar


@dataclass(frozen=True)
class Bounds:
    """Bounds of one question.

    relations     the only tables and views that it may name; None: all
    parameters    the values of its `?`, in order
    seconds       after which it is stopped; None: never
    billed_bytes  that BigQuery may bill, or it refuses the question before it reads anything; None: its own limits
    """

    relations: frozenset[str] | None = None
    parameters: tuple[Parameter, ...] = ()
    seconds: float | None = None
    billed_bytes: int | None = None

    def check(self, named: set[str]) -> None:
        """Raise QueryError for a relation that the question may not name."""
        if self.relations is not None:
            strange = sorted(named - {name.lower() for name in self.relations})
            if strange:
                allowed = ", ".join(sorted(self.relations))
                raise QueryError(f"query: it may not read {strange[0]!r}; allowed: {allowed}")


NONE = Bounds()


def too_slow(seconds: float | None) -> QueryError:
    """The error of a question that was stopped."""
    return QueryError(f"query: stopped after {seconds:g} s; ask for fewer days or rows, or allow more seconds")
