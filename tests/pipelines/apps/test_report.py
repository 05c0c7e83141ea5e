"""A report as a person opens it: drawn on a desk and on a phone, light and dark, and what it says is text."""

import json
import os
import re
import subprocess
import sys
import threading
from base64 import b64encode
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser

import polars as pl
import pytest

from pipelines.apps.demo.files import write_report
from pipelines.apps.report import charts, svg
from pipelines.apps.report.days import Shown, State
from pipelines.apps.report.definitions import definitions
from pipelines.apps.report.html import tiles
from pipelines.apps.report.page import FIGURES, page, report
from pipelines.apps.report.queries import Numbers, numbers_of
from pipelines.apps.report.window import Window, choose_window
from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, SESSIONS
from pipelines.warehouse.tables import QUALITY_1M as QUALITY
from tests.pipelines.apps.live.answers import fill_answers
from tests.pipelines.apps.live.rows import AT as ANSWERED
from tests.pipelines.warehouse.test_metric_views import (
    CONTENTS,
    FUNNEL,
    METRICS,
    PURCHASES,
    USER_DAYS,
    VISITS,
    at,
    content,
    visit,
    write,
)

HOSTILE = "</script ><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LONG = "x" * 250
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SCREENS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
MOST_BYTES = 300_000
SHOP = {"funnel", "revenue", "segments", "conversion"}


def books(source: str, day: int = 12, hour: int = 23, **counts) -> dict:
    """A row of the audit counts, of a closed minute."""
    row = {"bucket_start": at(day, hour), "bucket_end": at(day, hour, 1), "source": source, "input": "f"}
    row |= {"firing": "on_time"}
    return row | {"generation": 1, "revision": 1} | counts


def minutes(days, *kinds: tuple[str | None, str]) -> list[dict]:
    """Rows of activity_1m: on each day seven times its number of events, of each channel and type."""
    return [
        {"bucket_start": at(day), "bucket_end": at(day, 12, 1), "channel": channel, "event_type": kind}
        | {"events": 7 * day, "generation": 1, "revision": 1, "firing": "on_time"}
        for day in days
        for channel, kind in kinds
    ]


TODAY = books("web", 13, 9, received=3, events=3)


@pytest.fixture(scope="module")
def stored_full(tmp_path_factory):
    """A warehouse in which every chart but retention by day has rows, some with markup in names; its last whole day is
    12 March."""
    folder = tmp_path_factory.mktemp("full") / ("w" * 150)
    warehouse = LocalWarehouse.open(folder, time_zone="Europe/Berlin", create=True)
    hostile = [content(10, HOSTILE, 50, 20, 30), content(10, LONG, 50, 20, 30)]
    visits = [visit("h", at(2), HOSTILE, HOSTILE, "a", "u", 60), visit("l", at(2), "web", LONG, "b", "q5", 60)]
    channels = [(channel, "page_view") for channel in ("web", "mobile", HOSTILE, None)]
    write(
        warehouse,
        (METRICS["user_days"], USER_DAYS),
        (SESSIONS, VISITS + visits),
        (EVENTS, [*FUNNEL, *PURCHASES]),
        (METRICS["content_1h"], CONTENTS + hostile),
        (METRICS["activity_1m"], minutes((1, 2, 12, 13), *channels)),
        (QUALITY, [books("web", received=9, events=8, quarantined=1), books(HOSTILE, received=2, events=2), TODAY]),
    )
    fill_answers(warehouse, ANSWERED)
    return warehouse


@pytest.fixture(scope="module")
def full(stored_full, tmp_path_factory):
    """The file of its report."""
    return written(report(stored_full), tmp_path_factory)


