"""What is generated from the declarations stands in the tree as they say now."""

import pytest

from pipelines.reference.configuration import EXAMPLE, files, page, table
from pipelines.settings.config import TEMPLATES, Quality, read_config
from pipelines.settings.file import stated_options
from pipelines.settings.keys import keys_of
from pipelines.settings.resolve import resolve
from pipelines.settings.values import FILE_OPTIONS
from transforms.metrics.spec import Measure, MetricSpec
from transforms.sessions.funnel import Funnel


def test_the_generated_files_are_as_the_declarations_say():
    wrong = [path.name for path, text in files() if path.read_text(encoding="utf-8") != text]
    assert wrong == [], "generate them again: python -m pipelines.reference"


@pytest.mark.parametrize("struct", [Quality, Funnel, MetricSpec, Measure], ids=lambda struct: struct.__name__)
def test_every_key_says_what_it_is_with_its_unit_and_an_example(struct):
    for key in keys_of(struct):
        if (struct, key.name) != (MetricSpec, "name"):
            assert key.description[0].isupper()
            assert key.unit and key.example is not None, key


@pytest.mark.parametrize("option", FILE_OPTIONS, ids=lambda option: option.name)
def test_every_option_that_may_stand_in_a_file_says_its_unit_its_default_and_an_example(option):
    assert option.unit and option.example
    assert (option.default is None) == bool(option.unless)


def test_the_examples_of_the_page_are_right(tmp_path):
    own = tmp_path / "audience.yaml"
    own.write_text(EXAMPLE)
    metrics, quality, *_ = read_config(str(own))
    assert [metric.name for metric in metrics] == ["content_1h", "campaign_1h", "user_days", "searches_1h"]
    assert quality.null_ids == ("", "null", "guest")
    assert resolve({"input": ["a"], "config": str(own)}).time_zone == "Europe/London"
    for option in FILE_OPTIONS:
        [line] = [line for line in page().splitlines() if line.startswith(f"| `{option.name}` | {option.help} | ")]
        own.write_text(line.rsplit("| `", 1)[1].removesuffix("` |"))
        assert option.name in stated_options(str(own))


def test_a_page_names_no_folder_of_this_machine():
    assert str(TEMPLATES.parent) not in "".join(text for _, text in files())


def test_a_table_keeps_a_bar_in_its_cell():
    assert table([("a|b",)], "Key").splitlines()[-1] == "| a\\|b |"
