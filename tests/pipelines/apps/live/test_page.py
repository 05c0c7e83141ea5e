"""The page in a browser: every number read off it and found by SQL, and how it is for a person."""

import json
import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.apps.live.answers import expected_answers, fill_answers
from tests.pipelines.apps.live.rows import AT, CANARIES, HOSTILE, ZONE, events, expected, fill
from tests.pipelines.apps.live.test_tick import plain
from tests.pipelines.warehouse.test_metric_views import write
from tests.servers.live import serving

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SCREENS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
# The page is about the second after the newest event, as the rows are of a day long ago.
SHOWN = (max(row["event_time"] for row in events(AT)) + timedelta(seconds=1)).replace(microsecond=0)
NOTHING = "\N{EN DASH}"
ABSENT = {NOTHING, "", "0", "(none)", "(no channel)", "(no content)", "all channels", "whole record"}
OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true })"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("page") / "w", ZONE, create=True)
    fill(warehouse)
    fill_answers(warehouse, AT)
    return warehouse


@pytest.fixture(scope="module")
def right(stored):
    found = expected(stored, SHOWN) | expected_answers(stored, SHOWN)
    return {key: plain(value) for key, value in found.items()}


@pytest.fixture(scope="module")
def server(stored, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("said"), "--warehouse", str(stored.folder), "--every", "0.2") as made:
        yield made


@pytest.fixture
def opened(browser):
    """opened(server) -> the page, live; at the end that nothing was said, and nothing asked of elsewhere."""
    contexts, heard = [], []

    def opens(server, size: str = "desk", scheme: str = "light", fragment: str = "", **further):
        viewport = dict(zip(("width", "height"), SIZES[size], strict=True))
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **further)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda asked: heard.append(asked.url) if not asked.url.startswith(server.url) else None)
        page.goto(server.url + fragment)
        page.wait_for_selector('#status[data-state="live"]')
        page.wait_for_selector("[data-question=now] data[value]")
        return page

    yield opens
    for context in contexts:
        context.close()
    assert heard == []


def shown_numbers(page) -> dict[str, str]:
    page.evaluate("document.querySelectorAll('.body details').forEach(each => { each.open = true })")
    expect(page.locator(".chart tbody tr")).to_have_count(120)
    expect(page.locator("[data-question=forecast] tbody tr")).to_have_count(72)
    found = """[...document.querySelectorAll('[data-key]')].map(
        e => [e.dataset.key, e.value ?? e.textContent, e.textContent])"""
    return {key: (value, text) for key, value, text in page.evaluate(found)}


def texts_of(key: str, value: float, found: float) -> set[str]:
    """What a person may read for a number."""
    if key.endswith((".begun", ".since")):
        return {f"{datetime.fromtimestamp(value, ZoneInfo(ZONE)):%-d %b %H:%M}"}
    if key.endswith(".growth"):
        return {f"\N{MULTIPLICATION SIGN}{value:.1f}"}
    numbers = {f"{found:,}", f"{value:,.2f}", f"{value:,.2f}".rstrip("0").rstrip(".")}
    shares = {f"{100 * value:.1f}".removesuffix(".0") + "%"} if key.startswith("scores.") else set()
    return numbers | shares


def test_every_number_on_the_page_is_found_by_sql(right, stored, server, opened):
    page = opened(server)
    numbers = shown_numbers(page)
    assert "now.people" in numbers and "books.balance" in numbers and len(numbers) > 600
    assert {"trends.0.events", "anomalies.0.lower", "sentiment.0.all_texts", "scores.0.low"} <= numbers.keys()
    wrong = {}
    for key, (value, text) in numbers.items():
        if key.startswith("funnel.") or key.endswith(".pace"):
            continue  # below: by the view, and by the two numbers beside it
        found = right.get(key)
        if found is None:
            is_right = text in ABSENT
        elif isinstance(found, str):
            is_right = text == found
        else:
            is_right = round(float(value), 3) == found and text in texts_of(key, float(value), found)
        if not is_right:
            wrong[key] = value, text, found
    assert wrong == {}
    day = SHOWN.astimezone(ZoneInfo(ZONE)).date()
    sql = f"SELECT persons FROM funnel_by_day WHERE day = '{day}' ORDER BY step"
    people = [row[0] for row in stored.connect().execute(sql).fetchall()]
    assert [float(numbers[f"funnel.{step}.people"][0]) for step in range(3)] == people and people[0] > 0
    paces = [key for key in numbers if key.endswith(".pace") and numbers[key][1] != NOTHING]
    assert paces
    for key in paces:
        row, minutes = key.rpartition(".")[0], max(1.0, SHOWN.minute + SHOWN.second / 60)
        new, old, share = (
            (right[f"{row}.views"], right[f"{row}.views_before"], minutes / 60)
            if row.startswith("contents")
            else (right[f"{row}.last_hour"], right[f"{row}.hour_before"], 1)
        )
        assert float(numbers[key][0]) == pytest.approx(new / share / old, abs=0.006)


