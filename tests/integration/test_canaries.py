"""Canaries: a value of its own in each field of a source, and in three secret variables; where each turns up.

Every command runs on that source. Afterwards all that was printed, logged, written or left behind is searched, Parquet
by column and Beam's graph with its pickles unpacked. A value may be only where ALLOWED says, a secret nowhere.
"""

import base64
import bz2
import json
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import polars as pl
import pytest

from pipelines.assemble import open_run
from pipelines.audience import build
from pipelines.batch.backfill import inspect_files, job_of
from pipelines.cli import main
from pipelines.settings.resolve import resolve
from pipelines.system.progress import Notes
from tests.servers.needed import LIMIT, wait_until
from tests.servers.stream import drain, streaming

TEXTS = (
    *("event_id", "user_id", "anonymous_id", "session_id", "content_id", "content_type", "category", "campaign"),
    *("referrer", "country", "device", "text"),
)
OTHERS = ("property", "extra", "unmapped", "number", "time", "broken", "attribute", "file")
SECRETS = ("secretkey", "secretcloud", "secrettoken")
DAY = "2026-03-01"


def canary(name: str) -> str:
    """Letters and digits alone: no encoding changes them."""
    return f"cnry{name.replace('_', '')}9d4e"


CANARIES = {canary(name): name for name in (*TEXTS, *OTHERS, *SECRETS)}
SOUGHT = re.compile(rb"cnry[a-z]+9d4e")


class Allowed(NamedTuple):
    """Which values a place may hold, and why; the first that fits a place counts."""

    place: str  # regular expression for the whole name of the place
    names: frozenset[str]
    why: str


def allowed(place: str, names, why: str) -> Allowed:
    return Allowed(place, frozenset(names), why)


DATA = {*TEXTS, *OTHERS} - {"attribute"}
DIMENSIONS = {"content_id", "content_type", "category", "campaign", "country", "device"}
ALLOWED = (
    allowed(r"table quarantine\.payload", DATA, "a refused record, byte for byte"),
    allowed(r"table quarantine\.attributes", {"attribute"}, "what came with a message beside its payload"),
    allowed(r"table events\.properties", {"property"}, "what the mapping names beside the contract"),
    allowed(r"table events\.extra", {"extra", "time"}, "fields that nothing names, and a time that cannot be read"),
    *(allowed(rf"table \w+\.{name}", {name}, "the column of that name") for name in TEXTS),
    allowed(r"table user_days\.person", {"user_id", "anonymous_id"}, "who"),
    allowed(r"table \w+\.(input|position)", {"file"}, "a file is known by its name"),
    allowed(r"table sessions\.\w+", {"content_id", "campaign", "referrer"}, "where a session began and ended"),
    allowed(r"said by (query|person)", DATA, "what was asked for"),
    allowed(r"said by mapping", DATA, "a sample is shown to whoever writes a mapping for it"),
    allowed(r"file proposed\.yaml", DATA, "samples of what it does not use, for whoever completes it"),
    allowed(r"said by report|file report\.html", DIMENSIONS | {"file"}, "totals by what events are about"),
    allowed(r"said by \w+", {"file"}, "a file is known by its name"),
)
MAPPING = f"""
source: shop
fields:
  event_id: {{path: id}}
  event_time: {{path: at, time: rfc3339}}
  received_time: {{path: got, time: rfc3339}}
  event_type: {{path: kind, map: {{look: page_view}}}}
  rating: {{path: stars}}
{"".join(f"  {name}: {{path: {name}}}{chr(10)}" for name in TEXTS if name != "event_id")}
properties: [plan]
"""
# Its own test fails, on a record that somebody may have copied from the data.
BROKEN = f"{MAPPING}tests: [{{record: {{id: a, kind: look, user_id: {canary('user_id')}}}, events: [{{user_id: u}}]}}]"


def record(id: str, **fields) -> str:
    told = {"id": id, "at": f"{DAY}T10:00:00Z", "got": f"{DAY}T10:00:01Z", "kind": "look", "stars": 4}
    return json.dumps(told | {name: canary(name) for name in TEXTS if name != "event_id"} | fields)


LINES = [
    record(canary("event_id"), plan=canary("property"), unknown=canary("extra")),
    record("b", kind=canary("unmapped")),
    record("c", stars=canary("number")),
    record("d", at=canary("time")),
    f'{{"id": "e", "note": "{canary("broken")}',
    record("f", at="2026-02-20T10:00:00Z"),  # too late
    record("g", anonymous_id="a2", user_id="u2"),
]


class House:
    """A folder with the source, and everything that commands say and leave there."""

    def __init__(self, folder: Path, capfd):
        self.folder, self.capfd = folder, capfd
        self.said: list[tuple[str, bytes]] = []
        self.source = folder.parent / "source"
        self.source.mkdir()
        self.input = self.source / f"{canary('file')}.jsonl"
        self.input.write_text("".join(line + "\n" for line in LINES))
        (self.source / "mapping.yaml").write_text(MAPPING)
        (self.source / "broken.yaml").write_text(BROKEN)

    def audience(self, *words: str, status: int = 0) -> None:
        """Run a command of `audience`, with --debug if it is to fail."""
        self.capfd.readouterr()
        debug = ["--debug"] if status else []
        assert main([*words, *debug]) == status, self.capfd.readouterr()
        said = self.capfd.readouterr()
        self.said.append((f"said by {words[0]}", (said.out + said.err).encode()))

    def found(self) -> list[str]:
        """Every value that is where it should not be."""
        return sorted({f"{name} in {place}" for place, name in self._all() if name not in may_hold(place)})

    def seen(self, name: str) -> set[str]:
        """The places where a value is."""
        return {place for place, found in self._all() if found == name}

    def _all(self) -> Iterator[tuple[str, str]]:
        for place, content in [*self.said, *places(self.folder)]:
            yield from ((place, CANARIES[each.decode()]) for each in SOUGHT.findall(content.lower()))


