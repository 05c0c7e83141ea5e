"""An agent may ask the answers of refreshes and the alerts: none of them names a person."""

import json

from pipelines.apps.mcp.scope import Scope
from pipelines.apps.mcp.tools import call
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.apps.live.answers import fill_answers
from tests.pipelines.apps.live.rows import AT, ZONE, events
from tests.pipelines.warehouse.test_metric_views import write


def test_answers_are_listed_under_their_metric_and_asked(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(warehouse, (EVENTS, events(AT, 1, 9)))
    fill_answers(warehouse, AT)
    scope = Scope(warehouse)
    listed = {each["metric"]: each["views"] for each in json.loads(call(scope, "list_metrics", {}))["metrics"]}
    assert listed["trends"] == ["trends_10m_latest", "trends_1h_latest"]
    assert listed["alerts"] == ["alerts"] and listed["satisfaction"] == ["satisfaction_latest"]
    assert "events_unique" not in scope.names()
    asked = {"view": "satisfaction_latest", "filters": [{"column": "scope", "op": "=", "value": "all"}]}
    found = json.loads(call(scope, "query_view", asked))
    assert len(found["rows"]) == 6
    assert "text" in {each["name"] for each in json.loads(call(scope, "describe_view", {"view": "alerts"}))["columns"]}
