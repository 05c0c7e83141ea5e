"""A proposal for records of many shapes: which path tells what, how surely, and that it always loads and runs."""

import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.apps.mapping.check import check
from pipelines.apps.mapping.profile import lists_of_objects, profile, profile_elements
from pipelines.apps.mapping.proposal import propose
from pipelines.apps.mapping.sample import blocks, found_files
from pipelines.apps.mapping.times import LITERALS, PATTERNS
from pipelines.sources.files.read import CsvFormat
from transforms.errors import AudienceError, SourceError
from transforms.mapping import load_mapping
from transforms.mapping.functions import to_time
from transforms.mapping.spec import stated

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000}


def moment(n: int) -> datetime:
    return START + timedelta(minutes=7 * n)


def record(n: int, **fields) -> dict:
    return {"ts": moment(n).isoformat(), "user": f"u{n % 7}", "page": f"/p{n % 5}"} | fields


def lines(path: Path, records) -> list[str]:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records))
    return [str(path)]


def mapping_of(patterns: list[str]):
    """(the mapping that is proposed, the proposal), after it has run on the sample."""
    made = propose(patterns)
    mapping = load_mapping(made.yaml, "proposed")
    files, _ = found_files(patterns)
    checked = check(list(blocks(files, mapping.csv or CsvFormat(), mapping.source)), mapping)
    assert checked.check.records > 0
    return mapping, made


def guess(made, field: str):
    return next(each for each in made.guesses if each.field == field)


# Times.


