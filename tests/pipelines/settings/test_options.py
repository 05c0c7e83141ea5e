"""The options: what each may be, and which go together."""

import argparse
from datetime import date, timedelta

import pytest

from pipelines.settings.arguments import OF_KAFKA, add_to, options_of
from pipelines.settings.resolve import OPTIONS, resolve
from transforms.errors import OptionError

WRONG = {
    ("workers", "abc"): "--workers: got 'abc'; allowed: a whole number from 0 to 99",
    ("workers", "-1"): "--workers: got '-1'; allowed: a whole number from 0 to 99",
    ("shards", "x"): "--shards: got 'x'; allowed: a whole number from 0 to 9999",
    ("shards", "4.5"): "--shards: got '4.5'; allowed",
    ("generation", "9" * 19): f"--generation: got '{'9' * 19}'; allowed: a whole number of at most 18 digits",
    ("format", "xml"): "--format: got 'xml'; allowed: auto, jsonl, csv, parquet",
    ("start", "1.3.2026"): "--start: got '1.3.2026'; allowed: a calendar date, such as 2026-03-01",
    ("end", "2026-02-30"): "--end: got '2026-02-30'; allowed: a calendar date",
    ("max_lateness", "1 day"): "--max_lateness: got '1 day'; allowed: a number above 0 and one of s, m, h, d",
    ("max_lateness", "0h"): "--max_lateness: got '0h'; allowed: a number above 0",
    ("max_lateness", "99999999999d"): "--max_lateness: got '99999999999d'; allowed",
    ("dedup_window", "7h"): "--dedup_window: got '7h'; allowed: a width that divides a day, such as 1d, 6h or 15m",
    ("dedup_window", "2d"): "--dedup_window: got '2d'; allowed: a width that divides a day",
    ("warehouse", ""): "--warehouse: got ''; allowed: the name of a folder",
    ("time_zone", "Mars/Base"): "--time_zone: got 'Mars/Base'; allowed: an IANA time zone name",
    ("time_zone", "../etc/passwd"): "--time_zone: got '../etc/passwd'; allowed",
}
CONTRADICTIONS = {
    "no source given: name the files to read with --input": {"input": None},
    "--replace and --add exclude each other": {"replace": True, "add": True},
    "--end is missing: a range of days needs both": {"start": "2026-03-01"},
    "--start is missing: a range of days needs both": {"end": "2026-03-01"},
    "--start 2026-03-02 is not before --end 2026-03-01": {"start": "2026-03-02", "end": "2026-03-01"},
    "--start 2026-03-01 is not before --end 2026-03-01": {"start": "2026-03-01", "end": "2026-03-01"},
    "--replace needs --start and --end": {"replace": True},
    "--mapping: got 2; allowed: one; run one backfill": {"mapping": ["a.yaml", "b.yaml"]},
}


QUEUE = {"input_subscription": "projects/demo-project/subscriptions/events"}
OF_A_STREAM = {
    "--write_method: got 'insert'; allowed: STORAGE_WRITE_API, STORAGE_WRITE_API_EXACTLY_ONCE, STREAMING_INSERTS": {
        "dataset": "my-project.d",
        "write_method": "insert",
    },
    "--write_method: got 'STREAMING_INSERTS' for --warehouse warehouse; allowed: only with --dataset": {
        "write_method": "STREAMING_INSERTS"
    },
    "--landing: got 'here' for --warehouse w; allowed: only with --dataset": {"warehouse": "w", "landing": "here"},
    "--max_lateness: got 3601d; allowed for a stream into a dataset: at most 3600d": {
        "dataset": "my-project.d",
        "max_lateness": "3601d",
    },
}


@pytest.mark.parametrize(
    ("queue", "command", "said"),
    [
        (
            {"input_log": "log"},
            "run",
            " with --input_log; allowed: only with --input_subscription or --input_topic or ",
        ),
        ({"input_kinesis": "events"}, "run", " with --input_kinesis; allowed: only with --input_subscription or --inp"),
        ({"input": ["a"]}, "backfill", "; allowed: only with --input_kafka; leave it out"),
    ],
    ids=["log", "kinesis", "files"],
)
def test_what_has_no_messages_has_no_attribute_that_names_their_source(queue, command, said):
    with pytest.raises(OptionError) as refused:
        resolve(queue | {"source_attribute": "source"}, command)
    assert str(refused.value).startswith(f"--source_attribute: got 'source'{said}")
    assert "\n" not in str(refused.value)


