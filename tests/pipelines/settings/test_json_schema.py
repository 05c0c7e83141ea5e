"""The schemas for editors: what is shipped is right, and what the program refuses by its keys they refuse too."""

import json

import jsonschema
import pytest
import yaml

from pipelines.cli import main
from pipelines.reference.configuration import EXAMPLE
from pipelines.settings.config import TEMPLATES
from pipelines.settings.json_schema import SCHEMAS, configuration_schema
from pipelines.settings.values import FILE_OPTIONS, value_of
from pipelines.settings.values import Given as GivenValue
from transforms.errors import AudienceError

MAPPINGS = sorted((TEMPLATES / "mappings").glob("*.yaml"))
RIGHT = [
    ("configuration", (TEMPLATES / "default.yaml").read_text()),
    ("configuration", EXAMPLE),
    ("configuration", "# nothing"),
    ("configuration", "metrics: {activity_1m: null}\nquality: null\nshards: null"),
    ("configuration", "funnel: {steps: [a, b], window: 90m}"),
    ("configuration", "attribution: {look_back_days: 7}"),
    ("configuration", "insight: {trends: {rising: 5, half_life: 2.5}, anomalies: {point: 8}}"),
    ("configuration", "insight: null"),
    *(("mapping", path.read_text()) for path in MAPPINGS),
]
METRIC = "metrics: {a_1h: {bucket: 1h, measures: {n: {count: all}}}}"
MAPPING = "source: shop\nfields: {event_type: {const: click}}\n"
WRONG = [
    ("configuration", "metric: {}"),
    ("configuration", "input: a.jsonl"),
    ("configuration", "shards: -1"),
    ("configuration", "shards: 10000"),
    ("configuration", "shards: '8'"),
    ("configuration", "max_lateness: 1x"),
    ("configuration", "warehouse: 7"),
    ("configuration", "quality: {nul_ids: []}"),
    ("configuration", "quality: {null_ids: guest}"),
    ("configuration", "funnel: {steps: [a]}"),
    ("configuration", "attribution: {look_back_days: 91}"),
    ("configuration", "insight: {trends: {risng: 5}}"),
    ("configuration", "insight: {trends: {rising: 0}}"),
    ("configuration", "insight: {anomalies: {silence: many}}"),
    ("configuration", "funnel: {window: 1d}"),
    ("configuration", "funnel: {steps: [a, b], window: 1w}"),
    ("configuration", METRIC.replace("a_1h", "A-1")),
    ("configuration", METRIC.replace("bucket", "bukcet")),
    ("configuration", METRIC.replace("bucket: 1h, ", "")),
    ("configuration", METRIC.replace("bucket:", "name: a_1h, bucket:")),
    ("configuration", METRIC.replace("count: all", "count: some")),
    ("configuration", METRIC.replace("count:", "cuont:")),
    ("mapping", "{}"),
    ("mapping", MAPPING.replace("fields", "field")),
    ("mapping", MAPPING.replace("const", "cnst")),
    ("mapping", MAPPING.replace("event_type", "event_typ")),
    ("mapping", MAPPING + "clock: sundial\n"),
    ("mapping", MAPPING + "csv: {delimeter: ';'}\n"),
]


def read(text: str):
    """As the editors' own readers do."""
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name):
    schema = SCHEMAS[name]()
    assert schema["$schema"].endswith("2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("name", "text"), RIGHT)
def test_what_is_right_passes(name, text):
    jsonschema.Draft202012Validator(SCHEMAS[name]()).validate(read(text))


@pytest.mark.parametrize(("name", "text"), [("configuration", METRIC), ("mapping", MAPPING)])
def test_what_the_wrong_ones_are_made_from_is_right(name, text):
    jsonschema.Draft202012Validator(SCHEMAS[name]()).validate(read(text))


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_what_is_wrong_is_refused(name, text):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMAS[name]()).validate(read(text))


@pytest.mark.parametrize("option", FILE_OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [-1, 0, 1, 99, 100, 9999, 10000, "", "1d", "0", "7", "36h", "x", True, 1.5, [], {}])
def test_the_schema_of_an_option_refuses_nothing_that_the_program_takes(option, value):
    """The other way round it may: a zone's name or a width that divides a day only the program knows."""
    try:
        value_of(option, GivenValue(value, "file", "own.yaml"))
    except AudienceError:
        return
    jsonschema.validate(value, configuration_schema()["properties"][option.name])


@pytest.mark.parametrize(("argv", "name"), [([], "configuration"), (["mapping"], "mapping")])
def test_a_schema_is_printed_as_it_is_shipped(argv, name, capsys):
    assert main(["config", "--schema", *argv]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["title"] == f"{name.capitalize()} of audience"
    assert printed == (TEMPLATES / "schemas" / f"{name}.json").read_text()
