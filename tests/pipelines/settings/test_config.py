"""The configuration: the shipped metrics, and what a custom file adds, changes or leaves out."""

import pytest

from pipelines.settings.config import TEMPLATES, read_config, read_mapping
from transforms.errors import ConfigError
from transforms.validate import NULL_IDS

CATALOGUE = ["activity_1m", "content_1h", "campaign_1h", "user_days"]
SHARES = "shares_1h: {bucket: 1h, dimensions: [category], measures: {shares: {count: all, where: {event_type: share}}}}"


@pytest.fixture
def configured(tmp_path):
    """The metrics and rules of a configuration with this text."""

    def read(text: str):
        (tmp_path / "own.yaml").write_text(text)
        return read_config(str(tmp_path / "own.yaml"))

    return read


def test_without_a_file_the_catalogue_is_in_force():
    metrics, quality, *_ = read_config(None)
    assert [metric.name for metric in metrics] == CATALOGUE
    assert quality.null_ids == NULL_IDS


def test_a_file_adds_a_metric_changes_one_and_leaves_one_out(configured):
    changed = "activity_1m: {bucket: 5m, dimensions: [channel], measures: {events: {count: all}}}"
    metrics, quality, *_ = configured(f"metrics:\n  {SHARES}\n  {changed}\n  campaign_1h: null\n")
    assert [metric.name for metric in metrics] == ["activity_1m", "content_1h", "user_days", "shares_1h"]
    assert (metrics[0].bucket, metrics[0].dimensions) == ("5m", ("channel",))
    assert quality.null_ids == NULL_IDS


def test_the_null_ids_can_be_others(configured):
    metrics, quality, *_ = configured('quality: {null_ids: ["", guest]}')
    assert quality.null_ids == ("", "guest")
    assert [metric.name for metric in metrics] == CATALOGUE


def test_rules_for_bots_are_read(configured):
    _, quality, *_ = configured("quality: {bots: [{user_id: crawler}, [{device: [tv]}, {referrer: {pattern: bot}}]]}")
    assert quality.bots[0] == {"user_id": "crawler"}
    assert [list(way) for way in quality.bots[1]] == [["device"], ["referrer"]]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_changes_nothing(text, configured):
    assert configured(text) == read_config(None)


def metric(wrong: str) -> str:
    """A configuration of one metric, right but for `wrong`."""
    parts = {"bucket": "1h", "dimensions": "[]", "measures": "{n: {count: all}}"}
    parts |= [wrong.split(": ", 1)]
    return "metrics: {a_1h: {" + ", ".join(f"{name}: {part}" for name, part in parts.items()) + "}}"


WRONG = {
    "metric: {}": "own.yaml: $.metric: got the unknown key 'metric', allowed max_days, warehouse, dataset,",
    "quality: {null_id: [a]}": "own.yaml: $.quality.null_id: got the unknown key 'null_id', allowed null_ids, bots",
    "quality: {null_ids: guest}": "own.yaml: $.quality.null_ids: got 'guest', allowed a list",
    "quality: {bots: [{agent: a}]}": "own.yaml: $.quality.bots[0]: got the unknown column 'agent', allowed source, ",
    "quality: {bots: [{}]}": "own.yaml: $.quality.bots[0]: got nothing in it, allowed one or more",
    "metrics: [a]": "own.yaml: $.metrics: got ['a'], allowed keys with values",
    "- a": "own.yaml: $: got ['a'], allowed keys with values",
    "metrics: {a: [1": "own.yaml: not YAML: ",
    "metrics: {a: null, a: null}": "own.yaml: not YAML: duplicate key 'a'",
    metric("bucket: 7m"): "own.yaml: $.metrics.a_1h: bucket: got '7m'",
    metric("dimensions: [shoe]"): "own.yaml: $.metrics.a_1h: dimensions",
    metric("measures: {n: {sum: text}}"): "own.yaml: $.metrics.a_1h.measures.n: sum: 'text' is STRING",
    metric("measures: {n: {cuont: all}}"): "own.yaml: $.metrics.a_1h.measures.n: ",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_told_with_the_file_and_the_path(text, configured, tmp_path):
    with pytest.raises(ConfigError) as refused:
        configured(text)
    said = str(refused.value)
    assert said.removeprefix(f"{tmp_path}/").startswith(WRONG[text])
    assert "\n" not in said


@pytest.mark.parametrize("read", [read_config, read_mapping])
def test_a_file_that_cannot_be_read_is_named(read, tmp_path):
    what, option = ("configuration", "config") if read is read_config else ("mapping", "mapping")
    with pytest.raises(ConfigError, match=f"none.yaml: cannot read the {what}: No such file .*; check --{option}$"):
        read(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match=f"cannot read the {what}: Is a directory"):
        read(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("metrics: {} # café".encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"latin.yaml: the {what} is not UTF-8: .* at byte 17"):
        read(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize("path", sorted((TEMPLATES / "mappings").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_mappings_are_read_and_named_after_their_source(path):
    assert read_mapping(str(path)).source == path.stem


def test_a_mapping_of_which_a_test_fails_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "source: s\nfields: {event_type: {path: t}, event_time: {path: at}}\n"
        "tests: [{record: {t: share, at: '2026-03-01T12:00:00Z'}, events: [{event_type: like}]}]"
    )
    with pytest.raises(ConfigError, match=r"own.yaml: \$.tests\[0\]: got event_type 'share', expected 'like'$"):
        read_mapping(str(tmp_path / "own.yaml"))