def test_several_mappings_of_a_backfill_need_the_attribute_that_chooses_among_them():
    topic = {"input_kafka": "events", "mapping": ["a.yaml", "b.yaml"]}
    with pytest.raises(OptionError, match=r"--mapping: got 2; allowed: one; .*, or name them with --source_attribute"):
        resolve(topic)
    with pytest.raises(OptionError, match=r"--mapping: got 2; allowed: one; run one backfill for each source$"):
        resolve({"input": ["a"], "mapping": ["a.yaml", "b.yaml"]})
    assert resolve(topic | {"source_attribute": "ce-source"}).mapping == ("a.yaml", "b.yaml")


def parsed(*argv: str) -> dict:
    parser = argparse.ArgumentParser()
    for option in OPTIONS:
        add_to(parser, option)
    return vars(parser.parse_args(argv))


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_told_with_its_option_what_was_got_and_what_is_allowed(name, value):
    with pytest.raises(OptionError) as refused:
        resolve({"input": ["a.jsonl"], name: value})
    assert str(refused.value).startswith(WRONG[name, value])


@pytest.mark.parametrize("said", CONTRADICTIONS)
def test_options_that_contradict_each_other_are_refused(said):
    with pytest.raises(OptionError) as refused:
        resolve({"input": ["a.jsonl"]} | CONTRADICTIONS[said])
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("said", OF_A_STREAM)
def test_options_that_a_stream_cannot_go_by_are_refused(said):
    with pytest.raises(OptionError) as refused:
        resolve(QUEUE | OF_A_STREAM[said], "run")
    assert str(refused.value).startswith(said)


def test_a_stream_into_a_data_set_has_its_method_and_its_folder():
    settings = resolve(QUEUE | {"dataset": "my-project.d"}, "run")
    assert (settings.write_method, settings.landing) == ("STORAGE_WRITE_API", "landing")
    assert {"write_method", "landing"} <= set(options_of("run"))
    assert not {"write_method", "landing"} & set(options_of("backfill"))


def test_what_is_typed_arrives_in_its_type():
    settings = resolve(
        parsed(
            *("--input", "a.jsonl", "--input", "b*.csv", "--start", "2026-03-01", "--end", "2026-03-08", "--replace"),
            *("--max_lateness", "36h", "--dedup_window", "15m", "--shards", "8", "--time_zone", "Europe/London"),
        )
    )
    assert settings.input == ("a.jsonl", "b*.csv")
    assert (settings.start, settings.end) == (date(2026, 3, 1), date(2026, 3, 8))
    assert (settings.replace, settings.add) == (True, False)
    assert (settings.max_lateness, settings.dedup_window) == (timedelta(hours=36), timedelta(minutes=15))
    assert (settings.shards, settings.workers, settings.generation) == (8, 0, None)
    assert (settings.time_zone, settings.warehouse, settings.format) == ("Europe/London", "warehouse", "auto")


def test_the_defaults_of_the_parser_and_of_a_caller_in_python_are_the_same():
    assert resolve(parsed("--input", "a")) == resolve({"input": ["a"]})


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_states_what_it_is_and_its_default_and_example_are_allowed(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audience.yaml").touch()
    assert option.help[0].isupper()
    source = {"input_kafka": "events"} if option.name in {*OF_KAFKA, "input_kafka"} else {"input": ["a"]}
    for value in filter(None, (option.default, option.example)):
        given = {**source, "end": "2027-01-01", "start": "2026-01-01", option.name: value}
        resolve(given if not option.repeat else {"input": [value]})


def test_a_run_over_the_warehouse_itself_has_no_options_of_files():
    names = {command: set(options_of(command)) for command in ("recompute", "replay")}
    assert not names["recompute"] & {"input", "format", "replace", "add", "max_lateness", "accept_late"}
    assert "start" in names["recompute"] and "start" not in names["replay"]
    assert resolve({"mapping": ["a.yaml", "b.yaml"]}, "recompute").mapping == ("a.yaml", "b.yaml")