def test_every_rate_is_the_part_of_the_whole(right, server, opened):
    page = opened(server)
    rates = page.evaluate("[...document.querySelectorAll('[data-rate]')].map(e => [e.dataset.rate, e.textContent])")
    compared = 0
    for rate, text in rates:
        part, whole = (right.get(key) for key in rate.split("/"))
        if whole:
            compared += 1
            assert float(text.rstrip("%")) == pytest.approx(100 * (part or 0) / whole, abs=0.051)
    assert compared > 8


def test_a_commit_is_on_the_open_page_and_only_what_changed_is_drawn(tmp_path, opened):
    warehouse = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    write(warehouse, (EVENTS, events(AT, 0, 9)))
    with serving(tmp_path, "--warehouse", str(warehouse.folder), "--every", "0.2") as server:
        page = opened(server)
        before = page.locator('[data-key="now.people"]').text_content()
        quiet = page.evaluate_handle("document.querySelector('[data-question=quarantine] .body').firstChild")
        write(warehouse, (EVENTS, events(AT + timedelta(minutes=1), 0, 30, seed=3)))
        expect(page.locator('[data-key="now.people"]')).not_to_have_text(before)
        people = len({row["user_id"] for row in _recent(warehouse)})
        assert page.locator('[data-key="now.people"]').text_content() == str(people)
        assert quiet.evaluate("e => e.isConnected")
        page.context.close()  # before its server ends, which it would report


def _recent(warehouse) -> list[dict]:
    rows = warehouse.answer("SELECT * FROM events").frame().rows(named=True)
    first = max(row["event_time"] for row in rows).replace(microsecond=0) - timedelta(minutes=5) + timedelta(seconds=1)
    return [row for row in rows if row["event_time"] >= first and not row["is_bot"]]


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_nothing_is_wider_than_the_screen_and_every_text_has_contrast(size, scheme, server, opened):
    page = opened(server, size, scheme)
    page.evaluate(OPEN_ALL)
    expect(page.locator(".chart tbody tr")).to_have_count(120)
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    contrast = """() => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const lum = (c) => { const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = (e) => { for (; e; e = e.parentElement) {
            const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
            return [255, 255, 255]; };
        document.getAnimations().forEach(each => each.finish());
        const tags = 'p, h1, h2, dt, dd, td, th, span, data, time, li, summary, a, pre, button';
        const texts = [...document.querySelectorAll(tags)];
        return Math.min(...texts.filter(e => e.textContent.trim() && e.checkVisibility()).map(e => {
            const [a, b] = [lum(rgb(getComputedStyle(e).color)), lum(behind(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); }"""
    assert page.evaluate(contrast) >= 4.5


def names_of(page, question: str) -> list[str]:
    return page.locator(f"[data-question={question}] .name span[data-key]").all_inner_texts()


def test_names_of_the_data_are_text_and_nothing_personal_is_on_the_page(server, opened):
    page = opened(server)
    page.evaluate(OPEN_ALL)
    assert page.title().endswith("Audience live") and page.locator("body img").count() == 0
    assert page.locator("script").count() == 2
    assert {"contents", "campaigns", "channels"} == {
        name for name in ("contents", "campaigns", "channels") if HOSTILE in names_of(page, name)
    }
    everything = page.evaluate("document.documentElement.outerHTML")
    assert [canary for canary in CANARIES if canary in everything] == []


