"""Anomalies of a warehouse: a channel that falls silent is found, no other is, and a rerun is equal."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.batch.backfill import backfill
from pipelines.insight.anomalies import compute
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse

FIRST, HOURS = datetime(2026, 3, 1, tzinfo=UTC), 12 * 24
AS_OF = FIRST + timedelta(hours=HOURS, minutes=20)
SILENT = 6  # hours of `web` at the end


def test_a_silent_channel_is_one_anomaly_of_each_of_its_series(tmp_path):
    lines = []
    for hour in range(HOURS):
        for channel, last in (("web", HOURS - SILENT), ("mobile", HOURS)):
            for number in range(10 + hour % 3 if hour < last else 0):
                time = FIRST + timedelta(hours=hour, minutes=5 * number)
                event = {"event_id": f"{channel}-{hour}-{number}", "event_type": "page_view", "channel": channel}
                lines.append(json.dumps(event | {"event_time": time.isoformat(), "user_id": f"u{number}"}))
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    place = {"input": [str(tmp_path / "events.jsonl")], "warehouse": str(tmp_path / "warehouse"), "workers": "1"}
    backfill(resolve(place))
    warehouse = LocalWarehouse.open(tmp_path / "warehouse")
    with warehouse.asking() as ask:
        inputs = Inputs(ask, AS_OF, "UTC", warehouse.names(), read_config(None))
        rows, again = compute(inputs)["anomalies_1h"], compute(inputs)["anomalies_1h"]
    assert rows.equals(again)
    silent = rows.filter(pl.col("kind") == "silence")
    assert set(silent["channel"].to_list()) == {"web"}
    assert {"events", "events:page_view"} <= set(silent["metric"].to_list())
    events = silent.filter(pl.col("metric") == "events")
    assert events["bucket_start"].max() == FIRST + timedelta(hours=HOURS - 1)
    assert events["bucket_start"].min() == events["since"][0] == FIRST + timedelta(hours=HOURS - SILENT + 1)
    assert events["value"].to_list() == [0.0] * (SILENT - 1)
    assert "mobile" not in rows["channel"].to_list()
