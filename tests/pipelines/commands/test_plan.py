"""`audience plan`: a table for a person, an object for a program, and one line for a mistake."""

import json

import pytest

from pipelines.apps.plan.coefficients import CHECK_BY, DISTINCT, PRICES
from pipelines.cli import main
from transforms.metrics.spec import MetricSpec

GIVEN = ["plan", "--events_per_second", "1000"]


def told(capsys, *words: str) -> dict:
    assert main([*GIVEN, "--json", *words]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return json.loads(shown.out)


def test_a_person_sees_a_day_and_what_is_assumed(capsys):
    assert main(GIVEN) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("One day of a stream: 86,400,000 messages of 270 bytes, 83,808,000 events;\n")
    for title in ("state of", "machine", "set", "dollars"):
        assert f"\n\n{title}" in shown.out
    assert f"are assumptions: check them by {CHECK_BY}," in shown.out
    assert max(map(len, shown.out.splitlines())) <= 120


def test_a_program_gets_whole_numbers_and_what_is_assumed(capsys):
    plan = told(capsys)
    assert plan["events"] == 83_808_000
    assert plan["traffic"]["per_second"] == 1_000
    assert {type(table["rows"]) for table in plan["tables"]} == {int}
    assert [table["table"] for table in plan["tables"]][:2] == ["events", "quarantine"]
    assert plan["state_bytes"] == pytest.approx(sum(step["state_bytes"] for step in plan["steps"]), abs=10)
    assert plan["assumed"]["prices_in_dollars"] == {name: price.dollars for name, price in PRICES.items()}
    assert {each["option"] for each in plan["advice"]} >= {"--shards", "--readers", "--write_method"}


def test_on_dataflow_blocks_are_gathered_and_no_reader_is_ours(capsys):
    ours, dataflow = told(capsys), told(capsys, "--runner=DataflowRunner")
    assert [each["step"] for each in dataflow["steps"]] == ["gather", *(each["step"] for each in ours["steps"])]
    assert "--readers" not in {each["option"] for each in dataflow["advice"]}
    assert told(capsys, "--runner=PrismRunner") == ours


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runner=SparkRunner"], "--runner: got 'SparkRunner'; allowed: PrismRunner, DirectRunner, DataflowRunner"),
        (["--runner=DataflowRunner", "--readers=3"], "--readers is only for a stream on this machine; leave it out"),
    ],
)
def test_a_runner_that_is_not_planned_is_one_line(words, said, capsys):
    assert main([*GIVEN, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_kafka_and_kinesis_are_read_and_billed_as_they_are(capsys):
    usual, kafka, kinesis = told(capsys), told(capsys, "--queue=kafka"), told(capsys, "--queue=kinesis")
    assert told(capsys, "--queue=pubsub") == usual
    assert set(usual["dollars"]) - set(kafka["dollars"]) == {"pubsub"}
    assert {name: kafka["dollars"][name] for name in kafka["dollars"] if name != "workers"} == pytest.approx(
        {name: usual["dollars"][name] for name in kafka["dollars"] if name != "workers"}
    )
    # 3,000 messages a second at the peak: three shards for a day, and a unit for each message.
    assert kinesis["dollars"]["kinesis"] == pytest.approx(3 * 24 * 0.015 + 86.4 * 0.014)
    advised = {each["option"]: each for each in kinesis["advice"]}
    assert (advised["shards of the stream"]["value"], "--readers" in advised) == ("3", False)
    readers = {each["option"]: each["why"] for each in kafka["advice"]}["--readers"]
    assert readers.endswith("; the topics need as many partitions")
    assert main([*GIVEN, "--queue=kafka"]) == 0
    assert capsys.readouterr().out.startswith("One day of a stream from Kafka: 86,400,000 messages")
    large = told(capsys, "--queue=kinesis", "--event_bytes", "30000")
    assert {each["option"]: each["value"] for each in large["advice"]}["shards of the stream"] == "90"
    assert large["dollars"]["kinesis"] == pytest.approx(90 * 24 * 0.015 + 2 * 86.4 * 0.014)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--queue=rabbit"], "--queue: got 'rabbit'; allowed: pubsub, kafka, kinesis"),
        (["--queue=kafka", "--backfill"], "--queue and --backfill exclude each other"),
        (["--queue=kafka", "--runner=DataflowRunner"], "--queue kafka: no job on Dataflow is planned with it; leave"),
        (["--queue=kinesis", "--readers=3"], "--readers is not for --queue kinesis, which has one reader for"),
    ],
)
def test_a_queue_that_is_not_planned_is_one_line(words, said, capsys):
    assert main([*GIVEN, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_what_is_stated_counts(capsys):
    usual = told(capsys)
    more = told(capsys, "--distinct", "content_id=100000", "--price", "pubsub_tib=80", "--event_bytes", "540")
    rows = [{table["table"]: table["rows"] for table in plan["tables"]} for plan in (usual, more)]
    assert rows[1]["content_1h"] > rows[0]["content_1h"]
    assert rows[1]["activity_1m"] == rows[0]["activity_1m"]
    assert more["dollars"]["pubsub"] == pytest.approx(4 * usual["dollars"]["pubsub"])


def test_the_options_of_run_and_the_metrics_of_a_configuration_count(tmp_path, capsys):
    (tmp_path / "audience.yaml").write_text(
        "shards: 8\nmetrics: {activity_1m: null, campaign_1h: null, user_days: null}\n"
    )
    plan = told(capsys, "--config", str(tmp_path / "audience.yaml"), "--dedup_window", "6h")
    assert [table["table"] for table in plan["tables"]] == [
        "events",
        "quarantine",
        "content_1h",
        "sessions",
        "quality_1m",
    ]
    assert plan["steps"][0]["shards"] == 8
    assert plan["steps"][0]["largest"] == pytest.approx(1000 * 0.97 * 16 * 6 * 3600 / 8, rel=1e-3)


def test_a_backfill_has_no_state(capsys):
    plan = told(capsys, "--backfill")
    assert (plan["backfill"], plan["state_bytes"], plan["advice"]) == (True, 0, [])
    assert main([*GIVEN, "--backfill"]) == 0
    assert "One day of a backfill: " in capsys.readouterr().out


def test_help_lists_every_column_and_price(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in (*DISTINCT, *PRICES) if f"\n  {name} " not in shown] == []


def test_every_dimension_of_the_shipped_metrics_has_a_number():
    from pipelines.settings.config import read_config

    metrics: tuple[MetricSpec, ...] = read_config(None).metrics
    assert {name for spec in metrics for name in spec.dimensions} - {*DISTINCT, "person"} == set()


WRONG = {
    "no rate": (["plan"], "the following arguments are required: --events_per_second"),
    "no number": (["plan", "--events_per_second", "many"], "--events_per_second: got 'many'; allowed: a number from"),
    "no event": (["plan", "--events_per_second", "0"], "--events_per_second: got '0'; allowed: a number from 0.001 to"),
    "an endless rate": (["plan", "--events_per_second", "inf"], "--events_per_second: got 'inf'; allowed: a number"),
    "a peak below the average": ([*GIVEN, "--peak", "0.5"], "--peak: got '0.5'; allowed: a number from 1 to 1,000"),
    "a share above one": ([*GIVEN, "--late", "2"], "--late: got '2'; allowed: a number from 0 to 1"),
    "no event left": ([*GIVEN, "--duplicates", "0.6", "--quarantined", "0.4"], "they leave no events"),
    "an unknown column": ([*GIVEN, "--distinct", "colour=3"], "--distinct: got 'colour=3'; allowed: NAME=NUMBER, at"),
    "a column of nothing": ([*GIVEN, "--distinct", "channel=0"], "--distinct: got 'channel=0'; allowed: NAME=NUMBER"),
    "a price of no number": ([*GIVEN, "--price", "pubsub_tib=free"], "--price: got 'pubsub_tib=free'; allowed: NAME="),
    "a price below nothing": ([*GIVEN, "--price", "pubsub_tib=-1"], "--price: got 'pubsub_tib=-1'; allowed: NAME="),
    "wrong shards": ([*GIVEN, "--shards", "x"], "--shards: got 'x'; allowed: a whole number from 0 to 9999"),
    "a hyphen": (["plan", "--events-per-second", "10"], "arguments are required: --events_per_second"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_value_is_one_line(mistake, capsys):
    argv, said = WRONG[mistake]
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err
