"""Batch runs in BigQuery, on the emulator: they leave there what they leave in a local warehouse."""

import json
import uuid

import datasketches
import polars as pl
import pytest

from pipelines.apps.simulator.faults import Faults
from pipelines.apps.simulator.simulate import simulate
from pipelines.assemble import open_configured
from pipelines.batch.backfill import backfill
from pipelines.batch.person.elsewhere import list_copies
from pipelines.batch.person.erase import Erased, erase
from pipelines.batch.person.places import find
from pipelines.batch.person.proof import key_of, proofs
from pipelines.batch.person.search import INSIDE, Search
from pipelines.batch.recompute import recompute
from pipelines.batch.replay import replay
from pipelines.settings.resolve import resolve
from pipelines.warehouse.recount import differences
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OptionError

STAMPS = {"generation", "revision", "emitted_time", "failed_time"}
METRICS = ("activity_1m", "baskets_1d", "campaign_1h", "content_1h", "user_days", "sessions")
CONFIG = """
metrics:
  baskets_1d:
    description: What baskets are worth
    bucket: 1d
    dimensions: [channel, currency]
    measures: {worth: {quantile: value, q: [0.5, 0.99]}, total: {sum: value}}
"""
ASKED = (
    "events",
    "quarantine",
    *(f"{name}_current" for name in ("quality_1m", *METRICS)),
    *("events_unique", "quality_summary", "quarantine_open", "quarantine_by_code"),
    *("engagement_by_channel", "engagement_by_content"),
)


class House:
    """One warehouse, in BigQuery or in a folder, and the runs that write it."""

    def __init__(self, **place: str):
        self.place = place

    def run(self, what, **options):
        return what(resolve({"workers": "1", **self.place, **options}, what.__name__))

    def ask(self, sql: str) -> pl.DataFrame:
        with open_configured(resolve(self.place, "recompute")) as warehouse:
            return pl.concat(warehouse.ask(sql))

    def said(self) -> dict[str, pl.DataFrame]:
        """The rows of every table and view, without the stamps of their publication."""
        own = {"events": ", ".join(column.name for column in EVENTS.columns)}  # a folder computes two more
        return {name: comparable(self.ask(f"SELECT {own.get(name, '*')} FROM {name}")) for name in ASKED}

    def differences(self):
        with open_configured(resolve(self.place, "recompute")) as warehouse:
            return differences(warehouse)


def comparable(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in one order, sketches as what they estimate, JSON as BigQuery may write it: keys sorted."""
    rows = rows.select(sorted(set(rows.columns) - STAMPS))
    for name, dtype in rows.schema.items():
        if name.endswith("_sketch"):
            rows = rows.with_columns(pl.Series(name, [estimate(sketch) for sketch in rows[name]], dtype=pl.Float64))
        elif name in ("properties", "extra", "errors", "attributes"):
            texts = [None if text is None else json.dumps(json.loads(text), sort_keys=True) for text in rows[name]]
            rows = rows.with_columns(pl.Series(name, texts, dtype=pl.String))
        elif isinstance(dtype, pl.List):
            rows = rows.with_columns(pl.col(name).fill_null(pl.lit([], dtype)))
    return rows.sort([name for name, dtype in rows.schema.items() if not dtype.is_nested()])


def estimate(sketch: bytes) -> float:
    union = datasketches.hll_union(12)
    union.update(datasketches.hll_sketch.deserialize(sketch))
    return union.get_estimate()


@pytest.fixture
def houses(bigquery, tmp_path) -> tuple[House, House]:
    """One in BigQuery, one in a folder, of days that are not UTC's, and with a metric that stores a histogram."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    given = {"config": str(config), "time_zone": "America/New_York"}
    return (
        House(dataset=f"demo-project.d{uuid.uuid4().hex}", **given),
        House(warehouse=str(tmp_path / "local"), **given),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Two inputs of the same days, with every fault."""
    folder = tmp_path_factory.mktemp("files")
    for name, seed in (("one", 1), ("two", 2)):
        simulate(400, seed, folder / f"{name}.jsonl", faults=Faults(too_late=0.05))
    return [str(folder / "one.jsonl"), str(folder / "two.jsonl")]


def assert_alike(remote: House, local: House) -> None:
    found, expected = remote.said(), local.said()
    for name in ASKED:
        assert found[name].equals(expected[name]), name
    assert remote.differences() == local.differences() == []


def test_every_run_leaves_in_bigquery_what_it_leaves_in_a_folder(houses, files, tmp_path):
    remote, local = houses
    days = {"start": "2026-02-28", "end": "2026-03-03"}
    steps = (
        (backfill, {"input": files[:1]}),
        (backfill, {"input": files[1:], "add": True}),
        (recompute, days),
        (replay, {"accept_late": True}),
        (backfill, {"input": files[:1], "replace": True, **days}),
    )
    for run, options in steps:
        for house in houses:
            house.run(run, **options)
        assert_alike(remote, local)
    before = remote.said()
    assert len(before["events"]) > 350 and before["baskets_1d_current"]["worth_histogram"].list.len().max() > 1
    remote.run(backfill, input=files[:1], replace=True, **days)
    again = remote.said()
    assert all(again[name].equals(before[name]) for name in ASKED)
    assert remote.ask("SELECT COUNT(*) FROM baskets_1d").item() == len(before["baskets_1d_current"])
    someone = remote.ask("SELECT user_id FROM events WHERE user_id IS NOT NULL ORDER BY 1 LIMIT 1").item()
    content = remote.ask(f"SELECT MAX(content_id) FROM events WHERE user_id <> '{someone}'").item()
    people = [someone, content]  # an identifier of the one, and what stands in rows of others
    with pytest.raises(OptionError, match="--proof_key: missing; allowed: the name of a file"):
        erase(resolve({"workers": "1", **remote.place}, "recompute"), people)
    key = str(tmp_path / "proof.key")
    erased = [erase(resolve({"workers": "1", **each.place}, "recompute"), people, key) for each in houses]
    assert by_place(erased[0]) == by_place(erased[1]) and erased[0].rows == erased[1].rows
    assert erased[0].rows["events"] > 0
    redacted = {(each.table, each.column) for each in erased[0].outcomes if each.outcome == "redacted"}
    assert {("events", "content_id"), ("content_1h", "content_id")} <= redacted
    assert remote.differences() == local.differences() == []
    for house in houses:
        assert house.ask(f"SELECT COUNT(*) FROM events WHERE user_id = '{someone}'").item() == 0
        assert house.ask(f"SELECT COUNT(*) FROM content_1h WHERE content_id = '{content}'").item() == 0
        assert house.ask("SELECT COUNT(DISTINCT subject_hmac) FROM erasures").item() == 2
    with open_configured(resolve(remote.place, "recompute")) as warehouse:
        found, _ = find(warehouse, Search(people))
        assert {each.kind for each in found} <= {INSIDE}
        assert len(proofs(warehouse, people, key_of(warehouse, key)).of_ids) == 2
        assert any("time travel keeps deleted rows for 7 days" in line for line in list_copies(warehouse))


def by_place(erased: Erased) -> set[tuple]:
    """What became of rows; `source` and `input` apart, which name files by where they lie."""
    return {tuple(each) for each in erased.outcomes if each.column not in ("source", "input", "position")}
