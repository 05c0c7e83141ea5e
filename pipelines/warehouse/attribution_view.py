"""What the view of attribution says in place of its placeholders: the visits of each day of the look-back."""

from pipelines.settings.attribution import Attribution


def filled_with_attribution(template: str, attribution: Attribution) -> str:
    """The template's SQL for this look-back; its other placeholders stay."""
    branches = "\n  UNION ALL\n".join(map(_branch, range(attribution.look_back_days + 1)))
    return template.replace("{{branches}}", branches).replace("{{look_back_days}}", f"{attribution.look_back_days}")


def _branch(later: int) -> str:
    """The visits that count so many days later: a condition on the day reaches the scan of each SELECT."""
    own = "DATE(session_start, '{{time_zone}}')"
    day = f"CAST(DATE_ADD({own}, INTERVAL {later} DAY) AS DATE)" if later else own
    return (
        f"  SELECT {day} AS day, session_start, user_id, anonymous_id, channel, campaign\n"
        "  FROM sessions_current\n"
        "  WHERE NOT is_bot AND NOT is_long"
    )
