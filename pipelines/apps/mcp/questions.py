"""The arguments of each tool that asks the warehouse, and the question that they mean.

An argument that does not fit is an OptionError with what was got and what is allowed.
"""

from datetime import date
from typing import Annotated, Literal

import msgspec

from pipelines.apps.mcp.answers import answer, names_of
from pipelines.apps.mcp.pages import metric_of, reference
from pipelines.apps.mcp.scope import HOW_PEOPLE, HOW_SQL, Scope
from pipelines.apps.mcp.statement import Filter, Names, Order, Statement, select, where
from pipelines.apps.mcp.trends import MEASURES
from transforms.errors import OptionError

USUAL_ROWS = 100
Limit = Annotated[int, msgspec.Meta(ge=1, description=f"Rows at most (default: {USUAL_ROWS})")] | None
Start = Annotated[date | None, msgspec.Meta(description="First day, YYYY-MM-DD, in the time zone of the warehouse")]
End = Annotated[date | None, msgspec.Meta(description="Day after the last one, YYYY-MM-DD")]
Filters = Annotated[list[Filter], msgspec.Meta(description="Conditions that all hold", max_length=20)]
# view -> the column that is the person, and a condition that its metrics put
PEOPLE = {
    "events_unique": ("person", "is_bot IS NOT TRUE"),
    "visits": ("visitor", ""),
    "active_days": ("person", ""),
    "first_touches": ("person", ""),
    "rfm_segments": ("person", ""),
}


class QueryView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of a view."""

    view: Annotated[str, msgspec.Meta(description="A view that list_metrics names")]
    columns: Annotated[list[str], msgspec.Meta(description="Columns to return (default: all)")] = []
    filters: Filters = []
    order: Annotated[list[Order], msgspec.Meta(description="Columns to sort by, the first one first")] = []
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """The rows."""
        limit = _limit(scope, self.limit)
        statement = select(names_of(scope, self.view), self.columns, self.filters, self.order, limit + 1)
        return answer(scope, statement, limit, metric_of(self.view))


class Trend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measure by day."""

    measure: Annotated[Literal[tuple(MEASURES)], msgspec.Meta(description="What to count")]  # type: ignore[valid-type]
    by: Annotated[
        Literal["channel", "campaign", "country"] | None, msgspec.Meta(description="Split each day by this column")
    ] = None
    start: Start = None
    end: End = None
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """A row for each day."""
        measure = MEASURES[self.measure]
        if self.by and self.by not in measure.by:
            raise OptionError(f"by: got {self.by!r}; allowed for {self.measure}: {', '.join(measure.by) or 'nothing'}")
        names = names_of(scope, measure.view)
        keys = ", ".join(("day", *measure.always, *([self.by] if self.by else [])))
        conditions, values = where(names, _days("day", self.start, self.end))
        limit = _limit(scope, self.limit)
        sql = (
            f"SELECT {keys}, {measure.sql} AS {self.measure} FROM {names.quoted(names.view)}{conditions} "
            f"GROUP BY {keys} ORDER BY {keys} LIMIT {limit + 1}"
        )
        return answer(scope, Statement(sql, values), limit, reference(measure.metric))


