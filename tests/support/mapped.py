"""Payloads of a queue through a ready mapping, by the code that reads real records."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.settings.config import read_mapping
from transforms.block import RAW_SCHEMA, tag_input
from transforms.event_time import settle_event_time
from transforms.parse import parse
from transforms.validate import Validator

FOLDER = Path(__file__).parents[2] / "templates/mappings"
RECEIVED = datetime(2026, 12, 1, tzinfo=UTC)


def mapped(name: str, payloads: Sequence[bytes], **attributes: str) -> tuple[list[dict[str, Any]], list[str]]:
    """(the events in their order, the codes of what is in quarantine) of messages with these attributes."""
    mapping = read_mapping(str(FOLDER / f"{name}.yaml"))
    told = json.dumps({"received_time": RECEIVED.isoformat(), "message": attributes})
    rows = [
        {"payload": payload, "received_time": RECEIVED, "source": name, "position": f"m-{at}", "attributes": told}
        for at, payload in enumerate(payloads)
    ]
    parsed, unparsed = parse(tag_input(pl.DataFrame(rows, schema=RAW_SCHEMA), "log"), mapping, name)
    valid, invalid = Validator()(parsed)
    events, timeless = settle_event_time(valid)
    codes = pl.concat([unparsed, invalid, timeless])["code"].sort().to_list()
    return events.to_dicts(), codes
