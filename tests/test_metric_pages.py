"""docs/metrics: each page is up to date with its definition and a real run, and each view of a metric has a page."""

import re

import pytest

from pipelines.apps.report.definitions import definitions
from pipelines.reference.metric_pages import FOLDER, example, pages
from pipelines.settings.config import read_config
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.views import VIEWS, bigquery_views

# Views of records, which are no metrics.
RECORDS = {"events_unique", "quarantine_open", "quarantine_by_code"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> dict[str, str]:
    return dict(pages(example(tmp_path_factory.mktemp("example"))))


def test_the_pages_are_what_the_definitions_and_a_run_generate(generated):
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")} == generated, (
        "generate them again: python -m pipelines.reference"
    )


def test_every_view_of_a_metric_is_on_a_page():
    documented = {view for each in definitions().values() for view in each.views}
    assert {view.name for view in VIEWS} - RECORDS - documented == set()


def test_an_example_asks_a_view_of_its_page_and_a_page_is_short(generated):
    for name, each in definitions().items():
        assert any(f"FROM {view}" in each.query for view in each.views), name
        assert '"' not in each.query, name
        assert len(generated[f"{name}.md"].splitlines()) <= 60, name


def test_what_a_page_says_of_the_shipped_funnel_and_of_the_weight_is_so():
    funnel = definitions()["funnel"].formula[0]
    steps, window = read_config(None).funnel.steps, read_config(None).funnel.window
    assert f"{', '.join(steps)} within a day" in funnel and window == "1d"
    sql = dict(bigquery_views(map(table_of, read_config(None).metrics), "UTC"))["content_leaderboard"]
    assert (
        set(re.findall(r"\+ (\d+)", sql))
        == {"20"}
        == set(re.findall(r"(\d+) \* `overall", definitions()["content-leaderboard"].formula[1]))
    )
