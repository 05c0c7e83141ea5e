"""A check of a mapping says what a backfill would do with a sample: what passes, what fails and why, what is filled."""

import json
from datetime import date

import pytest

from pipelines.apps.mapping.check import Checked, check_file
from pipelines.apps.mapping.report import check_lines
from pipelines.apps.simulator.simulate import simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.errors import ConfigError, SourceError

MAPPING = """
source: shop
fields:
  event_time: {path: at, time: ms}
  received_time: {path: got, time: ms}
  event_id: {path: id}
  event_type: {path: what, map: {buy: purchase, look: page_view}}
  user_id: {path: who}
  value: {path: price}
  channel: {path: via, map: {app: mobile}, else: other}
"""
AT = 1_772_359_200_000
DAY = 86_400_000


def record(n: int, **fields) -> dict:
    return {"at": AT + n, "got": AT + n, "id": f"e{n}", "what": "buy", "who": f"u{n % 2}", "price": n} | fields


RECORDS = [
    *(record(n, via="app", note="x") for n in range(6)),
    record(0, via="app", note="x"),  # a repeat
    record(1, price=99),  # the same id, but it says something else
    record(10, what="sell", price="a lot"),
    record(11, what="sell"),
    record(12, id="x" * 129),
    record(13, got=AT + 2 * DAY),
    {"what": "look", "via": "fax"},
    record(14, via="fax", what="look", price=1.5),
]


@pytest.fixture
def given(tmp_path):
    """(the mapping's path, the sample's)."""
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    sample = "".join(json.dumps(each) + "\n" for each in RECORDS) + "{torn\n"
    (tmp_path / "sample.jsonl").write_text(sample)
    return str(tmp_path / "mapping.yaml"), str(tmp_path / "sample.jsonl")


@pytest.fixture
def checked(given) -> Checked:
    return check_file(given[0], [given[1]])


def test_every_record_passes_or_fails_and_the_failures_have_a_reason_and_a_place(checked, given):
    check = checked.check
    assert (check.records, check.passed) == (15, 9)
    assert check.share == pytest.approx(9 / 15)
    found = {(each.stage, each.code, each.path): (each.records, each.position) for each in check.failed}
    place = given[1]
    assert found == {
        ("map", "unmapped_value", "$.event_type"): (2, f"{place}:9"),
        ("parse", "invalid_json", "$"): (1, f"{place}:15"),
        ("validate", "invalid_event_id", "$.event_id"): (1, f"{place}:11"),
        ("event_time", "no_time", "$.event_time"): (1, f"{place}:13"),
        ("late", "too_late", "$.event_time"): (1, f"{place}:12"),
    }
    assert check.failed[0].code == "unmapped_value"
    assert check.failed[0].share == pytest.approx(2 / 15)
    assert json.loads(checked.records[0]) == RECORDS[8]


def test_the_events_are_described(checked):
    check = checked.check
    assert (check.events, check.duplicates, check.conflicts) == (7, 2, 1)
    assert (check.first_time, check.last_time) == ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.014000Z")
    assert check.event_types == {"purchase": 8, "page_view": 1}
    assert check.time_sources == {"client": 9}
    filled = {each.field: (round(each.share, 2), each.distinct) for each in check.fields}
    assert filled["user_id"] == (1.0, 2)
    assert filled["channel"] == (0.89, 2)
    assert filled["value"] == (1.0, 8)
    assert next(each.examples for each in check.fields if each.field == "value")[0] == "0"
    assert check.extra == {"note": 7, "via": 1}  # the value that the map of the channel lacks


def test_the_values_that_a_map_lacks_are_listed_whether_they_fail_or_not(checked):
    unmapped = {(each.field, each.value): each.records for each in checked.check.unmapped}
    assert unmapped == {("event_type", "sell"): 2, ("channel", "fax"): 2}


def test_the_limit_is_that_of_the_records_looked_at(given):
    check = check_file(given[0], [given[1]], rows=4).check
    assert (check.records, check.passed, check.failed) == (4, 4, [])


def test_a_person_sees_a_shortened_record_and_nothing_that_a_terminal_obeys(given, tmp_path):
    (tmp_path / "sample.jsonl").write_bytes(b'{"what": "\x1b[31mred", "long": "' + b"y" * 500 + b'"}\n')
    shown = list(check_lines(check_file(given[0], [given[1]])))
    assert shown[0] == "1 records: 0 pass (0 %)"
    assert max(map(len, shown)) < 400
    assert not any("\x1b" in line for line in shown)
    assert any(line.startswith(f"  {given[1]}:1: {{") and line.endswith("…") for line in shown)


