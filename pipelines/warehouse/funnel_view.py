"""What the view of the funnel says in place of its placeholders: SQL of as many steps as the funnel has."""

from datetime import timedelta

from transforms.sessions.funnel import Funnel

LATER = "OVER (PARTITION BY {by_day}person ORDER BY place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
SHORTEST_DAY = timedelta(hours=23)  # where clocks are set forward
MOST_DAYS_AHEAD = 8  # above, each event would be read too often: the funnel reads all days once, whichever is asked
AROUND = 1  # days on each side whose events an event is compared with: an id that returns counts once


def filled_with_funnel(template: str, funnel: Funnel) -> str:
    """The template's SQL for this funnel; its other placeholders stay."""
    kinds = {number: f"'{kind}'" for number, kind in enumerate(funnel.steps, 1)}
    ahead = days_ahead(funnel)
    is_by_day = ahead <= MOST_DAYS_AHEAD
    by_day = "day, " if is_by_day else ""
    last = f"the {ahead} after" if ahead > 1 else "the one after"
    values = {
        "reach": f"a day before, {last}, and one more" if is_by_day else "all days",
        "branches": "\n  UNION ALL\n".join(_branches(kinds, ahead) if is_by_day else [_branch(kinds, 0)]),
        "by_day": by_day,
        "days_ahead": str(ahead),
        "first_step": kinds[1],
        "numbers": ", ".join(map(str, kinds)),
        "window_seconds": str(int(funnel.width.total_seconds())),
        "times": "\n".join(_times(kinds, LATER.format(by_day=by_day))),
        "later_times": ", ".join(f"time_{number}" for number in kinds if number > 1),
        "step_of_kind": " ".join(f"WHEN {kind} THEN {number}" for number, kind in kinds.items()),
        "kind_of_step": " ".join(f"WHEN {number} THEN {kind}" for number, kind in kinds.items()),
        "time_of_step": " ".join(f"WHEN {number} THEN time_{number}" for number in kinds),
        "time_before_step": " ".join(f"WHEN {number} THEN time_{number - 1}" for number in kinds if number > 1),
    }
    for name, value in values.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def days_ahead(funnel: Funnel) -> int:
    """How many days after the day of the first step its last step may lie."""
    return -(-funnel.width // SHORTEST_DAY)


def _branches(kinds: dict[int, str], ahead: int) -> list[str]:
    """The events that a day needs, a SELECT for each distance in days: a condition on the day reaches each scan."""
    near = range(-AROUND, AROUND + 1)
    later = {number: kind for number, kind in kinds.items() if number > 1}
    return [_branch(kinds if reach in near else later, reach) for reach in range(-AROUND, ahead + AROUND + 1)]


def _branch(kinds: dict[int, str], reach: int) -> str:
    own = "DATE(event_time, '{{time_zone}}')"
    day = (
        own
        if not reach
        else f"CAST({'DATE_SUB' if reach > 0 else 'DATE_ADD'}({own}, INTERVAL {abs(reach)} DAY) AS DATE)"
    )
    return f"""  SELECT
    {day} AS day,
    {reach} AS reach,
    COALESCE(user_id, anonymous_id) AS person,
    event_type,
    event_time,
    source,
    event_id,
    received_time,
    input
  FROM events
  WHERE event_type IN ({", ".join(kinds.values())})
    AND is_bot IS NOT TRUE
    AND COALESCE(user_id, anonymous_id) IS NOT NULL"""


def _times(kinds: dict[int, str], later_rows: str) -> list[str]:
    """A CTE for each step after the first, the last one first: at each row, when the steps from it on are reached.

    A later row never reaches a step earlier: so the minimum over what comes later is what the next step's row says.
    """
    steps = sorted(kinds, reverse=True)[:-1]
    made = []
    for step in steps:
        came = {step: "event_time"} | {later: f"time_{later}" for later in range(step + 1, len(kinds) + 1)}
        columns = [
            f"    MIN(IF(event_type = {kinds[step]}, {time}, NULL)) {later_rows} AS time_{number}"
            for number, time in came.items()
        ]
        read = "placed" if step == len(kinds) else f"times_{step + 1}"
        listed = ",\n".join(
            ["    day", "    reach", "    person", "    event_type", "    event_time", "    place", *columns]
        )
        made.append(f"times_{step} AS (\n  SELECT\n{listed}\n  FROM {read}\n),")
    return made
