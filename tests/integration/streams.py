"""What tests of a stream into a local warehouse share: what they wait for, and what has to hold at its end."""

import json
from collections.abc import Iterator
from pathlib import Path

from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from pipelines.sources.landing import Landing
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.records import Records
from tests.integration.same import METRICS, UNBALANCED, assert_same, lost_and_double
from tests.integration.test_against_oracle import METRICS as KEYS
from tests.integration.test_against_oracle import _module, ordered
from tests.servers.needed import LIMIT
from tests.servers.stream import A_QUERY, Stream, ask, drain, publish, received_times
from transforms.errors import SourceError

TRUSTED = ("--timestamp_attribute", "received_time")
LONG = 180.0  # seconds that a condition may take on a machine that does much else
RECEIVED = "SELECT sum(received) FROM quality_1m_current"
# What is bad may stand in quarantine once for each time that it was delivered.
BAD = "SELECT DISTINCT source, stage, code, errors, payload FROM quarantine WHERE octet_length(payload) > 0"
EVENTS = "SELECT count(*) FROM events"


def send(queue, lines: list[bytes]) -> None:
    publish(queue, lines, received_times(lines))


def until_all_is_there(stream: Stream, records: Records) -> None:
    """Wait until all that a backfill writes is written, in balance."""
    for count in (EVENTS, f"SELECT count(*) FROM ({BAD})"):
        stream.until_counted(count, ask(records.batch, count), LONG)
    stream.until_counted(RECEIVED, len(records.lines), LONG)
    until_balanced(stream)


def until_balanced(stream: Stream) -> None:
    """Wait until all that landed is in the audit counts, and they are balanced."""
    stream.until(lambda: is_settled(stream) and ask(stream.warehouse, UNBALANCED) == 0, LONG, "books", A_QUERY)


def is_settled(stream: Stream) -> bool:
    name = json.loads((stream.warehouse / "stream.json").read_text())["input"]
    try:
        counted = SettledMinutes(LocalWarehouse.open(stream.warehouse), [name]).received()
        return Landing(stream.warehouse / "landing").undone(counted).is_empty()
    except SourceError:  # one was retired since the folder was listed
        return False


def drained(stream: Stream) -> None:
    drain("--warehouse", str(stream.warehouse))
    assert stream.process.wait(LIMIT) == 0, stream.said()


def assert_nothing_lost_or_double(warehouse: Path, batch: Path, *also: str) -> None:
    """The rows of a backfill, and those of the queries `also`."""
    counts = {table: lost_and_double(warehouse, batch, table) for table in ("events", "events_unique")}
    assert counts == {"events": (0, 0), "events_unique": (0, 0)}
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
        *also,
    ):
        assert_same(warehouse, batch, sql)
    assert ask(warehouse, UNBALANCED) == 0
    assert not list((warehouse / "landing").glob("*.parquet"))


def until_read(stream: Stream, lines: list[bytes]) -> None:
    """Wait until all that was sent before is in the audit counts, in balance."""
    stream.until_counted(RECEIVED, len(lines), LONG)
    until_balanced(stream)


def assert_those_of_sql(warehouse: Path, file: Path, kind: str = "native", without: tuple[str, ...] = ()) -> None:
    """The events and the metrics, but for those `without`, of SQL over the raw lines, which imports nothing of the
    product."""
    product, oracle = LocalWarehouse.open(warehouse).connect(), _module.oracle([str(file)], kind)
    oracle.execute("SET TimeZone = 'UTC'")
    columns = "event_type, event_time, time_source, source, user_id, anonymous_id, content_id, channel, campaign, value"
    exact = ((name, listed) for name, listed in _exact(oracle) if name not in without)
    for mine, truth in (
        (f"SELECT {columns} FROM events", f"SELECT {columns} FROM o_events"),
        *((f"SELECT {listed} FROM {name}_current", f"SELECT {listed} FROM o_{name}") for name, listed in exact),
    ):
        rows = ordered(product, mine)
        assert rows.height > 0
        assert rows.equals(ordered(oracle, truth)), mine


def assert_those_of_github(warehouse: Path, file: Path, mapping: str) -> None:
    """The rows of a backfill of GitHub's events, and of SQL over them."""
    batch, without = file.parent / "batch", ("campaign_1h",)  # GitHub has none
    backfill(resolve({"input": [str(file)], "mapping": [mapping], "warehouse": str(batch), "workers": "1"}))
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS if metric not in without),
        "SELECT sum(received), sum(quarantined), sum(duplicates) FROM quality_1m_current",
    ):
        assert_same(warehouse, batch, sql)
    assert_those_of_sql(warehouse, file, "github", without)


def _exact(oracle) -> Iterator[tuple[str, str]]:
    """(metric, its columns that are no sketches)."""
    for name in KEYS:
        columns = [row[0] for row in oracle.execute(f"DESCRIBE o_{name}").fetchall()]
        listed = ", ".join(column for column in columns if column not in ("users", "purchasers", "revenue"))
        yield name, listed