def test_each_card_says_how_fresh_it_is_and_what_it_means(server, opened):
    page = opened(server, permissions=["clipboard-read", "clipboard-write"])
    cards = page.locator("[data-question]").all()
    assert len(cards) == 19
    for card in cards:
        assert re.match(r"asked \d+ s ago( · (newest row|as of) .+ ago)?", card.locator(".fresh").inner_text())
        card.locator(".how summary").click()
        assert "docs/metrics/" in card.locator(".how").inner_text()
        expect(card.locator("pre")).to_contain_text("WITH ")
        assert not re.search(r"[@$][a-z]", card.locator("pre").inner_text())
    card = page.locator("[data-question=engagement]")
    card.locator("button").click()
    expect(card.locator("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == card.locator("pre").text_content()
    assert page.locator("[data-question=minutes] .fresh").inner_text().endswith("2 minutes still open")


def test_the_copied_sql_gives_the_number_of_the_page(stored, server, opened):
    page = opened(server)
    for name, number in (("now", "people"), ("engagement", "visitors"), ("books", "received")):
        card = page.locator(f"[data-question={name}]")
        card.locator(".how summary").click()
        expect(card.locator("pre")).to_contain_text("WITH ")
        rows = stored.answer(card.locator("pre").inner_text()).frame()
        assert str(int(rows[number][0])) == page.locator(f'[data-key="{name}.{number}"]').get_attribute("value")


def test_the_page_is_read_without_a_mouse_or_a_screen(server, opened):
    page = opened(server)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert "people active now" in page.locator("#spoken").inner_text()
    for chart in page.locator(".chart .plot").all():
        assert chart.get_attribute("role") == "img" and "60 minutes" in chart.get_attribute("aria-label")
    ahead = page.locator("[data-question=forecast] .plot")
    assert ahead.get_attribute("role") == "img" and "next 48 hours" in ahead.get_attribute("aria-label")
    named = "e => document.getElementById(e.getAttribute('aria-labelledby'))?.tagName"
    assert {section.evaluate(named) for section in page.locator("section").all()} == {"H2"}


def test_a_reader_may_stop_what_moves(server, opened):
    page = opened(server, reduced_motion="reduce")
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#status").inner_text() == "Paused"
    page.get_by_role("button", name="Resume").click()
    assert page.locator("#status").inner_text() == "Live"
    page.evaluate("document.querySelector('data').classList.add('changed')")
    assert page.evaluate("getComputedStyle(document.querySelector('data.changed')).animationName") == "none"


def test_without_the_server_the_numbers_stay_and_the_page_comes_back(stored, tmp_path, browser):
    context = browser.new_context()
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(f"{error}"))
    with serving(tmp_path, "--warehouse", str(stored.folder)) as server:
        page.goto(server.url)
        page.wait_for_selector("[data-question=now] data[value]")
        people = page.locator('[data-key="now.people"]').text_content()
        context.set_offline(True)
        server.end()
        page.wait_for_selector('#status[data-state="again"]')
        assert page.locator('[data-key="now.people"]').text_content() == people
    context.close()
    assert errors == []


def test_a_link_opens_the_page_and_one_that_has_ended_says_so(stored, tmp_path, opened, browser):
    from pipelines.apps.live.links import add_link

    links = tmp_path / "links.json"
    token, _ = add_link(links, "board", timedelta(days=1))
    with serving(tmp_path, "--warehouse", str(stored.folder), "--links", str(links)) as server:
        page = opened(server, fragment=f"#{token}")
        assert int(page.locator('[data-key="now.people"]').get_attribute("value")) > 0
        assert json.loads(links.read_text())["links"][0]["name"] == "board"
        other = browser.new_page()
        other.goto(server.url + "#al_wrong")
        other.wait_for_selector('#status[data-state="ended"]')
        assert "the link is unknown or has ended" in other.locator("#status").inner_text()
        assert other.locator("data[value]").count() == 0
        other.close()
        assert token not in server.said()
        page.context.close()
