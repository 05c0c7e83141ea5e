"""`query` and `report` with --config: its funnel is asked, and what a run computed under another one is refused."""

import pytest

from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.warehouse.test_metric_views import FUNNEL, METRICS, at, write

FUNNEL_OF = "SELECT step, event_type, sum(persons) AS persons FROM funnel_by_day GROUP BY ALL ORDER BY step"
# Who bought within a week of a view that came before, by no view of the product.
BOUGHT = """
    SELECT count(DISTINCT v.user_id) AS n FROM events AS v JOIN events AS p USING (user_id)
    WHERE v.event_type = 'page_view' AND p.event_type = 'purchase' AND p.event_time > v.event_time
    AND p.event_time <= v.event_time + INTERVAL 7 DAY AND NOT coalesce(v.is_bot OR p.is_bot, false)
"""
SHARES = "shares_1h: {bucket: 1h, measures: {shares: {count: all, where: {event_type: share}}}}"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("configured") / "w", "Europe/Berlin", create=True)
    minute = {"bucket_start": at(5), "bucket_end": at(5, 12, 1), "event_type": "page_view", "events": 1}
    current = {"generation": 1, "revision": 1, "firing": "on_time"}
    minutes = [minute | current | {"bucket_start": at(day)} for day in (1, 5)]
    write(warehouse, (EVENTS, FUNNEL), (METRICS["activity_1m"], minutes))
    return str(warehouse.folder)


@pytest.fixture
def ask(stored, tmp_path, capsys):
    def asks(sql: str, config: str, status: int = 0) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(config)
        assert main(["query", sql, "--csv", "--warehouse", stored, "--config", str(path)]) == status
        told = capsys.readouterr()
        return told.err if status else told.out

    return asks


def test_the_funnel_of_the_file_is_asked(ask):
    rows = [line.split(",") for line in ask(FUNNEL_OF, "funnel: {steps: [page_view, purchase], window: 7d}").split()]
    assert [row[1] for row in rows[1:]] == ["page_view", "purchase"]
    bought = int(ask(BOUGHT, "{}").split()[1])
    assert bought > 0 and int(rows[2][2]) == bought


def test_a_file_without_a_funnel_asks_that_of_the_last_run(ask):
    assert ask(FUNNEL_OF, "workers: 2") == "step,event_type,persons\n1,page_view,8\n2,add_to_cart,6\n3,purchase,1\n"


def test_a_report_draws_the_funnel_of_the_file(stored, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("funnel: {steps: [page_view, purchase], window: 7d}")
    assert main(["report", "--output", "-", "--warehouse", stored, "--config", str(path)]) == 0
    drawn = capsys.readouterr().out.partition('id="chart-funnel"')[2].partition("</figure>")[0]
    assert [name for name in ("page_view", "add_to_cart", "purchase") if name in drawn] == ["page_view", "purchase"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("time_zone: Asia/Tokyo", "was made with time zone 'Europe/Berlin', not 'Asia/Tokyo'"),
        (f"metrics: {{{SHARES}}}", ".metrics.shares_1h: there is no such table in "),
        (
            "metrics: {content_1h: {bucket: 1h, dimensions: [content_id], measures: {views: {count: all}}}}",
            ".metrics.content_1h: its rows are by content_id, category, not by content_id in ",
        ),
        (
            "metrics: {activity_1m: {bucket: 1m, dimensions: [channel, event_type], measures: "
            "{events: {count: all, where: {event_type: click}}}}}",
            ".metrics.activity_1m: 'events' counts 'events', not 'events, event_type click', in ",
        ),
        ("funnel: {steps: [page_view]}", "steps"),
    ],
)
def test_another_configuration_than_the_one_of_the_warehouse_is_refused(ask, config, told):
    said = ask("SELECT 1", config, status=2)
    assert told in said and said.count("\n") == 1


def test_a_file_that_states_what_the_warehouse_holds_is_taken(ask):
    assert ask("SELECT 1 AS one", "time_zone: Europe/Berlin\nmetrics: {live_1m: null}") == "one\n1\n"
