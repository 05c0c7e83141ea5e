"""The options of a configuration file: what is typed counts more, and an error names file and path."""

from datetime import timedelta

import pytest

from pipelines.settings.config import Config
from pipelines.settings.file import ConfigFile, stated_options
from pipelines.settings.resolve import effective, place_of, resolve
from pipelines.settings.values import FILE_OPTIONS
from transforms.errors import ConfigError, OptionError

WRONG = {
    "max_lateness: 1x": "$.max_lateness: got '1x', allowed a number above 0 and one of s, m, h, d",
    "max_lateness: 90": "$.max_lateness: got 90, allowed a number above 0 and one of",
    "max_lateness: 0h": "$.max_lateness: got '0h', allowed a number above 0",
    "dedup_window: 7h": "$.dedup_window: got '7h', allowed a width that divides a day, such as 1d, 6h or 15m",
    "shards: -1": "$.shards: got -1, allowed a whole number from 0 to 9999",
    "shards: 4.5": "$.shards: got 4.5, allowed a whole number",
    "shards: true": "$.shards: got True, allowed a whole number",
    'shards: "8"': "$.shards: got '8', allowed a whole number",
    "workers: [2]": "$.workers: got [2], allowed a whole number from 0 to 99",
    "workers: -1": "$.workers: got -1, allowed a whole number",
    "warehouse: 2026": "$.warehouse: got 2026, allowed the name of a folder",
    'warehouse: ""': "$.warehouse: got '', allowed the name of a folder",
    "time_zone: Mars/Base": "$.time_zone: got 'Mars/Base', allowed an IANA time zone name",
    "input: a.jsonl": "$.input: got the unknown key 'input', allowed max_days, warehouse, dataset, ",
    "replace: true": "$.replace: got the unknown key 'replace', allowed max_days, warehouse, ",
    "shards: 1\nshards: 2": "not YAML: duplicate key 'shards'",
}


@pytest.fixture
def own(tmp_path):
    """The path of a configuration with this text."""

    def write(text: str) -> str:
        (tmp_path / "own.yaml").write_text(text)
        return str(tmp_path / "own.yaml")

    return write


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_is_told_with_file_and_path_what_was_got_and_what_is_allowed(text, own):
    path = own(text)
    with pytest.raises(ConfigError) as refused:
        resolve({"input": ["a"], "config": path})
    assert str(refused.value).startswith(f"{path}: {WRONG[text]}")
    assert "\n" not in str(refused.value)


def test_an_option_counts_more_than_the_file_and_the_file_more_than_the_default(own):
    path = own("max_lateness: 36h\nshards: 8\nwarehouse: team\n")
    settings = resolve({"input": ["a"], "config": path, "shards": "2"})
    assert (settings.shards, settings.max_lateness, settings.warehouse) == (2, timedelta(hours=36), "team")
    assert (settings.dedup_window, settings.workers, settings.time_zone) == (timedelta(days=1), 0, None)
    found = effective({"config": path, "shards": "2"})
    assert [found[name].origin for name in ("shards", "max_lateness", "workers")] == ["option", "file", "default"]


def test_a_default_that_is_typed_still_counts_more_than_the_file(own):
    assert resolve({"input": ["a"], "config": own("shards: 8"), "shards": "4"}).shards == 4
    assert resolve({"input": ["a"], "config": own("workers: 3"), "workers": "0"}).workers == 0


def test_a_wrong_option_is_told_before_the_file_is_read():
    with pytest.raises(OptionError, match="--shards: got 'x'"):
        resolve({"input": ["a"], "config": "none.yaml", "shards": "x"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "shards: null\ntime_zone: null\nwarehouse: null\n"])
def test_what_is_not_stated_or_null_is_the_default(text, own):
    assert stated_options(own(text)) == {}


def test_the_two_readers_know_the_same_keys():
    assert Config.__struct_fields__ == ConfigFile.__struct_fields__
    assert set(ConfigFile.__struct_fields__) == {option.name for option in FILE_OPTIONS} | {
        "metrics",
        "quality",
        "funnel",
        "attribution",
        "insight",
        "alerts",
        "sync",
    }


def test_the_warehouse_of_a_question_is_that_of_the_file(own):
    path = own("warehouse: team\n")
    assert place_of({"config": path}) == (None, "team")
    assert place_of({"config": path, "warehouse": "mine"}) == (None, "mine")
    assert place_of({"config": path, "dataset": "project.data"}) == ("project.data", None)
    assert place_of({"config": None, "warehouse": None}) == (None, "warehouse")
    path = own("dataset: project.team\n")
    assert place_of({"config": path}) == ("project.team", None)
    assert place_of({"config": path, "warehouse": "mine"}) == (None, "mine")
