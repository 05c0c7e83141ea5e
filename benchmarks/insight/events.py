"""Published data as events, through the graph, to the warehouse that a refresh reads."""

import json
from collections.abc import Iterable
from pathlib import Path

from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse


def warehouse_of(events: Iterable[dict[str, object]], folder: Path, **options: str) -> LocalWarehouse:
    """A new warehouse in `folder`, of native events; event ids count them, other options are those of a backfill."""
    file = folder / "events.jsonl"
    with file.open("w") as lines:
        lines.writelines(json.dumps({"event_id": str(at)} | event) + "\n" for at, event in enumerate(events))
    place = folder / "warehouse"
    backfill(resolve({"input": [str(file)], "warehouse": str(place), "workers": "1"} | options))
    return LocalWarehouse.open(place)