@pytest.fixture(scope="module")
def social(tmp_path_factory):
    """A warehouse without a channel, a view or a purchase."""
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("social") / "w", create=True)
    likes = [
        {"event_id": f"{day} {n}", "event_type": "like", "user_id": f"u{n}", "content_id": f"post-{n % 3}"}
        | {"source": "s", "event_time": at(day, 12, n), "received_time": at(day, 12, n)}
        for day in (1, 2)
        for n in range(7)
    ]
    activity = minutes((1, 2), (None, "like"), (None, "share"))
    write(warehouse, (EVENTS, likes), (METRICS["user_days"], USER_DAYS), (METRICS["activity_1m"], activity))
    return warehouse


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The file of a report over a warehouse without a row."""
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("bare") / "w", create=True)
    write(warehouse)
    return written(report(warehouse), tmp_path_factory)


def written(text: str, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def figures_of(text: str) -> dict[str, str]:
    """The HTML of each figure by the name of its chart."""
    return {
        name: body for name, body in re.findall(r'<figure[^>]* id="([\w-]+)-figure"(.*?)</figure>', text, re.DOTALL)
    }


@pytest.fixture
def opened(browser):
    """opened(path, size, scheme) -> the page; at the end that nothing was said or asked."""
    contexts, heard = [], []

    def opens(path, size: tuple[int, int] = (1280, 900), scheme: str = "light"):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        found = context.new_page()
        found.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        found.on("pageerror", lambda error: heard.append(f"error: {error}"))
        found.on("request", lambda request: heard.append(request.url) if request.url != f"file://{path}" else None)
        found.goto(f"file://{path}")
        return found

    yield opens
    for context in contexts:
        context.close()
    assert heard == []


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_screen(size, scheme, full, opened):
    shown = opened(full, SIZES[size], scheme)
    drawn = shown.evaluate("[...document.querySelectorAll('.chart')].map(e => e.id)")
    assert drawn == [f"chart-{figure.name}" for figure in FIGURES if figure.name != "retention-days"]  # a week is over
    sizes = (
        "[...e.querySelectorAll('svg path, svg rect, .heat td, .listed td')].map(m => m.getBoundingClientRect().height)"
    )
    assert min(shown.evaluate(f"[...document.querySelectorAll('.chart')].map(e => Math.max(...{sizes}))")) > 10
    shown.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    wide = "[...document.querySelectorAll('body, .plot svg.marks, .bars svg, .name, .tile, figure, p')]"
    assert max(shown.evaluate(f"{wide}.map(e => e.getBoundingClientRect().right)")) <= SIZES[size][0]
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]


def test_a_chart_is_told_in_words_and_its_numbers_are_there(full, opened):
    shown = opened(full)
    told = shown.evaluate("[...document.querySelectorAll('.chart')].map(e => e.ariaLabel)")
    assert len(told) == len(FIGURES) - 1 and all(text.endswith(".") for text in told)
    assert "Funnel: page_view 8, add_to_cart 6, purchase 1 people." in told
    assert shown.locator("figure details.rows table").count() == len(told)
    named = (
        "[...document.querySelectorAll('figure')].map(e => document.getElementById(e.getAttribute('aria-labelledby')))"
    )
    assert shown.evaluate(f"{named}.every(e => e && e.tagName === 'H2')")


def test_the_colours_follow_the_scheme_of_the_reader(full, opened):
    shown = opened(full)
    bar = "getComputedStyle(document.querySelector('#chart-funnel rect')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = shown.evaluate(bar), shown.evaluate(paper)
    shown.emulate_media(color_scheme="dark")
    assert shown.evaluate(bar) != light[0] and shown.evaluate(paper) != light[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(scheme, full, opened):
    shown = opened(full, scheme=scheme)
    contrast = """() => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const lum = (c) => { const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = (e) => { for (; e; e = e.parentElement) {
            const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
            return [255, 255, 255]; };
        const texts = [...document.querySelectorAll('p, h1, h2, h3, dt, dd, td, th, span, li, summary, a, text')];
        return Math.min(...texts.filter(e => e.textContent.trim()).map(e => {
            const style = getComputedStyle(e);
            const [a, b] = [lum(rgb(e.tagName === 'text' ? style.fill : style.color)), lum(behind(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); }"""
    assert shown.evaluate(contrast) >= 4.5


def test_a_chart_leads_to_its_definition(full, opened):
    shown = opened(full)
    for name in ({figure.metric for figure in FIGURES} | {"books"}) - {""}:
        shown.locator(f'figcaption a[href="#{name}"], .books a[href="#{name}"]').first.click()
        assert definitions()[name].title in shown.locator(f"#{name} h3").inner_text()
        assert f"docs/metrics/{name}.md" in shown.locator(f"#{name}").inner_text()


def test_what_comes_from_data_is_text(full, opened):
    shown = opened(full, SIZES["phone"])
    assert shown.title().startswith("Audience report: ")
    assert shown.locator("body img").count() == shown.locator("script").count() == 0
    assert HOSTILE in shown.locator(".books td").all_inner_texts()
    cells = shown.locator("figure td").all_text_contents()
    assert cells.count(HOSTILE) >= 3
    assert LONG in cells


def test_a_long_id_can_be_read_in_full(full, opened):
    shown = opened(full, SIZES["phone"])
    name = shown.locator(".bars .name").filter(has_text=LONG).first
    assert name.inner_text() == LONG
    assert name.evaluate("e => e.scrollWidth <= e.clientWidth && getComputedStyle(e).textOverflow !== 'ellipsis'")


def test_markup_that_an_escape_forgot_would_neither_run_nor_be_styled(full, tmp_path, browser):
    forgotten = "<script>document.title = 'owned'</script><style>#told { color: red }</style>"
    forgotten += "<p id=told style='position: fixed'></p>"
    path = tmp_path / "report.html"
    path.write_text(full.read_text(encoding="utf-8").replace("<main>", forgotten + "<main>"), encoding="utf-8")
    shown = browser.new_page()
    shown.goto(f"file://{path}")
    assert shown.title().startswith("Audience report: ")
    told = "getComputedStyle(document.getElementById('told'))"
    assert shown.evaluate(f"[{told}.position, {told}.color]") == ["static", "rgb(34, 37, 43)"]
    shown.close()


def test_an_empty_warehouse_says_so_in_words(bare, opened):
    shown = opened(bare, SIZES["phone"])
    assert shown.locator(".chart").count() == shown.locator(".tile").count() == 0
    assert shown.locator(".empty").all_inner_texts() == ["No event was accepted yet.", "No record was received yet."]
    assert "holds no day yet" in shown.locator("header").inner_text()


class _Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_holds_all_it_needs_runs_no_script_and_forbids_the_rest(full):
    text = full.read_text(encoding="utf-8")
    reader = _Tags()
    reader.feed(text)
    sources = [each.get("src") or each.get("href") for _, each in reader.tags if "src" in each or "href" in each]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert not [tag for tag, each in reader.tags if tag == "script" or any(name.startswith("on") for name in each)]
    assert not [tag for tag, each in reader.tags if "style" in each]  # which the policy would ignore
    [policy] = [dict(each)["content"] for _, each in reader.tags if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    [found] = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert rules.pop("style-src") == f"'sha256-{b64encode(sha256(found.encode()).digest()).decode()}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert "{{" not in text


def test_a_day_in_progress_is_marked_and_not_the_one_shown(full, opened):
    shown = opened(full)
    head = shown.locator("header").inner_text()
    assert "Thursday, 12 March 2026 (Europe/Berlin)" in head
    assert "until 13 March 2026, 09:01" in head and "also show 13 March, in progress." in head
    marked = "[...document.querySelectorAll('.chart')].filter(e => e.querySelector('rect.progress')).map(e => e.id)"
    by_day = ["people", "lifecycle", "volume", "engagement", "revenue"]  # all of one window
    assert shown.evaluate(marked) == [f"chart-{name}" for name in by_day]
    assert shown.locator("#volume-figure .note").inner_text().startswith("In progress: 13 March.")


def test_all_tiles_are_of_one_day_and_have_the_numbers_of_the_views(stored_full):
    def ask(sql: str) -> float:
        return float(pl.concat(stored_full.ask(sql)).item())

    day = "WHERE day = '2026-03-12'"
    shown = {tile.name: tile.value for tile in tiles(numbers_of(stored_full)) if not tile.name.startswith("Revenue")}
    assert shown == {
        "Active people": f"{ask(f'SELECT dau FROM activity_by_day {day}'):,.0f}",
        "New people": f"{ask(f'SELECT new_persons FROM lifecycle_by_day {day}'):,.0f}",
        "Events": f"{ask(f'SELECT SUM(events) FROM engagement_by_channel {day}'):,.0f}",
    }  # no session began on that day


def raw(warehouse, sql: str) -> list[tuple]:
    """The answer of a query over stored events, in DuckDB's SQL and by no view."""
    return warehouse.answer(sql).frame().rows()


def test_revenue_is_that_of_the_purchases_by_day_and_currency(stored_full):
    rows = raw(
        stored_full,
        "SELECT event_time::DATE AS day, currency, sum(value)::DOUBLE, count(*) FROM (SELECT DISTINCT ON (event_id) * "
        "FROM events ORDER BY event_id, received_time) WHERE event_type = 'purchase' AND is_bot IS NOT TRUE "
        "AND event_time::DATE <= '2026-03-13' GROUP BY ALL",
    )
    numbers = numbers_of(stored_full)
    drawn = {(day, currency): (value, orders) for day, currency, value, orders in numbers["revenue"].iter_rows()}
    right = {(day, currency or "no currency"): (value or 0, orders) for day, currency, value, orders in rows}
    assert drawn == right and len({currency for _, currency in right}) > 1
    first = max({c for _, c in right}, key=lambda c: sum(n for (_, k), (_, n) in right.items() if k == c))
    figure = figures_of(page(numbers))["revenue"]
    total = sum(value for (_, currency), (value, _) in right.items() if currency == first)
    assert f"{first}: {total:,.2f} in " in figure
    assert figure.count('class="plot"') == min(charts.CURRENCIES, len({currency for _, currency in right}))


def test_contents_are_ranked_by_views(stored_full):
    right = raw(
        stored_full,
        "SELECT content_id, sum(views) AS n FROM content_1h GROUP BY ALL ORDER BY n DESC, content_id LIMIT 10",
    )
    names = re.findall(r'<span class="name">(.*?)</span>', figures_of(page(numbers_of(stored_full)))["contents"])
    assert [unescape(name) for name in names] == [name for name, views in right if views]


def test_a_social_set_has_no_empty_shop(social):
    text = page(numbers_of(social))
    shown = figures_of(text)
    assert not shown.keys() & SHOP and "No purchases" not in text and "Conversion rate" not in text
    assert {"people", "lifecycle", "volume", "contents"} <= shown.keys()
    assert '<ul class="legend"><li class="k1">like</li><li class="k2">share</li></ul>' in shown["volume"]
    right = raw(social, "SELECT content_id, count(*) FROM events GROUP BY ALL ORDER BY 2 DESC, 1")
    labels = re.findall(r'class="name">(.*?)</span>.*?class="label">(\d+) events', shown["contents"])
    assert [(name, int(n)) for name, n in labels] == right
    assert "no content has views or impressions or reactions or clicks" in shown["contents"]


def test_a_chart_spans_the_days_that_have_data(stored_full):
    numbers = numbers_of(stored_full)
    march = {day: date(2026, 3, day) for day in range(1, 14)}
    assert numbers.window == Window(march[1], march[13], frozenset(march[day] for day in range(3, 12)))
    assert numbers.window.holes() == [(march[3], 9)]
    assert numbers["channels"]["day"].max() == march[13]


def test_a_range_of_days_is_drawn_in_every_chart(stored_full):
    numbers = numbers_of(stored_full, date(2026, 3, 2), date(2026, 3, 4))
    assert numbers.window[:2] == (date(2026, 3, 2), date(2026, 3, 2)) and numbers.last_day == date(2026, 3, 2)
    days = {day for name in ("channels", "activity", "lifecycle", "engagement") for day in numbers[name]["day"]}
    assert days == {date(2026, 3, 2)}
    views = "SELECT COALESCE(SUM(persons), 0) FROM funnel_by_day WHERE day = '2026-03-02' AND step = 1"
    assert numbers["funnel"]["persons"][0] == pl.concat(stored_full.ask(views)).item()


def test_an_hour_of_years_ago_does_not_widen_the_window():
    last = date(2026, 3, 12)
    shown = Shown(last, State.WHOLE)
    recent = {last - timedelta(days=n): 100.0 for n in range(10)}
    assert choose_window(shown, recent) == Window(last - timedelta(days=9), last)
    strays = recent | {last - timedelta(days=200): 2.0, last - timedelta(days=4000): 1.0}
    assert choose_window(shown, strays) == Window(last - timedelta(days=9), last, frozenset(), 3)
    season = recent | {last - timedelta(days=200): 500.0}
    assert choose_window(shown, season).first == last - timedelta(days=200)
    years = {last - timedelta(days=n): 1.0 for n in range(800)}
    assert choose_window(shown, years) == Window(last - timedelta(days=364), last, frozenset(), 435)
    assert choose_window(shown, strays, date(2025, 1, 1)).first == date(2025, 1, 1)


def numbers_over(days: int, **answers: pl.DataFrame) -> Numbers:
    """Numbers of a window of so many days up to 31 December 2026."""
    last = date(2026, 12, 31)
    return Numbers("w", "UTC", answers, Shown(last, State.WHOLE), Window(last - timedelta(days=days - 1), last))


def test_a_line_is_broken_where_a_day_has_no_value():
    window = Window(date(2026, 3, 1), date(2026, 3, 5), frozenset({date(2026, 3, 3)}))
    drawn = svg.lines(window, [svg.Series("people", [4, 2, None, 0, 4])], [], "{:,.0f}".format)
    assert re.search(r'class="line s1" d="(.*?)"', drawn)[1] == "M5 8L15 94M35 180L45 8"
    assert '<rect class="gap" x="20" width="10"' in drawn
    assert "<title>Tue 3 Mar 2026: no events</title>" in drawn and "<title>Wed 4 Mar 2026: people 0</title>" in drawn


def test_bars_stand_on_one_another_and_below_the_line():
    window = Window(date(2026, 3, 1), date(2026, 3, 4))
    series = [
        svg.Series(name, values) for name, values in {"a": [3, 0, 0, 0], "b": [1, 0, 0, 2], "c": [-4, 0, 0, 0]}.items()
    ]
    drawn = svg.stacked(window, series, [], "{:,.0f}".format)
    paths = dict(re.findall(r'<path class="(c\d)" d="(.*?)"/>', drawn))
    assert paths == {"c1": "M1 94V29.5h8V94z", "c2": "M1 29.5V8h8V29.5zM31 94V51h8V94z", "c3": "M1 94V180h8V94z"}
    assert "<title>Sun 1 Mar 2026: a 3; b 1; c 4</title>" in drawn


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 7], [0, 2, 4, 6]),
        ([3e9], [0, 1e9, 2e9, 3e9]),
        ([-5, 10], [-5, 0, 5, 10]),
        ([0.02], [0, 0.005, 0.01, 0.015, 0.02]),
    ],
)
def test_a_scale_has_few_round_ticks(values, ticks):
    scale = svg.scale_of(values)
    assert len(scale.ticks) <= 5
    assert [tick for tick in scale.ticks if tick <= max(ticks) * 1.01] == pytest.approx(ticks)


def test_small_cohorts_are_muted_and_no_shade_is_theirs():
    weeks = [date(2026, 11, 2), date(2026, 11, 9)]
    rows = pl.DataFrame(
        [(weeks[0], 0, 200, 200), (weeks[0], 1, 200, 50), (weeks[1], 0, 3, 3), (weeks[1], 1, 3, 3)],
        ["cohort", "n", "cohort_size", "retained_on"],
        orient="row",
    )
    figure = figures_of(page(numbers_over(60, weeks=rows)))["retention"]
    assert '<tr><th scope="row">2 Nov 2026</th><td class="size">200</td><td class="h6">25%</td></tr>' in figure
    assert '<tr class="muted"><th scope="row">9 Nov 2026</th><td class="size">3</td><td>100%</td></tr>' in figure
    assert "Cohorts of fewer than 20 people are muted" in figure
    assert "25.0% returned in a later week, on average." in figure


def test_a_cell_whose_days_are_not_over_is_left_out():
    monday = date(2026, 12, 21)  # its second week ends after 31 December
    rows = pl.DataFrame(
        [(monday - timedelta(days=7), 1, 50, 5), (monday, 0, 50, 50), (monday, 1, 50, 1)],
        ["cohort", "n", "cohort_size", "retained_on"],
        orient="row",
    )
    figure = figures_of(page(numbers_over(60, weeks=rows)))["retention"]
    assert "10%" in figure and "2%" not in figure.partition("<details")[0]


def test_a_campaign_of_few_sessions_is_muted():
    columns = {"day": [date(2026, 12, 31)] * 2, "campaign": ["big", "tiny"]}
    rows = pl.DataFrame(columns | {"sessions": [400, 2], "converted_sessions": [100, 2]})
    figure = figures_of(page(numbers_over(60, campaigns=rows)))["conversion"]
    assert re.search(r'<li><span class="name">big</span>.*25.0% · 100 of 400', figure)
    assert '<li class="muted"><span class="name">tiny</span>' in figure
    assert "the highest is big with 25.0%." in figure


def test_a_year_is_a_page_of_at_most_300_kb():
    days = [date(2026, 12, 31) - timedelta(days=n) for n in range(364, -1, -1)]

    def by_day(**columns) -> pl.DataFrame:
        values = {name: [(n * 7919 + 13 * n * n) % top + 1 for n in range(365)] for name, top in columns.items()}
        return pl.DataFrame({"day": days} | values)

    def each(name: str, kinds: list[str], **columns) -> pl.DataFrame:
        return pl.concat([by_day(**columns).insert_column(1, pl.lit(kind).alias(name)) for kind in kinds])

    mondays = [day for day in days if day.weekday() == 0]
    cells = [(day, n, 5_000, 1_234 - n) for day in mondays for n in range(13)]
    life = dict.fromkeys(["active_persons", *charts.LIFE.values()], 90_000)
    answers = {
        "activity": by_day(dau=90_000, wau=400_000, mau=900_000),
        "lifecycle": by_day(**life),
        "channels": each("kind", [f"channel {n}" for n in range(9)], events=900_000),
        "engagement": by_day(sessions=90_000, engaged_sessions=50_000, bounces=40_000),
        "revenue": each("currency", ["EUR", "USD", "GBP", "JPY"], revenue=9_999_999, orders=999),
        "campaigns": each("campaign", [f"campaign {n}" * 4 for n in range(8)], sessions=99, converted_sessions=9),
        "contents": pl.DataFrame({"content_id": [f"{n}" * 250 for n in range(10)], "views": range(10_000, 10_010)}),
        "weeks": pl.DataFrame(cells, ["cohort", "n", "cohort_size", "retained_on"], orient="row"),
    }
    text = page(numbers_over(365, **answers))
    assert figures_of(text).keys() >= {"people", "lifecycle", "volume", "revenue", "retention", "contents"}
    assert len(text.encode()) <= MOST_BYTES


DAY = date(2026, 3, 2)
AT = datetime(2026, 3, 3, 14, 37, tzinfo=UTC)
BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)


def of_day(**answers: pl.DataFrame) -> Numbers:
    """The numbers of a report of DAY with these answers."""
    return Numbers("w", "UTC", answers, Shown(DAY, State.WHOLE, (AFTER,)), Window(BEFORE, AFTER))


def change(*rows: tuple[date, int]) -> tuple[str, str]:
    [tile] = tiles(of_day(activity=pl.DataFrame(rows, ["day", "dau"], orient="row")))
    return tile.value, tile.change


def test_a_headline_number_is_compared_with_the_day_before_and_no_other():
    assert change((DAY, 1_200), (BEFORE, 1_000)) == ("1,200", "up 200 (20%)")
    assert change((DAY, 1_005), (BEFORE, 1_000)) == ("1,005", "up 5 (0.5%)")
    assert change((DAY, 3), (BEFORE, 4)) == ("3", "down 1 (25%)")
    assert change((DAY, 3), (BEFORE, 3)) == ("3", "as the day before")
    assert change((DAY, 3), (BEFORE, 0)) == ("3", "up 3")
    assert change((DAY, 3), (BEFORE - timedelta(days=1), 9)) == ("3", "no day before")
    assert change((AFTER, 1), (DAY, 3), (BEFORE, 4)) == ("3", "down 1 (25%)")


def test_a_number_that_the_day_has_not_has_no_tile():
    assert tiles(of_day(activity=pl.DataFrame([(BEFORE, 4)], ["day", "dau"], orient="row"))) == []


def test_a_rate_is_compared_with_the_day_before_in_points():
    rows = pl.DataFrame(
        {
            "day": [AFTER, DAY, BEFORE],
            "sessions": [9, 200, 50],
            "engaged_sessions": [0, 150, 40],
            "bounces": [9, 50, 10],
        }
    )
    assert [tuple(tile) for tile in tiles(of_day(engagement=rows))] == [
        ("Sessions", "200", "up 150 (300%)"),
        ("Engagement rate", "75.0%", "down 5.0 points"),
    ]
    assert charts.percent(1, 0) == "none"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (Shown(DAY, State.WHOLE, (), AT), "The last whole day in w: records were received until 3 March 2026, 14:37,"),
        (Shown(DAY, State.IN_PROGRESS, (), AT), "w holds no whole day yet. This day is in progress: records were"),
        (Shown(DAY, State.UNKNOWN), "The newest day in w. No audit count has a received time"),
        (Shown(DAY, State.WHOLE, (), AT, 6), "6 events are dated later and not shown"),
        (Shown(DAY, State.WHOLE, (), AT, 1), "1 event is dated later and not shown"),
        (Shown(DAY, State.WHOLE, (AFTER, AFTER + timedelta(days=1)), AT), "show 3 March and 4 March, in progress."),
    ],
)
def test_the_page_says_which_day_it_shows_and_why(shown, said):
    text = page(Numbers("w", "UTC", {}, shown, Window(DAY, DAY)))
    assert '<p class="day">Monday, 2 March 2026 (UTC), compared with the day before</p>' in text
    assert said in text


