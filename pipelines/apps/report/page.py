"""A report: one HTML page of charts over a warehouse that loads nothing from a network and runs no script."""

from base64 import b64encode
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import NamedTuple

from pipelines.apps.report import charts, insight
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
from pipelines.apps.report.queries import Numbers, numbers_of
from pipelines.version import VERSION
from pipelines.warehouse.interface import Warehouse

Draw = Callable[[Numbers], charts.Drawing | None]


def policy(style: str) -> str:
    """The page may use this style, by its hash, and nothing else: it runs, loads and sends nothing, and a script or a
    style in a value of data has no effect."""
    return f"default-src 'none'; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class Figure(NamedTuple):
    """A chart of the page: its metric, and what draws it, or None where the data says nothing of it."""

    name: str
    title: str
    metric: str
    draw: Draw
    wide: bool = False
    sentence: str = ""  # in place of the metric's


REVENUE = "The value of the purchases of a day, in each currency; refunds are not taken off."
ATTRIBUTION = (
    "The campaigns that the purchases of the last 28 days are attributed to, each purchase once in each model."
)
FIGURES = (
    Figure("alerts", "Open alerts", "alerts", insight.alerts, True),
    Figure("people", "Active people", "active-people", charts.people),
    Figure("lifecycle", "New and returning people", "lifecycle", charts.lifecycle),
    Figure("volume", "Events", "volume", charts.volume),
    Figure("forecast", "Events, forecast", "forecasts", insight.forecast),
    Figure("engagement", "Sessions", "session-engagement", charts.engagement),
    Figure("revenue", "Revenue", "revenue", charts.revenue, sentence=REVENUE),
    Figure("contents", "Top contents", "content-engagement", charts.contents),
    Figure("funnel", "Funnel", "funnel", charts.funnel),
    Figure("conversion", "Conversion by campaign", "conversion", charts.conversion),
    Figure("attribution", "Attribution of purchases", "attribution", charts.attribution, sentence=ATTRIBUTION),
    Figure("segments", "Purchase segments", "rfm-segments", charts.segments),
    Figure("trends", "Rising and falling", "trends", insight.trends),
    Figure("anomalies", "Anomalies", "anomalies", insight.anomalies),
    Figure("sentiment", "Sentiment of texts", "feedback", insight.sentiment),
    Figure("scores", "Satisfaction", "satisfaction", insight.scores),
    Figure("retention", "Retention by week", "retention", charts.retention_by_week, True),
    Figure("retention-days", "Retention by day", "retention", charts.retention_by_day, True),
)


def report(warehouse: Warehouse, start: date | None = None, end: date | None = None) -> str:
    """The page over a warehouse: of the last year of it, or of the days from `start` to before `end`."""
    return page(numbers_of(warehouse, start, end, insight.INSIGHT))


def page(numbers: Numbers) -> str:
    """The page of these numbers."""
    drawn = [(figure, drawing) for figure in FIGURES if (drawing := figure.draw(numbers)) is not None]
    narrow = [figure for figure, _ in drawn if not figure.wide]
    alone = narrow[-1] if len(narrow) % 2 else None  # in the last row of two columns
    figures = "".join(
        _figure(figure._replace(wide=figure.wide or figure is alone), drawing) for figure, drawing in drawn
    )
    if not drawn:
        figures = '<p class="empty wide">No event was accepted yet.</p>'
    metrics = [*dict.fromkeys(figure.metric for figure, _ in drawn), "books"]
    title, counts = escape(definitions()["books"].title), books_html(numbers["books"])
    books = f'<section class="books wide"><h2>{title}</h2>{_sentence("books")}{counts}</section>'
    style = (files("templates") / "report/page.css").read_text(encoding="utf-8")
    parts = {
        "title": escape(f"Audience report: {numbers.warehouse}"),
        "policy": policy(style),
        "style": style,
        "subject": escape(subject(numbers)),
        "reasons": escape(" ".join(reasons(numbers))),
        "tiles": tiles_html(tiles(numbers)),
        "figures": figures + books,
        "definitions": definitions_html(metrics),
        "version": escape(VERSION),
    }
    text = (files("templates") / "report/page.html").read_text(encoding="utf-8")
    head, *rest = text.split("{{")
    return head + "".join(parts[name] + after for name, _, after in (part.partition("}}") for part in rest))


def _sentence(metric: str, own: str = "") -> str:
    known = definitions()[metric]
    return f'<p>{escape(own or known.sentence)} See <a href="#{metric}">{escape(known.title)}</a>.</p>'


def _figure(figure: Figure, drawing: charts.Drawing) -> str:
    wide = ' class="wide"' if figure.wide else ""
    said = _sentence(figure.metric, figure.sentence)
    note = f'<p class="note">{escape(drawing.note)}</p>' if drawing.note else ""
    return (
        f'<figure{wide} id="{figure.name}-figure" aria-labelledby="{figure.name}-title"><figcaption>'
        f'<h2 id="{figure.name}-title">{escape(figure.title)}</h2>{said}</figcaption>'
        f'<div class="chart" id="chart-{figure.name}" role="group" aria-label="{escape(drawing.text)}">'
        f"{drawing.html}</div>{note}{table_html(drawing.rows)}</figure>"
    )