class Funnel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """People at each step of the configured funnel."""

    start: Start = None
    end: End = None
    by_day: Annotated[bool, msgspec.Meta(description="A row for each day and step, with the median time")] = False
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """A row for each step."""
        names = names_of(scope, "funnel_by_day")
        conditions, values = where(names, _days("day", self.start, self.end))
        limit, source = _limit(scope, self.limit), f"FROM {names.quoted(names.view)}{conditions}"
        if self.by_day:
            sql = f"SELECT * {source} ORDER BY day, step LIMIT {limit + 1}"
        else:
            sums = ", ".join(f"SUM({name}) AS {name}" for name in ("persons", "first_persons", "previous_persons"))
            sql = (
                f"SELECT step, event_type, {sums}, "
                "SUM(persons) / NULLIF(SUM(first_persons), 0) AS conversion_from_first, "
                "SUM(persons) / NULLIF(SUM(previous_persons), 0) AS conversion_from_previous "
                f"{source} GROUP BY step, event_type ORDER BY step LIMIT {limit + 1}"
            )
        return answer(scope, Statement(sql, values), limit, reference("funnel"))


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many people of a cohort came back."""

    period: Annotated[Literal["day", "week"], msgspec.Meta(description="Cohorts of a day or of a week")] = "week"
    start: Annotated[date | None, msgspec.Meta(description="First day of the cohorts, YYYY-MM-DD")] = None
    end: Annotated[date | None, msgspec.Meta(description="Day after the last cohort, YYYY-MM-DD")] = None
    by_cohort: Annotated[bool, msgspec.Meta(description="A row for each cohort, not all of them together")] = False
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """A row for each period after the first, of all cohorts that are that old, or of each."""
        view, cohort, n = f"retention_by_{self.period}", f"cohort_{self.period}", f"{self.period}_n"
        names = names_of(scope, view)
        over = ["retained_on IS NOT NULL"]
        conditions, values = where(names, _days(cohort, self.start, self.end), over)
        limit, source = _limit(scope, self.limit), f"FROM {names.quoted(view)}{conditions}"
        if self.by_cohort:
            chosen = f"{cohort}, {n}, cohort_size, retained_on, retention_on, retained_on_or_after"
            sql = f"SELECT {chosen} {source} ORDER BY {cohort}, {n} LIMIT {limit + 1}"
        else:
            sql = (
                f"SELECT {n}, SUM(cohort_size) AS cohort_size, SUM(retained_on) AS retained_on, "
                f"SUM(retained_on) / NULLIF(SUM(cohort_size), 0) AS retention_on {source} "
                f"GROUP BY {n} ORDER BY {n} LIMIT {limit + 1}"
            )
        return answer(scope, Statement(sql, values), limit, reference("retention"))


class PeopleBehind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The people behind a number."""

    view: Annotated[
        Literal[tuple(PEOPLE)],  # type: ignore[valid-type]
        msgspec.Meta(description="Whose rows are counted: events, visits (sessions), active days, first touches, RFM"),
    ]
    filters: Filters = []
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """A row for each person, those with the most rows first. Errors: OptionError unless people are allowed."""
        if not scope.people:
            raise OptionError(f"people_behind: not allowed; {HOW_PEOPLE}")
        names = names_of(scope, self.view)
        person, always = PEOPLE[self.view]
        some = [f"{person} IS NOT NULL", *([always] if always else [])]
        conditions, values = where(names, self.filters, some)
        limit = _limit(scope, self.limit)
        sql = (
            f"SELECT {person} AS person, COUNT(*) AS n FROM {names.quoted(self.view)}{conditions} "
            f"GROUP BY {person} ORDER BY n DESC, person LIMIT {limit + 1}"
        )
        return answer(scope, Statement(sql, values), limit, metric_of(self.view))


class Sql(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A SELECT."""

    query: Annotated[str, msgspec.Meta(description="One SELECT")]
    limit: Limit = None

    def ask(self, scope: Scope) -> str:
        """The rows. Errors: OptionError unless SQL is allowed, and for a statement that does not only read."""
        if not scope.sql:
            raise OptionError(f"sql: not allowed; {HOW_SQL}")
        if not self.query.strip():
            raise OptionError("query: it is empty; ask for example SELECT * FROM quality_summary")
        return answer(scope, Statement(self.query), _limit(scope, self.limit), None, free=True)


def _limit(scope: Scope, given: int | None) -> int:
    most = scope.limits.rows
    if given is not None and given > most:
        raise OptionError(f"limit: got {given}; allowed: 1 to {most}, the --rows of the server")
    return given or min(USUAL_ROWS, most)


def _days(column: str, start: date | None, end: date | None) -> list[Filter]:
    if start and end and start >= end:
        raise OptionError(f"start {start} is not before end {end}: end is the day after the last one")
    bounds = ((">=", start), ("<", end))
    return [Filter(column, op, day.isoformat()) for op, day in bounds if day]  # type: ignore[arg-type]


def columns_of(names: Names) -> list[dict[str, str]]:
    """The columns of a view for a reader."""
    return [{"name": name, "type": kind} for name, kind in names.columns.items()]
