"""`audience doctor`: report on refreshes and alerts: as of when the answers are, whether that is behind, and channels
that cannot send."""

from datetime import timedelta

from pipelines.apps.doctor.check import FOUND, MISSING, WRONG, Check
from pipelines.insight.alerts.channels import fault
from pipelines.insight.moment import newest_closed
from pipelines.settings.resolve import Place
from pipelines.system.terminal import option
from pipelines.warehouse.answers import AS_OF, REFRESHES
from pipelines.warehouse.open import open_warehouse
from transforms.errors import WarehouseError

ANSWERS, REFRESH = "answers", "refresh"
BEHIND = timedelta(hours=1)


def answer_checks(place: Place, config: str | None) -> list[Check]:
    """Return a row for the last refresh and one for each channel of the configuration file; no row for a warehouse that
    cannot be read, or has nothing to compute: other rows say so."""
    return [*_refresh(place), *(_channels(config) if config else [])]


def _channels(config: str) -> list[Check]:
    from pipelines.settings.config import read_config  # which imports Beam

    return [_channel(name, fault(each)) for name, each in sorted(read_config(config).alerts.channels.items())]


def _refresh(place: Place) -> list[Check]:
    where = option("dataset", place.dataset) if place.dataset else option("warehouse", str(place.warehouse))
    get = f"audience refresh {where}"
    try:
        with open_warehouse(*place) as warehouse:
            closed = newest_closed(warehouse)
            if REFRESHES.name not in warehouse.tables():
                return [Check(ANSWERS, REFRESH, MISSING, "none yet", "trends, forecasts, anomalies, alerts", get)]
            with warehouse.asking() as ask:
                newest = ask(f"SELECT MAX({AS_OF}) AS newest FROM {REFRESHES.name}")["newest"][0]
    except WarehouseError:
        return []
    if newest is None:
        return [Check(ANSWERS, REFRESH, MISSING, "none since an erasure", "trends, forecasts, anomalies, alerts", get)]
    behind = closed - newest
    facts = {"as_of": newest.isoformat(), "behind_seconds": int(behind.total_seconds())}
    detail = f"as of {newest:%Y-%m-%d %H:%M} UTC"
    if behind <= BEHIND:
        return [Check(ANSWERS, REFRESH, FOUND, detail, facts=facts)]
    detail += f", {behind.total_seconds() / 3600:,.0f} h behind the newest closed bucket"
    return [Check(ANSWERS, REFRESH, WRONG, detail, get=f"{get} --every 5m", facts=facts)]


def _channel(name: str, wrong: str) -> Check:
    get = "audience alert --test, once it is set"
    return Check(ANSWERS, f"channel {name}", WRONG if wrong else FOUND, wrong or "configured", get=get if wrong else "")
