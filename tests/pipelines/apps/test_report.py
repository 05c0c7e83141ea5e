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
from html.parser import HTMLParser

import polars as pl
import pytest

from pipelines.apps.demo.files import write_report
from pipelines.apps.report import charts
from pipelines.apps.report.charts import percent
from pipelines.apps.report.days import Shown, State
from pipelines.apps.report.definitions import definitions
from pipelines.apps.report.html import tiles
from pipelines.apps.report.page import FIGURES, page, program
from pipelines.apps.report.queries import QUESTIONS, Numbers, numbers_of, trim
from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, SESSIONS
from pipelines.warehouse.tables import QUALITY_1M as QUALITY
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
from tests.servers.needed import wait_until

HOSTILE = "</script ><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LONG = "x" * 250
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SCREENS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def script() -> str:
    return program()


def books(source: str, day: int = 12, hour: int = 23, **counts) -> dict:
    """A row of the audit counts, of a closed minute."""
    row = {"bucket_start": at(day, hour), "bucket_end": at(day, hour, 1), "source": source, "input": "f"}
    row |= {"firing": "on_time"}
    return row | {"generation": 1, "revision": 1} | counts


TODAY = books("web", 13, 9, received=3, events=3)


@pytest.fixture(scope="module")
def stored_full(tmp_path_factory):
    """A warehouse in which every chart has rows, some with markup in names; its last whole day is 12 March."""
    folder = tmp_path_factory.mktemp("full") / ("w" * 150)
    warehouse = LocalWarehouse.open(folder, time_zone="Europe/Berlin", create=True)
    hostile = [content(10, HOSTILE, 50, 20, 30), content(10, LONG, 50, 20, 30)]
    visits = [visit("h", at(2), HOSTILE, HOSTILE, "a", "u", 60), visit("l", at(2), "web", LONG, "b", "u", 60)]
    channels = [
        {"bucket_start": at(day), "bucket_end": at(day, 12, 1), "channel": channel, "event_type": "page_view"}
        | {"events": 7 * day, "generation": 1, "revision": 1, "firing": "on_time"}
        for day in (1, 2, 12, 13)
        for channel in ("web", "mobile", HOSTILE, None)
    ]
    write(
        warehouse,
        (METRICS["user_days"], USER_DAYS),
        (SESSIONS, VISITS + visits),
        (EVENTS, [*FUNNEL, *PURCHASES]),
        (METRICS["content_1h"], CONTENTS + hostile),
        (METRICS["activity_1m"], channels),
        (QUALITY, [books("web", received=9, events=8, quarantined=1), books(HOSTILE, received=2, events=2), TODAY]),
    )
    return warehouse


@pytest.fixture(scope="module")
def full(stored_full, script, tmp_path_factory):
    """The file of its report."""
    return written(numbers_of(stored_full), script, tmp_path_factory)


@pytest.fixture(scope="module")
def bare(tmp_path_factory, script):
    """The file of a report over a warehouse without a row."""
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("bare") / "w", create=True)
    write(warehouse)
    return written(numbers_of(warehouse), script, tmp_path_factory)


def written(numbers: Numbers, script: str, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(numbers, script), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser):
    """opened(path, width, height, scheme) -> the page once it is drawn; at the end that nothing was said or asked."""
    contexts, heard = [], []

    def opens(path, size: tuple[int, int] = (1280, 900), scheme: str = "light"):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        found = context.new_page()
        found.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        found.on("pageerror", lambda error: heard.append(f"error: {error}"))
        found.on("request", lambda request: heard.append(request.url) if request.url != f"file://{path}" else None)
        found.goto(f"file://{path}")
        found.wait_for_selector("html[data-drawn]")
        return found

    yield opens
    for context in contexts:
        context.close()
    assert heard == []


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_screen(size, scheme, full, opened):
    shown = opened(full, SIZES[size], scheme)
    drawn = shown.evaluate(
        "[...document.querySelectorAll('.chart')].map(e => [e.id, e.querySelectorAll('svg').length])"
    )
    assert drawn == [[f"chart-{figure.name}", 1] for figure in FIGURES]
    marks = "e.querySelectorAll('.mark-rect path, .mark-line path').length"
    assert min(shown.evaluate(f"[...document.querySelectorAll('.chart svg')].map(e => {marks})")) > 0
    shown.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    wide = (
        "[...document.querySelectorAll('body, .chart svg, .tile, figure, p')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(shown.evaluate(wide)) <= SIZES[size][0]
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert shown.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]