def may_hold(place: str) -> frozenset[str]:
    return next((each.names for each in ALLOWED if re.fullmatch(each.place, place)), frozenset())


def places(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each column of each Parquet file, and of each other file; file names are searched too."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        yield "names of files", name.encode()
        if path.suffix == ".parquet":
            table = re.search(r"/(\w+)/[^/]+/[^/]+$", f"/{name}")
            for column in (rows := pl.read_parquet(path)).columns:
                yield f"table {table[1] if table else name}.{column}", repr(rows[column].to_list()).encode()
        else:
            yield f"file {name}", path.read_bytes()


@pytest.fixture
def house(tmp_path, capfd, monkeypatch) -> House:
    """With secrets in the environment, and a folder for temporary files of its own."""
    made = House(tmp_path / "left", capfd) if (tmp_path / "left").mkdir() is None else None
    key = {"type": "service_account", "client_email": "a@b", "token_uri": "http://127.0.0.1:9", "project_id": "p"}
    (made.source / "key.json").write_text(json.dumps(key | {"private_key": canary("secretkey"), "private_key_id": "1"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(made.source / "key.json"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canary("secretcloud"))
    monkeypatch.setenv("PUBSUB_TOKEN", canary("secrettoken"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "left" / "tmp"))
    (made.folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(made.folder)
    return made


def test_every_command_leaves_each_value_where_it_belongs_and_secrets_nowhere(house):
    mapping = ["--mapping", str(house.source / "mapping.yaml")]
    source = [*mapping, "--input", str(house.input)]
    house.audience("backfill", *source, "--workers", "1", "--debug", "--allow_quarantine")
    house.audience("backfill", *source, status=2)  # the day has rows
    house.audience("backfill", "--mapping", str(house.source / "broken.yaml"), "--input", str(house.input), status=2)
    house.audience("backfill", *source, "--shards", "none", status=2)
    house.audience("recompute", *mapping, "--workers", "2", "--debug")
    house.audience("replay", *mapping, "--accept_late", "--workers", "1")
    house.audience("query", "SELECT user_id FROM events")
    house.audience("query", "SELECT CAST(user_id AS INT) FROM events", status=2)
    house.audience("query", "SELECT 1", "--dataset", "my-project.audience", status=2)  # with the key, that is none
    house.audience("person", "--find", canary("user_id"))
    house.audience("doctor", "--audit")
    house.audience("doctor", "--json")
    house.audience("report")
    house.audience("config", "--show")
    house.audience("mapping", "--from", str(house.input), "--output", "proposed.yaml")
    house.audience("mapping", "--check", *source[1:], "--json", status=1)
    house.audience("plan", "--events_per_second", "10")
    house.audience("stop", status=2)
    first = house.found()
    assert house.seen("user_id") >= {"table events.user_id", "table quarantine.payload", "said by query"}
    house.audience("person", "--delete", canary("user_id"), "--delete", canary("anonymous_id"), "--workers", "1")
    assert first == house.found() == []
    for gone in ("user_id", "anonymous_id"):
        assert {place for place in house.seen(gone) if not place.startswith("said by")} == set()


def test_the_graph_of_a_run_carries_no_secret_and_nothing_of_the_data(house):
    given = {"input": [str(house.input)], "mapping": [str(house.source / "mapping.yaml")], "warehouse": "warehouse"}
    settings = resolve(given)
    with open_run(settings, create=True) as into:
        pipeline = beam.Pipeline()
        build(pipeline, job_of(settings, into, inspect_files(settings), Notes(into.run.staging / "notes")))
        content = b"".join(unpacked(pipeline.to_runner_api().SerializeToString()))
        assert str(into.run.staging).encode() in content, "the pickles must have been unpacked"
    assert set(SOUGHT.findall(content)) == {canary("file").encode()}  # by which the input is known


def unpacked(content: bytes) -> Iterator[bytes]:
    """A graph, and what is pickled in it, which Beam packs and writes as base64."""
    yield content
    for packed in re.findall(rb"[A-Za-z0-9+/]{40,}=*", content):
        for unpack in (zlib.decompress, bz2.decompress):
            with suppress(ValueError, OSError, zlib.error):
                yield unpack(base64.b64decode(packed, validate=True))


def test_a_stream_leaves_each_value_where_it_belongs_and_nothing_in_its_landing_once_it_is_drained(house, queue, prism):
    now = datetime.now(UTC).replace(microsecond=0)
    lines = [line.replace(f"{DAY}T10:00", f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}").encode() for line in LINES]
    options = ["--mapping", str(house.source / "mapping.yaml"), "--debug"]
    log = house.folder / "run.log"
    with streaming(queue, prism, house.folder, *options) as stream:
        queue.publish(*lines, note=canary("attribute"))
        stream.until_counted("SELECT sum(received) FROM quality_1m_current", len(lines))
        assert stream.end() == 0, stream.said()
    house.said.append(("said by run", log.read_bytes()))
    log.unlink()
    assert house.found() == []
    assert house.seen("broken") >= {"table quarantine.payload"}
    with streaming(queue, prism, house.folder, *options) as stream:
        wait_until(lambda: "reading" in stream.said() or stream.process.poll() is not None, 60, "it reads")
        drain("--warehouse", str(stream.warehouse))
        assert stream.process.wait(LIMIT) == 0, stream.said()
    house.said.append(("said by run", log.read_bytes()))
    log.unlink()
    assert house.found() == []
    assert [place for each in CANARIES.values() for place in house.seen(each) if "landing" in place] == []
