"""docs/metrics: each page is what the definitions and a real run make of it, and each view of a metric has one."""

import re

import pytest

from pipelines.apps.reference.metric_pages import FOLDER, definitions, example, pages
from pipelines.batch.days import table_of
from pipelines.settings.config import read_config, read_funnel
from pipelines.warehouse.views import VIEWS, bigquery_views

# What is no metric: records themselves.
RECORDS = {"events_unique", "quarantine_open", "quarantine_by_code"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, str]:
    return dict(pages(example(tmp_path_factory.mktemp("example"))))


def test_the_pages_are_what_the_definitions_and_a_run_make(made):
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")} == made, (
        "make them anew: python -m pipelines.apps.reference.metric_pages"
    )


def test_every_view_of_a_metric_is_on_a_page():
    told = {view for each in definitions().values() for view in each.views}
    assert {view.name for view in VIEWS} - RECORDS - told == set()


def test_an_example_asks_a_view_of_its_page_and_a_page_is_short(made):
    for name, each in definitions().items():
        assert any(f"FROM {view}" in each.query for view in each.views), name
        assert '"' not in each.query, name
        assert len(made[f"{name}.md"].splitlines()) <= 60, name


def test_what_a_page_says_of_the_shipped_funnel_and_of_the_weight_is_so():
    funnel = definitions()["funnel"].formula[0]
    assert f"{', '.join(read_funnel(None).steps)} within a day" in funnel and read_funnel(None).window == "1d"
    sql = dict(bigquery_views(map(table_of, read_config(None)[0]), "UTC"))["content_leaderboard"]
    assert (
        set(re.findall(r"\+ (\d+)", sql))
        == {"20"}
        == set(re.findall(r"(\d+) \* `overall", definitions()["content-leaderboard"].formula[1]))
    )