def test_a_chart_is_told_in_words_and_its_numbers_are_there(full, opened):
    shown = opened(full)
    told = shown.evaluate("[...document.querySelectorAll('.chart')].map(e => e.ariaLabel)")
    assert len(told) == len(FIGURES) and all(text.endswith(".") for text in told)
    assert "Funnel: page_view 8, add_to_cart 6, purchase 1 people." in told
    assert shown.locator("figure details.rows table").count() == len(FIGURES)
    named = (
        "[...document.querySelectorAll('figure')].map(e => document.getElementById(e.getAttribute('aria-labelledby')))"
    )
    assert shown.evaluate(f"{named}.every(e => e && e.tagName === 'H2')")


def test_the_colours_follow_the_scheme_of_the_reader(full, opened):
    shown = opened(full)
    bar = "getComputedStyle(document.querySelector('#chart-segments .mark-rect path')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = shown.evaluate(bar), shown.evaluate(paper)
    shown.emulate_media(color_scheme="dark")
    wait_until(lambda: shown.evaluate(bar) != light[0], what="the bars in another colour")
    assert shown.evaluate(paper) != light[1]


def test_a_chart_leads_to_its_definition_which_opens(full, opened):
    shown = opened(full)
    links = shown.locator("figcaption a, .books > p a")
    assert links.count() == len(FIGURES) + 1
    for name in {figure.metric for figure in FIGURES} | {"books"}:
        shown.locator(f'figcaption a[href="#{name}"], .books a[href="#{name}"]').first.click()
        wait_until(lambda name=name: shown.evaluate(f"document.getElementById('{name}').open"), what=name)
        assert definitions()[name].title in shown.locator(f"#{name} summary").inner_text()
        assert f"docs/metrics/{name}.md" in shown.locator(f"#{name}").inner_text()


def test_what_comes_from_data_is_text(full, opened):
    shown = opened(full)
    assert shown.title().startswith("Audience report: ")
    assert shown.locator("body img").count() == 0
    assert shown.evaluate("document.querySelectorAll('script').length") == 2
    assert HOSTILE in shown.locator(".books td").all_inner_texts()
    cells = shown.locator("figure td").all_text_contents()
    assert cells.count(HOSTILE) >= 3
    assert LONG in cells


def test_markup_that_an_escape_forgot_would_neither_run_nor_be_styled(full, tmp_path, browser):
    forgotten = "<script>document.title = 'owned'</script><style>#told { color: red }</style>"
    forgotten += "<p id=told style='position: fixed'></p>"
    path = tmp_path / "report.html"
    path.write_text(full.read_text(encoding="utf-8").replace("<main>", forgotten + "<main>"), encoding="utf-8")
    shown = browser.new_page()
    shown.goto(f"file://{path}")
    shown.wait_for_selector("html[data-drawn]")
    assert shown.title().startswith("Audience report: ")
    told = "getComputedStyle(document.getElementById('told'))"
    assert shown.evaluate(f"[{told}.position, {told}.color]") == ["static", "rgb(34, 37, 43)"]
    shown.close()


def test_a_tooltip_is_drawn_in_the_colours_of_the_page(full, opened):
    shown = opened(full)
    shown.locator("#chart-segments .mark-rect path").first.hover()
    tooltip = shown.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "Buyers" in tooltip.inner_text()
    assert tooltip.evaluate("e => getComputedStyle(e).position") == "fixed"


def test_an_empty_warehouse_says_so_in_words(bare, opened):
    shown = opened(bare, SIZES["phone"])
    assert shown.locator(".chart").count() == shown.locator(".tile").count() == 0
    said = shown.locator(".empty").all_inner_texts()
    assert len(said) == len(FIGURES) + 1 and all(text.endswith(".") for text in said)
    assert "holds no day yet" in shown.locator("header").inner_text()


