"""Whose an event is, as of a time: SQL that BigQuery and DuckDB share.

A visitor and the user that it becomes are one person: an event with an anonymous id alone is of the user with whom the
id was seen, as the view `identities` has it of the sessions that were over by then. An anonymous id that was seen with
several users is a shared device: what has no user there is nobody's. Events of bots are left out.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from pipelines.insight.shape import Inputs
from pipelines.warehouse.conditions import DAY, moment, one_of

VISITS = "visits"
STEPS, HALVES = 4, 10  # steps of a half-life, and half-lives after which nothing counts
WHOLE = 1_000_000  # the weight of what has no age: weights are whole numbers, so that their sums are exact


def people(inputs: Inputs, since: datetime, columns: Collection[str], where: str = "TRUE") -> str:
    """SQL: the events from `since` to before as_of that are somebody's: person, is_user and these columns of theirs."""
    listed = ", ".join(f"e.{name}" for name in columns)
    return f"SELECT {_whose(inputs)}, {listed} {_from(inputs, 'events')} AND {_counts(inputs, since)} AND {where}"


def totals(
    inputs: Inputs, since: datetime, keys: Mapping[str, str], measures: Mapping[str, str], where: str = "TRUE"
) -> str:
    """SQL: aggregates of the events of `people`, by person and keys: person, is_user, keys and measures.

    Keys and measures are name -> SQL over the columns of `events`. A person may have several rows of equal keys, whose
    measures are still to be aggregated: events are grouped by their ids, and whose an id is, is asked of these rows.
    """
    made = ", ".join(f"{sql} AS {name}" for name, sql in {**keys, **measures}.items())
    grouped = (
        f"SELECT e.user_id, e.anonymous_id, {made} FROM events AS e WHERE {_counts(inputs, since)} AND {where} "
        f"GROUP BY {', '.join(str(place + 1) for place in range(2 + len(keys)))}"
    )
    listed = ", ".join(f"e.{name}" for name in (*keys, *measures))
    return f"SELECT {_whose(inputs)}, {listed} {_from(inputs, f'({grouped})')}"


def _counts(inputs: Inputs, since: datetime) -> str:
    return f"e.is_bot IS NOT TRUE AND e.event_time >= {moment(since)} AND e.event_time < {moment(inputs.as_of)}"


def sessions(inputs: Inputs, since: datetime, columns: Collection[str]) -> str:
    """SQL: the sessions from `since` on that were over as of then and are somebody's: person, is_user and columns."""
    listed = ", ".join(f"e.{name}" for name in columns)
    return f"SELECT {_whose(inputs)}, {listed} {_from(inputs, VISITS)} " + (f"AND {_ended(inputs, since, 'e.')}")


def _whose(inputs: Inputs) -> str:
    if VISITS not in inputs.names:
        return "COALESCE(e.user_id, e.anonymous_id) AS person, e.user_id IS NOT NULL AS is_user"
    known = "COALESCE(e.user_id, links.linked_user)"
    return f"COALESCE({known}, e.anonymous_id) AS person, {known} IS NOT NULL AS is_user"


def _from(inputs: Inputs, table: str) -> str:
    anybody = "COALESCE(e.user_id, e.anonymous_id) IS NOT NULL"
    if VISITS not in inputs.names:
        return f"FROM {table} AS e WHERE {anybody}"
    since = inputs.as_of - inputs.configuration.insight.profiles.history * DAY
    links = (
        "SELECT anonymous_id AS linked_id, MIN(user_id) AS linked_user, COUNT(DISTINCT user_id) AS users "
        f"FROM {VISITS} WHERE anonymous_id IS NOT NULL AND user_id IS NOT NULL AND {_ended(inputs, since, '')} "
        "GROUP BY anonymous_id"
    )
    return (
        f"FROM {table} AS e LEFT JOIN ({links}) AS links ON e.user_id IS NULL "
        f"AND e.anonymous_id = links.linked_id WHERE {anybody} AND (links.users IS NULL OR links.users = 1)"
    )


def _ended(inputs: Inputs, since: datetime, of: str) -> str:
    """What no event after as_of can be part of: a session that has ended, and so long ago that it cannot go on."""
    from transforms.sessions.summaries import GAP

    days = f"{of}day BETWEEN DATE '{since.date() - DAY}' AND DATE '{inputs.as_of.date() + DAY}'"
    return f"{days} AND {of}session_start >= {moment(since)} AND {of}session_end < {moment(inputs.as_of - GAP)}"


def is_liked(inputs: Inputs) -> str:
    """SQL: whether an event of `people` tells of an interest in its category and content."""
    return f"NOT ({one_of('e.event_type', inputs.configuration.insight.profiles.no_interest)})"


def weight(inputs: Inputs, column: str, half_life: timedelta) -> str:
    """SQL of a whole number: WHOLE, halved with each half-life of the age, counted in quarters of it; 0 at last."""
    steps = [
        f"WHEN {column} > {moment(inputs.as_of - half_life * (step + 1) / STEPS)} "
        f"THEN {round(WHOLE * 0.5 ** (step / STEPS))}"
        for step in range(HALVES * STEPS)
    ]
    return f"CASE {' '.join(steps)} ELSE 0 END"


def oldest(inputs: Inputs, half_life: timedelta) -> datetime:
    """The time up to which `weight` is 0."""
    return inputs.as_of - half_life * HALVES
