"""Attention: what a viewer must know before the numbers, from the numbers themselves."""

from datetime import datetime

from pipelines.apps.live.answers import Keys, Value

QUIET_SECONDS = 600.0  # without a new event, after which a page says so
MANY = 0.05  # share of the records of a day in quarantine


def attention(keys: Keys, now: datetime) -> Keys:
    """Lines `attention.N`, each a sentence; none if all is well."""
    lines = [*_alerts(keys), *_books(keys), *_quiet(keys, now), *_quarantine(keys)]
    return {f"attention.{place}": line for place, line in enumerate(lines)}


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _alerts(keys: Keys) -> list[str]:
    count = _number(keys.get("alerts.0.all_open"))
    newest = f"{keys.get('alerts.0.rule')}, {keys.get('alerts.0.subject')}"
    return [f"{count:,.0f} open {'alert' if count == 1 else 'alerts'}; the newest: {newest}."] if count else []


def _books(keys: Keys) -> list[str]:
    balance = _number(keys.get("books.balance"))
    return (
        [f"The audit counts do not reconcile: {balance:,.0f} records of closed minutes are in no place."]
        if balance
        else []
    )


def _quiet(keys: Keys, now: datetime) -> list[str]:
    newest = _number(keys.get("state.newest"))
    if keys.get("state.is_past"):
        return ["No event in the last 24 hours: the page shows the time of the newest event."]
    if newest and now.timestamp() - newest > QUIET_SECONDS:
        return [f"No new event for {(now.timestamp() - newest) / 60:,.0f} minutes."]
    return []


def _quarantine(keys: Keys) -> list[str]:
    received, refused = _number(keys.get("books.received")), _number(keys.get("books.quarantined"))
    if received and refused / received > MANY:
        return [f"{refused / received:.0%} of the records received today are in quarantine."]
    return []