@pytest.mark.parametrize("seed", [3, 4])
def test_it_counts_what_a_backfill_counts(seed, tmp_path):
    events = tmp_path / "events.jsonl"
    simulate(events=3_000, seed=seed, output=events, days=2, start=date(2026, 3, 1))
    (tmp_path / "mapping.yaml").write_text(
        "source: native\nfields:\n"
        "  event_time: {path: event_time}\n  received_time: {path: received_time}\n  sent_time: {path: sent_time}\n"
        "  event_id: {path: event_id}\n  event_type: {path: event_type}\n  user_id: {path: user_id}\n"
        "  anonymous_id: {path: anonymous_id}\n  value: {path: value}\n  channel: {path: channel}\n"
    )
    check = check_file(str(tmp_path / "mapping.yaml"), [str(events)]).check
    asked = {"input": [str(events)], "mapping": str(tmp_path / "mapping.yaml"), "warehouse": str(tmp_path / "w")}
    done = backfill(resolve(asked | {"workers": "1"}))
    names = ("received", "events", "duplicates", "conflicts", "quarantined")
    failed = check.records - check.passed
    assert [check.records, check.events, check.duplicates, check.conflicts, failed] == [done.counts[n] for n in names]
    warehouse = LocalWarehouse.open(tmp_path / "w").connect()
    sql = "SELECT stage, code, count(*) FROM quarantine GROUP BY ALL"
    codes: dict = {}
    for each in check.failed:
        codes[each.stage, each.code] = codes.get((each.stage, each.code), 0) + each.records
    assert {(stage, code): n for stage, code, n in warehouse.execute(sql).fetchall()} == codes


def test_mistakes_are_clear(given, tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: cannot read the mapping"):
        check_file(str(tmp_path / "none.yaml"), [given[1]])
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(SourceError, match=r"empty.jsonl: contains no records; name a file that has some"):
        check_file(given[0], [str(tmp_path / "empty.jsonl")])
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="the CSV header lacks"):
        check_file(given[0], [str(tmp_path / "x.csv")])


def test_of_repeats_without_an_id_it_is_said_how_to_keep_them_apart(tmp_path):
    (tmp_path / "m.yaml").write_text(
        "source: shop\nfields: {event_time: {path: at, time: ms}, event_type: {const: sale}}\n"
    )
    (tmp_path / "s.jsonl").write_text(f'{{"at": {AT}}}\n' * 3)
    checked = check_file(str(tmp_path / "m.yaml"), [str(tmp_path / "s.jsonl")])
    assert (checked.check.duplicates, checked.check.alike) == (2, 2)
    said = "2 duplicates have no id and equal content; to keep them apart, set derived_id: occurrence"
    assert said in list(check_lines(checked))
    with (tmp_path / "m.yaml").open("a") as mapping:
        mapping.write("derived_id: occurrence\n")
    apart = check_file(str(tmp_path / "m.yaml"), [str(tmp_path / "s.jsonl")])
    assert (apart.check.events, apart.check.alike) == (3, 0)
    assert said not in list(check_lines(apart))


@pytest.mark.parametrize(
    ("form", "texts", "zoneless"),
    [
        ("rfc3339", ["2026-03-01 10:00:00", "2026-03-01T10:00:00Z", "2026-03-01T10:00:00+01:00"], 1),
        ('"%Y-%m-%d %H:%M"', ["2026-03-01 10:00", "soon"], 2),
        ('"%Y-%m-%d %H:%M %z"', ["2026-03-01 10:00 +0100"], 0),
        ("s", ["1772359200"], 0),
    ],
)
def test_times_without_a_zone_are_counted(form, texts, zoneless, tmp_path):
    (tmp_path / "mapping.yaml").write_text(
        f"source: x\nfields: {{event_type: {{const: click}}, event_time: {{path: at, time: {form}}}}}\n"
    )
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"at": text}) + "\n" for text in texts))
    checked = check_file(str(tmp_path / "mapping.yaml"), [str(tmp_path / "x.jsonl")])
    assert checked.check.zoneless == zoneless
    said = f"{zoneless} times state no zone, and are read as UTC"
    assert (said in list(check_lines(checked))) == (zoneless > 0)