@pytest.mark.parametrize("unit", EPOCHS)
@pytest.mark.parametrize("how", [int, str])
def test_the_unit_of_an_epoch_is_told_by_its_size(unit, how, tmp_path):
    records = [record(n, ts=how(int(moment(n).timestamp() * EPOCHS[unit]))) for n in range(30)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert (mapping.fields.event_time.path, mapping.fields.event_time.time) == ("ts", unit)
    assert guess(made, "event_time").share == 1
    assert made.rehearsal.events["event_time"].min() == START


def test_seconds_with_a_fraction_are_seconds(tmp_path):
    records = [record(n, ts=moment(n).timestamp() + 0.5) for n in range(30)]
    assert mapping_of(lines(tmp_path / "x.jsonl", records))[0].fields.event_time.time == "s"


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("%Y-%m-%dT%H:%M:%S+02:00", "rfc3339"),
        ("%Y-%m-%d %H:%M:%S", "rfc3339"),
        ("%Y-%m-%d %H:%M", "rfc3339"),
        ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M:%S"),
        ("%Y-%m-%d %H:%M:%S WET", "%Y-%m-%d %H:%M:%S %Z"),
        ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M"),
        ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
        ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"),
        ("%d/%b/%Y:%H:%M:%S +0000", "%d/%b/%Y:%H:%M:%S %z"),
        ("%a %b %d %H:%M:%S +0000 %Y", "%a %b %d %H:%M:%S %z %Y"),
        ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S"),
        ("%Y%m%d", "%Y%m%d"),
    ],
)
def test_the_pattern_of_a_text_is_found_and_day_and_month_are_told_by_values_above_12(written, form, tmp_path):
    days = [START + timedelta(days=n, minutes=n) for n in range(40)]
    records = [record(n, ts=day.strftime(written)) for n, day in enumerate(days)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.event_time.time == form
    assert made.rehearsal.events["event_time"].min().date() == START.date()
    assert made.rehearsal.events["event_time"].max().date() == days[-1].date()
    assert "undecided" not in str(guess(made, "event_time").notes)


@pytest.mark.parametrize(("written", "other"), [("%d/%m/%Y", "%m/%d/%Y"), ("%m/%d/%y", "%d/%m/%y")])
def test_an_order_that_no_value_decides_is_told_and_the_shorter_span_is_taken(written, other, tmp_path):
    days = [datetime(2026, 3, 1) + timedelta(days=n % 12) for n in range(24)]
    records = [record(n, ts=day.strftime(written)) for n, day in enumerate(days)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.event_time.time == written
    said = f"the order of day and month is ambiguous, as no value is above 12; the alternative is {other}"
    assert guess(made, "event_time").notes == (said, "no zone is written: read as UTC")
    assert said in " ".join(made.yaml.replace("#", " ").split())


def test_a_day_and_a_time_of_day_apart_are_put_together(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("date,time,user\n" + "".join(f"2026-03-{n:02},{n:02}:30:00,u{n}\n" for n in range(1, 20)))
    mapping, made = mapping_of([str(path)])
    assert [part.path for part in mapping.fields.event_time.concat] == ["date", None, "time"]
    assert mapping.fields.event_time.time == "%Y-%m-%d %H:%M:%S"
    assert made.rehearsal.events["event_time"].min() == datetime(2026, 3, 1, 1, 30, tzinfo=UTC)


def test_the_times_of_sending_and_receiving_are_not_the_time_of_the_event(tmp_path):
    records = [
        {
            "receivedAt": (moment(n) + timedelta(seconds=9)).isoformat(),
            "sentAt": (moment(n) + timedelta(seconds=5)).isoformat(),
            "updated_at": moment(0).isoformat(),
            "timestamp": moment(n).isoformat(),
        }
        for n in range(30)
    ]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    paths = {name: getattr(mapping.fields, name).path for name in ("event_time", "received_time", "sent_time")}
    assert paths == {"event_time": "timestamp", "received_time": "receivedAt", "sent_time": "sentAt"}
    assert guess(made, "event_time").notes == ()
    assert (made.rehearsal.events["received_time"] - made.rehearsal.events["event_time"]).to_list()[0].seconds == 9


def test_a_time_of_receiving_that_makes_most_events_too_late_is_left_out_and_told(tmp_path):
    records = [record(n, ingested_at=(moment(n) + timedelta(days=9)).isoformat()) for n in range(30)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.received_time is None
    assert made.rehearsal.passed() == 30
    assert "ingested_at: no received_time: it would quarantine too many records." in made.yaml


def test_a_time_that_some_records_lack_says_for_how_many_it_holds(tmp_path):
    records = [record(n, ts=moment(n).isoformat() if n % 4 else "soon") for n in range(40)]
    _, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert guess(made, "event_time").share == 0.75
    assert "event_time: {path: ts, time: rfc3339}  # 75 %" in made.yaml
    assert "# Quarantined: 10 of the sample, no_time (event_time)." in made.yaml
    assert "40 records: 75 % pass" in made.yaml


def test_a_number_under_another_name_is_no_time(tmp_path):
    records = [{"id": 1_700_000_000 + n, "when": moment(n).isoformat()} for n in range(30)]
    assert mapping_of(lines(tmp_path / "x.jsonl", records))[0].fields.event_time.path == "when"
    with pytest.raises(SourceError, match="no time was found in id"):
        propose(lines(tmp_path / "y.jsonl", [{"id": 1_700_000_000 + n} for n in range(30)]))


def written_in(pattern: str) -> set[str]:
    """Two times in a pattern, which have no digit in common; the one with a fraction of a second, the other without."""
    first = datetime(2026, 3, 7, 8, 3, 26, 236_073, UTC)
    second = datetime(1994, 11, 15, 11, 51, 49, tzinfo=timezone(timedelta(hours=11, minutes=45), "WET"))
    return {first.strftime(pattern.replace("%.f", ".%f")), second.strftime(pattern.replace("%.f", ""))}


def test_a_time_format_that_reads_a_text_is_never_left_untried():
    written = {pattern: written_in(pattern) for pattern in PATTERNS}
    every = set().union(*written.values())
    texts = pl.Series(sorted(every | {text.replace(" ", "") for text in every}), dtype=pl.String)
    for reader in PATTERNS:
        read = texts.filter(to_time(texts, reader).is_not_null()).to_list()
        assert written[reader] <= set(read)
        assert [text for text in read if not LITERALS[reader] <= set(text)] == [], reader


# Who, what, and the id.


def test_ids_with_gaps_between_them_are_ids_and_ids_that_repeat_are_none(tmp_path):
    records = [record(n, event_id=n * 17 + 3, order_id=n // 2) for n in range(50)]
    assert mapping_of(lines(tmp_path / "x.jsonl", records))[0].fields.event_id.path == "event_id"
    records = [record(n, event_id=n // 2) for n in range(50)]
    mapping, made = mapping_of(lines(tmp_path / "y.jsonl", records))
    assert mapping.fields.event_id is None
    assert "# event_id: no event_id: only 25 distinct values in 50 records." in made.yaml
    assert "event_id is derived from the content of the record" in made.yaml


def test_an_id_that_few_records_lack_is_taken_and_one_that_many_lack_is_not(tmp_path):
    few = [record(n, id=f"e{n}") if n % 20 else record(n) for n in range(60)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", few))
    assert mapping.fields.event_id.path == "id"
    assert guess(made, "event_id").notes == ("5 % of the records have none: theirs is derived from their content",)
    many = [record(n, id=f"e{n}") if n % 2 else record(n) for n in range(60)]
    assert mapping_of(lines(tmp_path / "y.jsonl", many))[0].fields.event_id is None


def test_nested_paths_are_named_by_what_stands_above_them(tmp_path):
    records = [
        {
            "meta": {"id": f"e{n}", "ts": moment(n).isoformat()},
            "user": {"id": f"u{n % 7}", "name": "x"},
            "item": {"id": n % 5, "category": "shoes" if n % 2 else "bags"},
            "geo": {"country": "DE" if n % 2 else "FR"},
        }
        for n in range(40)
    ]
    mapping, _ = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert {name: field.path for name, field in stated(mapping.fields) if field.path} == {
        "event_time": "meta.ts",
        "event_id": "meta.id",
        "user_id": "user.id",
        "content_id": "item.id",
        "category": "item.category",
        "country": "geo.country",
    }


def test_keys_of_any_letters_and_with_dots_are_read(tmp_path):
    records = [
        {"zeit.punkt": moment(n).isoformat(), "user.id": f"ü{n % 3}", "ページ": "x", "a\"b'c": 1, "": 2, "it's": 3}
        for n in range(30)
    ]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.event_time.path == "['zeit.punkt']"
    assert mapping.fields.user_id.path == "['user.id']"
    assert made.rehearsal.events["user_id"].to_list()[:3] == ["ü0", "ü1", "ü2"]
    assert "ページ" in made.yaml


def test_a_column_with_a_dot_in_its_name_is_one_key(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("time,a.user_id\n" + "".join(f"{moment(n).isoformat()},u{n % 3}\n" for n in range(20)))
    assert mapping_of([str(path)])[0].fields.user_id.path == "['a.user_id']"


def test_a_session_stands_for_a_person_where_nothing_else_does(tmp_path):
    records = [{"time": moment(n).isoformat(), "session": n % 3} for n in range(30)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.user_id.path == mapping.fields.session_id.path == "session"
    assert "no path identifies people: the session is used instead" in made.yaml


def test_a_guess_that_the_values_refute_is_not_made_and_told(tmp_path):
    records = [record(n, price="free" if n % 3 else "1.5", category="x" * 300) for n in range(30)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.value is None
    assert mapping.fields.category is None
    assert "# price: no value: not_a_number in 20 of 30 records." in made.yaml
    assert "# category: no category: too_long in 30 of 30 records." in made.yaml


def test_a_guess_that_a_few_records_fail_says_so_and_how_to_keep_them(tmp_path):
    records = [record(n, price="n/a" if n % 40 == 7 else n) for n in range(80)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.value.functions == ()
    assert "not_a_number in 2 of 80 records, which are quarantined; on_error: null keeps them" in made.yaml
    assert made.rehearsal.passed() == 78


def test_of_many_paths_that_are_not_used_some_are_listed(tmp_path):
    records = [record(n, scores={f"k{k}": 1 for k in range(n, n + 9)}) for n in range(200)]
    assert " and 158 more" in " ".join(propose(lines(tmp_path / "x.jsonl", records)).yaml.replace("#", " ").split())


def test_numbers_are_read_as_they_are_written(tmp_path):
    records = [
        record(n, amount=f"{n},000.50", qty=n, currency="EUR", rating=n % 5, is_bot=n % 2 == 0) for n in range(30)
    ]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.value.functions == ("number",)
    events = made.rehearsal.events.sort("quantity")
    assert events.select(pl.sum("quantity"), pl.sum("is_bot")).row(0) == (435, 15)
    assert float(events["value"].sum()) == 435_000 + 30 * 0.5
    assert [getattr(mapping.fields, name).path for name in ("currency", "rating")] == ["currency", "rating"]


def test_a_path_that_is_named_for_a_field_but_always_empty_is_told(tmp_path):
    records = [{"time": moment(n).isoformat(), "user_id": None} for n in range(20)]
    assert "# user_id: no user_id: empty in all records" in propose(lines(tmp_path / "x.jsonl", records)).yaml


# What happened.


def test_known_words_become_well_known_types_and_others_stand_as_they_are(tmp_path):
    words = ["view", "AddToCart", "Order Placed", "star", "spin wheel", "404", "ページ"]
    records = [record(n, action=words[n % len(words)]) for n in range(70)]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    field = mapping.fields.event_type
    types = ["page_view", "add_to_cart", "purchase", "like", "spin_wheel", "code_404", "event_7"]
    assert (field.path, field.map, field.otherwise) == ("action", dict(zip(words, types, strict=True)), "other")
    assert 'spin wheel": spin_wheel  # 10, unchanged' in made.yaml
    assert made.rehearsal.passed() == 70


def test_words_that_only_need_the_form_get_a_function_and_names_nothing(tmp_path):
    records = [record(n, event=("Spin Wheel", "Level Up")[n % 2]) for n in range(30)]
    assert mapping_of(lines(tmp_path / "x.jsonl", records))[0].fields.event_type.functions == ("snake",)
    records = [record(n, event=("page_view", "click")[n % 2]) for n in range(30)]
    field = mapping_of(lines(tmp_path / "y.jsonl", records))[0].fields.event_type
    assert (field.path, field.map, field.functions) == ("event", None, ())


@pytest.mark.parametrize(
    ("name", "more", "type"),
    [
        ("clicks.jsonl", {}, "click"),
        ("impressions-2026-03.jsonl", {}, "impression"),
        ("x.jsonl", {"invoice": "i1", "price": 2}, "purchase"),
        ("x.jsonl", {}, "event"),
    ],
)
def test_without_a_path_the_type_is_a_constant_that_the_names_tell(name, more, type, tmp_path):
    mapping, made = mapping_of(lines(tmp_path / name, [record(n, **more) for n in range(20)]))
    assert mapping.fields.event_type.const == type
    assert "no path holds the event type" in made.yaml


def test_a_channel_is_read_only_where_its_words_are_channels(tmp_path):
    records = [record(n, platform=("ios", "Desktop", "tv")[n % 3]) for n in range(30)]
    mapping, _ = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.channel.map == {"ios": "mobile", "Desktop": "web", "tv": "iot"}
    records = [record(n, channel=f"#{n % 4}.wiki") for n in range(30)]
    assert mapping_of(lines(tmp_path / "y.jsonl", records))[0].fields.channel is None
    assert "channel: {const: web}" in propose([str(tmp_path / "y.jsonl")]).yaml


# Lists of events.


def test_of_records_with_a_list_of_events_each_element_is_read(tmp_path):
    records = [
        {"visit": {"sid": f"s{n}", "hits": [{"at": moment(n + k).isoformat(), "kind": "tap"} for k in range(3)]}}
        for n in range(20)
    ]
    mapping, made = mapping_of(lines(tmp_path / "x.jsonl", records))
    element = "visit.hits"
    assert mapping.explode == element or getattr(mapping.explode, "path", None) == element
    assert mapping.fields.event_time.path == f"{element}.at"
    assert mapping.fields.event_type.path == f"{element}.kind"
    assert made.rehearsal.rejected.is_empty()
    assert len(made.rehearsal.events) == 60


def test_a_list_of_objects_may_be_another_value_in_some_records():
    records = [{"hits": [{"at": 1}]}, {"hits": [{"at": 9}]}, {"hits": True}]
    assert [seen.spelled for seen in lists_of_objects(profile(records))] == ["hits"]


def test_an_element_of_a_list_is_a_record_with_all_that_stands_around_it():
    records = [{"hits": [{"at": 1}, {"at": 2}], "sid": "a"}, {"hits": [{"at": 9}], "sid": "b"}]
    seen = {each.spelled: each.values for each in profile_elements(records, ("hits",))}
    assert seen == {"hits.at": [1, 2, 9], "sid": ["a", "a", "b"]}


def test_a_time_of_the_record_itself_counts_more_than_those_in_a_list(tmp_path):
    records = [record(n, edits=[{"ts": moment(n).isoformat(), "type": "x"}]) for n in range(20)]
    mapping, _ = mapping_of(lines(tmp_path / "x.jsonl", records))
    assert mapping.fields.event_time.path == "ts"


# Files.


@pytest.mark.parametrize(
    ("delimiter", "quote", "ending"),
    [(";", '"', ".csv"), ("\t", '"', ".tsv"), ("|", "'", ".csv.gz"), (",", '"', ".csv.zst")],
)
def test_delimiter_and_quote_of_a_csv_are_found(delimiter, quote, ending, tmp_path):
    rows = [["Zeit", "User ID", "Notiz", "Preis"]]
    rows += [[moment(n).isoformat(), f"u{n % 3}", f"a{delimiter} b, it's {n}", f"{n}.5"] for n in range(40)]
    text = "".join(
        delimiter.join(f"{quote}{cell.replace(quote, quote * 2)}{quote}" for cell in row) + "\r\n" for row in rows
    )
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(ending[-4:].lstrip("sv"), bytes)
    path = tmp_path / f"x{ending}"
    path.write_bytes(pack(text.encode()))
    mapping, made = mapping_of([str(path)])
    assert (mapping.fields.event_time.path, mapping.fields.user_id.path) == ("Zeit", "User ID")
    assert made.rehearsal.passed() == made.rehearsal.records == 40


def test_a_quote_that_only_stands_around_fields_is_found_and_an_apostrophe_is_none(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("'time';'user'\n" + "".join(f"'{moment(n).isoformat()}';'u{n % 3}'\n" for n in range(20)))
    assert mapping_of([str(path)])[0].csv.quote == "'"
    path.write_text("time;user\n" + "".join(f"{moment(n).isoformat()};it's {n % 3}\n" for n in range(20)))
    assert mapping_of([str(path)])[0].csv.quote == '"'


def test_a_csv_without_a_header_gets_names_for_its_columns(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("".join(f"{moment(n).isoformat()},u{n % 3},{n}\n" for n in range(30)))
    mapping, made = mapping_of([str(path)])
    assert mapping.csv.columns == ("column_1", "column_2", "column_3")
    assert mapping.fields.event_time.path == "column_1"
    assert made.rehearsal.records == 30


def test_a_name_that_tells_nothing_is_looked_into(tmp_path):
    records = "".join(json.dumps(record(n)) + "\n" for n in range(20))
    (tmp_path / "x.log").write_text(records)
    assert propose([str(tmp_path / "x.log")]).yaml.count("format: jsonl") == 1
    (tmp_path / "y.txt").write_text("time;user\n" + "".join(f"{moment(n).isoformat()};u{n}\n" for n in range(9)))
    made = propose([str(tmp_path / "y.txt")])
    assert 'format: csv\ncsv: {delimiter: ";"}' in made.yaml


def test_a_large_file_is_sampled_over_its_length(tmp_path):
    records = [record(n, kind="early" if n < 25_000 else "late") for n in range(50_000)]
    made = propose(lines(tmp_path / "x.jsonl", records), rows=1_000)
    assert 700 < made.rehearsal.records <= 1_000
    counts = dict(made.rehearsal.events["event_type"].value_counts().iter_rows())
    assert counts["late"] > 150


def test_records_of_the_native_form_need_no_mapping(tmp_path):
    records = [{"event_type": "click", "event_time": moment(n).isoformat(), "user_id": f"u{n}"} for n in range(20)]
    assert "backfill reads them without a mapping" in mapping_of(lines(tmp_path / "x.jsonl", records))[1].yaml
    assert "without a mapping" not in mapping_of(lines(tmp_path / "y.jsonl", [record(n) for n in range(9)]))[1].yaml


WRONG = {
    "an empty file": ("x.jsonl", b"", "x.jsonl: contains no records; name a file that has some"),
    "an empty CSV": ("x.csv", b"", "x.csv: contains no records"),
    "a CSV of a header": ("x.csv", b"time,user\n", "x.csv: contains no records"),
    "no JSON": ("x.jsonl", b"a\nb\n", "none of 2 records can be read as jsonl: "),
    "numbers": ("x.jsonl", b"1\n2\n", "none of 2 records can be read as jsonl: "),
    "empty objects": ("x.jsonl", b"{}\n{}\n", "its records are empty"),
    "no time": ("x.jsonl", b'{"a": 1}\n{"b": {"c": "x"}}\n', "no time was found in a, b.c; an event needs one"),
    "an array": ("x.json", b'[{"a": 1}]', "no time was found in a; an event needs one"),
    "a document": ("x.json", b'{\n  "a": 1\n}\n', "no time was found in a; an event needs one"),
    "no text": ("x.bin", b"\x00\x01\x02", "x.bin: not a text file; allowed"),
    "no Parquet": ("x.parquet", b"a,b\n", "x.parquet: cannot be read: "),
    "a torn file": ("x.jsonl.gz", gzip.compress(b'{"ts": 1}\n' * 99)[:30], "ends too early; fix the file"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_no_mapping_can_be_proposed_for_is_one_line(mistake, tmp_path):
    name, content, said = WRONG[mistake]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as raised:
        propose([str(tmp_path / name)])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_of_two_forms_are_refused(tmp_path):
    lines(tmp_path / "x.jsonl", [record(1)])
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        SourceError, match=r"got files of csv and jsonl, allowed files of one format; narrow the pattern"
    ):
        propose([str(tmp_path / "x.*")])


# Anything.

KEYS = st.one_of(
    st.sampled_from(
        ["ts", "time", "id", "user", "type", "event", "page", "price", "a.b", "received_at", "session", "channel"]
    ),
    st.text(max_size=6),
)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).flatmap(
    lambda at: st.sampled_from(
        [at.isoformat(), at.strftime("%d/%m/%Y"), int(at.timestamp()), int(at.timestamp() * 1000)]
    )
)
LEAVES = st.one_of(
    TIMES,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["view", "click", "u1", "u2", "EUR", "web"]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
TIMED = st.builds(lambda at, more: {"ts": at} | more, TIMES, st.dictionaries(KEYS, VALUES, max_size=6))
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=6), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.one_of(RECORDS, st.lists(TIMED, min_size=1, max_size=8)), copies=st.integers(1, 4))
def test_a_proposal_from_any_sample_is_a_clear_mistake_or_loads_and_runs(records, copies, tmp_path):
    patterns = lines(tmp_path / "x.jsonl", records * copies)
    try:
        made = propose(patterns)
    except AudienceError as mistake:
        assert "\n" not in str(mistake)
        return
    mapping = load_mapping(made.yaml, "proposed")
    checked = check(list(blocks(found_files(patterns)[0], CsvFormat(), mapping.source)), mapping).check
    assert checked.records == len(records) * copies
    failed = sum(failure.records for failure in checked.failed)
    if mapping.explode is not None:  # elements of one record pass and fail by themselves
        assert checked.passed + failed >= checked.records
        return
    assert checked.passed + failed == checked.records
    assert checked.events + checked.duplicates == checked.passed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(
        st.lists(
            st.one_of(st.sampled_from(["2026-03-01", "u1", "1.5", '"', "'", "a;b"]), st.text(max_size=5)), max_size=4
        )
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_a_proposal_from_any_csv_is_a_clear_mistake_or_loads(text, delimiter, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("time,user\n" + "\n".join(delimiter.join(row) for row in text), encoding="utf-8", newline="")
    try:
        load_mapping(propose([str(path)]).yaml, "proposed")
    except AudienceError as mistake:
        assert "\n" not in str(mistake)