@pytest.mark.parametrize(
    ("balance", "minutes", "said"),
    [
        (0, 0, "The counts reconcile: every record is in exactly one place."),
        (3, 2, "3 records are in flight, in 2 open minutes."),
        (3, 0, "3 records are missing or counted twice. Run audience doctor --audit."),
    ],
)
def test_the_audit_counts_say_whether_they_reconcile(balance, minutes, said):
    row = {"source": "web", "records": 10.0, "events": 7.0, "duplicates": 0.0, "quarantined": 0.0, "others": 0.0}
    books = pl.DataFrame([row | {"balance": float(balance), "minutes_in_flight": minutes}])
    assert said in page(Numbers("w", "UTC", {"books": books}))


def test_the_command_writes_a_file_or_prints(tmp_path, capsys):
    warehouse, output = tmp_path / "w", tmp_path / "r.html"
    record = {"event_id": "1", "event_type": "page_view", "event_time": "2026-03-01T10:00:00Z", "user_id": "u"}
    (tmp_path / "e.jsonl").write_text(json.dumps(record) + "\n")
    assert (
        main(["backfill", "--input", str(tmp_path / "e.jsonl"), "--warehouse", str(warehouse), "--workers", "1"]) == 0
    )
    capsys.readouterr()
    assert main(["report", "--warehouse", str(warehouse), "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"{output}: ")
    assert "Sunday, 1 March 2026" in output.read_text()
    assert main(["report", "--warehouse", str(warehouse), "--output", "-"]) == 0
    assert capsys.readouterr().out == output.read_text() + "\n"


@pytest.fixture
def stored(tmp_path):
    """The folder of an empty warehouse, whose report is of a few words."""
    LocalWarehouse.open(tmp_path / "w", create=True)
    return str(tmp_path / "w")


def test_a_report_is_for_its_owner_and_appears_whole_in_the_place_of_another(stored, tmp_path, monkeypatch, capsys):
    output, link = tmp_path / "r.html", tmp_path / "link.html"
    output.write_text("before")
    output.chmod(0o666)
    link.symlink_to(output)
    with output.open() as reader:  # whoever reads it at this moment reads to its end
        assert main(["report", "--warehouse", stored, "--output", str(link)]) == 0
        assert output.read_text().startswith("<!doctype html>") and reader.read() == "before"
    assert output.stat().st_mode & 0o777 == 0o600 and link.is_symlink()

    def full_disk(number):
        raise OSError(28, "No space left on device")

    before, listed = output.read_text(), sorted(os.listdir(tmp_path))
    monkeypatch.setattr("os.fsync", full_disk)
    capsys.readouterr()
    assert main(["report", "--warehouse", stored, "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {output}: No space left on device; ")
    assert output.read_text() == before and sorted(os.listdir(tmp_path)) == listed


def test_a_report_goes_through_a_pipe_by_name_and_through_the_name_of_stdout(stored, tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert main(["report", "--warehouse", stored, "--output", str(pipe)]) == 0
    reader.join(20)
    command = [sys.executable, "-m", "pipelines.cli", "report", "--warehouse", stored, "--output", "/dev/stdout"]
    with (tmp_path / "out.html").open("w") as out:
        subprocess.run(command, stdout=out, check=True, stderr=subprocess.DEVNULL)
    assert read[0].startswith("<!doctype html>") and read[0] == (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--warehouse", "none"], "error: none is no warehouse; "),
        (["--warehouse", "none", "--output", ""], "error: --output: got ''; allowed: a file, or - for stdout"),
        (["--warehouse", "none", "--start", "1 March"], "error: --start: got '1 March'; allowed: a calendar date"),
        (
            ["--warehouse", "none", "--start", "2026-03-02", "--end", "2026-03-02"],
            "error: --start 2026-03-02 is not before --end 2026-03-02: --end is the day after the last one drawn",
        ),
    ],
)
def test_a_mistake_is_one_line(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *argv]) == 2
    told = capsys.readouterr().err
    assert told.startswith(said) or said.removeprefix("error: ") in told
    assert told.count("\n") == 1


def test_days_without_events_are_one_line_with_the_days_there_are(stored_full, tmp_path, capsys):
    output = str(tmp_path / "r.html")
    argv = ["report", "--warehouse", str(stored_full.folder), "--output", output, "--start", "2026-04-01"]
    assert main(argv) == 2
    said = "error: --start 2026-04-01: no events on these days; allowed: days from 2026-03-01 to 2026-03-13\n"
    assert capsys.readouterr().err == said
    assert main([*argv[:-1], "2026-03-02", "--end", "2026-03-03"]) == 0
    assert "Monday, 2 March 2026" in (tmp_path / "r.html").read_text()


def test_the_demo_writes_a_report(stored, tmp_path, capsys):
    path = tmp_path / "report.html"
    write_report(LocalWarehouse.open(stored), path)
    assert path.read_text().startswith("<!doctype html>") and path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr() == (f"\nThe report is {path}: open it in a browser.\n", "")
