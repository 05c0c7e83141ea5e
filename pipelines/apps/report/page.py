"""A report: one HTML page of charts over a warehouse that loads nothing from a network.

The page holds its data, its text and the JavaScript that draws it: Vega-Lite, bundled by vl-convert-python.
"""

from base64 import b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.apps.report import charts
from pipelines.apps.report.definitions import definitions
from pipelines.apps.report.html import (
    books_html,
    definitions_html,
    reasons,
    subject,
    table_html,
    tiles,
    tiles_html,
)
from pipelines.apps.report.queries import RECENT_DAYS, Numbers, numbers_of
from pipelines.version import VERSION
from pipelines.warehouse.interface import Warehouse
from transforms.errors import OptionError


def policy(script: str, style: str) -> str:
    """The page may run this script and use this style, by their hashes, and nothing else: it loads and sends nothing,
    and a script or a style in a value of data has no effect."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class Figure(NamedTuple):
    """A chart of the page: its metric, the question whose rows it draws, and the text if there are none."""

    name: str
    title: str
    metric: str
    question: str
    draw: Callable[[pl.DataFrame], charts.Spec]
    empty: str
    wide: bool = False


NO_PEOPLE = "No event has a person yet."
NO_SESSIONS = "No sessions yet: sessions need events with an anonymous_id or a user_id."
RECENT = f"{RECENT_DAYS} days to {{day}}"
FIGURES = (
    Figure("people", "Active people", "active-people", "activity", charts.people, NO_PEOPLE),
    Figure("lifecycle", "New and returning people", "lifecycle", "lifecycle", charts.lifecycle, NO_PEOPLE),
    Figure("volume", "Events by channel", "volume", "volume", charts.volume, "No events yet."),
    Figure("engagement", "Sessions", "session-engagement", "engagement", charts.engagement, NO_SESSIONS),
    Figure(
        "conversion", f"Conversion by campaign, {RECENT}", "conversion", "campaigns", charts.conversion, NO_SESSIONS
    ),
    Figure("funnel", f"Funnel, {RECENT}", "funnel", "funnel", charts.funnel, "Nobody has taken the first step yet."),
    Figure(
        "retention",
        "Retention by week",
        "retention",
        "weeks",
        partial(charts.retention, unit="week"),
        "No week is over yet.",
        True,
    ),
    Figure(
        "contents",
        "Content leaderboard",
        "content-leaderboard",
        "contents",
        charts.leaderboard,
        "No content was viewed or shown yet.",
    ),
    Figure("segments", "Purchase segments", "rfm-segments", "segments", charts.segments, "No purchases yet."),
)
# Shown until a week is over.
BY_DAY = FIGURES[6]._replace(
    title="Retention by day", question="days", draw=partial(charts.retention, unit="day"), empty=NO_PEOPLE
)


def report(warehouse: Warehouse) -> str:
    """The page over everything in the warehouse."""
    return page(numbers_of(warehouse), program())


def page(numbers: Numbers, script: str) -> str:
    """The page of these numbers, drawn by `script`."""
    shown = [BY_DAY if figure.question == "weeks" and _few_weeks(numbers) else figure for figure in FIGURES]
    specs = {figure.name: _draw(figure, numbers) for figure in shown}
    drawn = {f"chart-{name}": spec for name, spec in specs.items() if spec is not None}
    figures = "".join(_figure(figure, specs[figure.name], numbers) for figure in shown)
    metrics = [*dict.fromkeys(figure.metric for figure in shown), "books"]
    title, counts = escape(definitions()["books"].title), books_html(numbers["books"])
    books = f'<section class="books wide"><h2>{title}</h2>{_sentence("books")}{counts}</section>'
    style = (files("templates") / "report/page.css").read_text(encoding="utf-8")
    parts = {
        "title": escape(f"Audience report: {numbers.warehouse}"),
        "policy": policy(script, style),
        "style": style,
        "subject": escape(subject(numbers)),
        "reasons": escape(" ".join(reasons(numbers))),
        "tiles": tiles_html(tiles(numbers)),
        "figures": figures + books,
        "definitions": definitions_html(metrics),
        "version": escape(VERSION),
        "charts": in_script(msgspec.json.encode(drawn).decode()),
        "script": script,
    }
    text = (files("templates") / "report/page.html").read_text(encoding="utf-8")
    head, *rest = text.split("{{")
    return head + "".join(parts[name] + after for name, _, after in (part.partition("}}") for part in rest))


def program() -> str:
    """The JavaScript of the page: Vega-Lite and templates/report/page.js. Raises OptionError if it is not installed."""
    try:
        import vl_convert
    except ImportError:
        raise OptionError(
            "report: vl-convert-python, which draws the charts, is not installed; "
            "install it: pip install 'audience-insights[report]'"
        ) from None
    source = (files("templates") / "report/page.js").read_text(encoding="utf-8")
    return vl_convert.javascript_bundle(source).replace("</script", "<\\/script")


def in_script(text: str) -> str:
    """JSON that cannot end a <script>, whatever texts it holds."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _few_weeks(numbers: Numbers) -> bool:
    weeks = numbers["weeks"]
    return weeks.is_empty() or weeks["n"].max() == 0


def _draw(figure: Figure, numbers: Numbers) -> charts.Spec | None:
    """The chart; None if its rows say nothing."""
    rows = numbers[figure.question]
    if rows.is_empty():
        return None
    if figure.question == "contents" and rows["overall_engagement_rate"][0] is None:
        return None if rows["overall_click_through_rate"][0] is None else figure.draw(rows)
    spec = figure.draw(rows)
    if "day" in rows.columns and numbers.shown:
        days = rows["day"].unique().to_list()
        return charts.mark_in_progress(spec, sorted(day for day in numbers.shown.in_progress if day in days))
    return spec


def _sentence(metric: str) -> str:
    known = definitions()[metric]
    return f'<p>{escape(known.sentence)} See <a href="#{metric}">{escape(known.title)}</a>.</p>'


def _figure(figure: Figure, spec: charts.Spec | None, numbers: Numbers) -> str:
    wide = ' class="wide"' if figure.wide else ""
    if spec is None:
        body = f'<p class="empty">{escape(figure.empty)}</p>'
    else:
        body = f'<div class="chart" id="chart-{figure.name}"></div>{table_html(numbers[figure.question])}'
    title = figure.title.format(day=f"{numbers.last_day:%-d %B}" if numbers.last_day else "the last one")
    return (
        f'<figure{wide} aria-labelledby="{figure.name}-title"><figcaption><h2 id="{figure.name}-title">'
        f"{escape(title)}</h2>{_sentence(figure.metric)}</figcaption>{body}</figure>"
    )