class _Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_holds_all_it_needs_and_forbids_the_rest(full):
    text = full.read_text(encoding="utf-8")
    reader = _Tags()
    reader.feed(text)
    sources = [each.get("src") or each.get("href") for _, each in reader.tags if "src" in each or "href" in each]
    assert all(source.startswith(("#", "data:")) for source in sources)
    [policy] = [dict(each)["content"] for _, each in reader.tags if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    inline = {"script-src": '<script type="module">(.*?)</script>', "style-src": "<style>(.*?)</style>"}
    for name, element in inline.items():
        [found] = re.findall(element, text, re.DOTALL)
        assert rules.pop(name) == f"'sha256-{b64encode(sha256(found.encode()).digest()).decode()}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert "{{" not in text.partition('<script type="module">')[0]
    assert len(text.encode()) < 2_000_000


def test_a_day_in_progress_is_marked_and_not_the_one_shown(full, opened):
    shown = opened(full)
    head = shown.locator("header").inner_text()
    assert "Thursday, 12 March 2026 (Europe/Berlin)" in head
    assert "until 13 March 2026, 09:01" in head and "also show 13 March, in progress." in head
    assert shown.evaluate("document.getElementById('chart-volume').ariaLabel").endswith(" In progress: 2026-03-13.")
    marked = (
        "[...document.querySelectorAll('.chart')].filter(e => e.textContent.includes('in progress')).map(e => e.id)"
    )
    assert shown.evaluate(marked) == ["chart-volume"]  # nothing else has a row of that day


def test_all_tiles_are_of_one_day_and_have_the_numbers_of_the_views(stored_full):
    def ask(sql: str) -> float:
        return float(pl.concat(stored_full.ask(sql)).item())

    day = "WHERE day = '2026-03-12'"
    assert {tile.name: tile.value for tile in tiles(numbers_of(stored_full))} == {
        "Active people": f"{ask(f'SELECT dau FROM activity_by_day {day}'):,.0f}",
        "New people": f"{ask(f'SELECT new_persons FROM lifecycle_by_day {day}'):,.0f}",
        "Events": f"{ask(f'SELECT SUM(events) FROM engagement_by_channel {day}'):,.0f}",
    }  # no session began on that day


def test_a_chart_spans_the_days_that_have_data(stored_full):
    numbers = numbers_of(stored_full)
    spans = {name: (numbers[name]["day"].min().day, numbers[name]["day"].max().day) for name in ("activity", "volume")}
    assert spans == {"activity": (1, 12), "volume": (1, 13)}
    assert numbers["activity"].filter(pl.col("dau") == 0)["day"].dt.day().to_list() == [12, 11, 9, 7, 6, 4]  # holes
    axis = charts.volume(numbers["volume"])["encoding"]["x"]
    assert [(end["month"], end["date"]) for end in axis["scale"]["domain"]] == [(3, 1), (3, 14)]
    last = numbers["activity"].filter(pl.col("day") > date(2026, 3, 8)).with_columns(pl.lit(0).alias("mau"))
    empty = last.with_columns(pl.when(pl.col("day").dt.day() == 10).then("dau").otherwise(0), pl.lit(0).alias("wau"))
    assert trim(empty, date(2026, 3, 11))["day"].dt.day().to_list() == [11, 10]


DAY = date(2026, 3, 2)
AT = datetime(2026, 3, 3, 14, 37, tzinfo=UTC)
BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)


def of_day(**answers: pl.DataFrame) -> Numbers:
    """The numbers of a report of DAY with these answers."""
    empty = {name: pl.DataFrame() for name in QUESTIONS}
    return Numbers("w", "UTC", empty | answers, Shown(DAY, State.WHOLE, (AFTER,)))


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
    assert percent(1, 0) == "none"


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
    text = page(Numbers("w", "UTC", {name: pl.DataFrame() for name in QUESTIONS}, shown), "")
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
    answers = {name: pl.DataFrame() for name in QUESTIONS} | {"books": books}
    assert said in page(Numbers("w", "UTC", answers), "")


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
    ],
)
def test_a_mistake_is_one_line(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *argv]) == 2
    told = capsys.readouterr().err
    assert told.startswith(said) or said.removeprefix("error: ") in told
    assert told.count("\n") == 1


def test_the_demo_writes_a_report_or_says_in_a_line_what_it_lacks(stored, tmp_path, monkeypatch, capsys):
    warehouse, path = LocalWarehouse.open(stored), tmp_path / "report.html"
    write_report(warehouse, path)
    assert path.read_text().startswith("<!doctype html>") and path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr() == (f"\nThe report is {path}: open it in a browser.\n", "")
    path.unlink()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    write_report(warehouse, path)
    lacks = "\nno report: vl-convert-python, which draws the charts, is not installed; install it: "
    assert capsys.readouterr() == ("", lacks + "pip install 'audience-insights[report]'\n")
    assert not path.exists()


def test_without_what_draws_the_error_says_what_to_install(tmp_path, monkeypatch, capsys):
    LocalWarehouse.open(tmp_path / "w", create=True)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["report", "--warehouse", str(tmp_path / "w"), "--output", str(tmp_path / "r.html")]) == 2
    assert "install it: pip install 'audience-insights[report]'" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
