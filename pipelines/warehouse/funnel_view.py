"""What the view of the funnel says in place of its placeholders: SQL of as many steps as the funnel has."""

from transforms.sessions.funnel import Funnel

LATER = "OVER (PARTITION BY person ORDER BY place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"


def filled_with_funnel(template: str, funnel: Funnel) -> str:
    """The template's SQL for this funnel; its other placeholders stay."""
    kinds = {number: f"'{kind}'" for number, kind in enumerate(funnel.steps, 1)}
    values = {
        "steps": ", ".join(kinds.values()),
        "first_step": kinds[1],
        "numbers": ", ".join(map(str, kinds)),
        "window_seconds": str(int(funnel.width.total_seconds())),
        "times": "\n".join(_times(kinds)),
        "later_times": ", ".join(f"time_{number}" for number in kinds if number > 1),
        "step_of_kind": " ".join(f"WHEN {kind} THEN {number}" for number, kind in kinds.items()),
        "kind_of_step": " ".join(f"WHEN {number} THEN {kind}" for number, kind in kinds.items()),
        "time_of_step": " ".join(f"WHEN {number} THEN time_{number}" for number in kinds),
        "time_before_step": " ".join(f"WHEN {number} THEN time_{number - 1}" for number in kinds if number > 1),
    }
    for name, value in values.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def _times(kinds: dict[int, str]) -> list[str]:
    """A CTE for each step after the first, the last one first: at each row, when the steps from it on are reached.

    A later row never reaches a step earlier: so the minimum over what comes later is what the next step's row says.
    """
    steps = sorted(kinds, reverse=True)[:-1]
    made = []
    for step in steps:
        came = {step: "event_time"} | {later: f"time_{later}" for later in range(step + 1, len(kinds) + 1)}
        columns = [
            f"    MIN(IF(event_type = {kinds[step]}, {time}, NULL)) {LATER} AS time_{number}"
            for number, time in came.items()
        ]
        read = "placed" if step == len(kinds) else f"times_{step + 1}"
        listed = ",\n".join(["    person", "    event_type", "    event_time", "    place", *columns])
        made.append(f"times_{step} AS (\n  SELECT\n{listed}\n  FROM {read}\n),")
    return made
