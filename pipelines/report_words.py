"""The words of a report: headline numbers, tables and definitions, as HTML; what comes from data is only text in it."""

import re
from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import polars as pl

from pipelines.report_data import Numbers
from pipelines.report_definitions import Definition, definitions

TABLE_ROWS = 60
SOURCES = 8  # rows of the books that are shown; the others are one more


class Tile(NamedTuple):
    """A headline number, and what it was the day before."""

    name: str
    value: str
    change: str


def tiles(numbers: Numbers) -> list[Tile]:
    """The headline numbers that the warehouse has."""
    found = [
        _count("Active people", numbers["activity"], "dau"),
        _count("New people", numbers["lifecycle"], "new_persons"),
        _count("Sessions", numbers["engagement"], "sessions"),
        _rate("Engagement rate", numbers["engagement"], "engaged_sessions"),
        _rate("Conversion rate", numbers["converted"], "converted_sessions"),
        _count("Events", _totals(numbers["volume"]), "events"),
    ]
    return [tile for tile in found if tile]


def _totals(volume: pl.DataFrame) -> pl.DataFrame:
    if volume.is_empty():
        return volume
    return volume.group_by("day").agg(pl.col("events").sum()).sort("day", descending=True)


def _count(name: str, rows: pl.DataFrame, column: str) -> Tile | None:
    """A count of the newest row, and by how much it is above that of the day before."""
    if rows.is_empty():
        return None
    now, before = rows[column][0], _of_the_day_before(rows, column)
    change = "no day before"
    if before is not None:
        share = f" ({abs(now - before) / before:.0%})" if before else ""
        change = (
            "as the day before"
            if now == before
            else f"{'up' if now > before else 'down'} {abs(now - before):,.0f}{share}"
        )
    return Tile(name, f"{now:,.0f}", change)


def _rate(name: str, rows: pl.DataFrame, part: str) -> Tile | None:
    """A share of the sessions of the newest row, and by how many points it is above that of the day before."""
    if rows.is_empty():
        return None
    rows = rows.with_columns((pl.col(part) / pl.col("sessions")).alias("rate"))
    now, before = rows["rate"][0], _of_the_day_before(rows, "rate")
    if before is None:
        return Tile(name, f"{now:.1%}", "no day before")
    points = 100 * (now - before)
    same = abs(points) < 0.05
    change = "as the day before" if same else f"{'up' if points > 0 else 'down'} {abs(points):.1f} points"
    return Tile(name, f"{now:.1%}", change)


def _of_the_day_before(rows: pl.DataFrame, column: str) -> Any:
    """The value one day before the newest row; None where there is no such row."""
    day = rows["day"][0]
    found = rows.filter(pl.col("day") == pl.lit(day).dt.offset_by("-1d"))[column]
    return found[0] if len(found) else None


def tiles_html(shown: Iterable[Tile]) -> str:
    """The row of headline numbers."""
    return "".join(
        f'<div class="tile"><dt>{escape(tile.name)}</dt><dd class="value">{escape(tile.value)}</dd>'
        f'<dd class="change">{escape(tile.change)}</dd></div>'
        for tile in shown
    )


def table_html(rows: pl.DataFrame) -> str:
    """The rows of a chart for who reads numbers, folded away."""
    more = f"<p>The first {TABLE_ROWS} of {rows.height:,} rows.</p>" if rows.height > TABLE_ROWS else ""
    return (
        f'<details class="rows"><summary>Numbers</summary><div class="scroll">{_table(rows.head(TABLE_ROWS))}</div>'
        f"{more}</details>"
    )


def _table(rows: pl.DataFrame) -> str:
    names = [escape(name.replace("_", " ")) for name in rows.columns]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td data-name="{name}">{_cell(value)}</td>' for name, value in zip(names, row, strict=True))
        for row in rows.iter_rows()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}".rstrip("0")
    return escape(f"{value:,}" if isinstance(value, int) else f"{value}")


def books_html(books: pl.DataFrame) -> str:
    """The books: whether they balance, and what became of the records of each source."""
    if books.is_empty():
        return '<p class="empty">No record was received yet.</p>'
    columns = ["records", "events", "duplicates", "quarantined", "others", "balance"]
    balance, open_minutes = books["balance"].sum(), books["minutes_in_flight"].sum()
    if balance == 0:
        state = '<p class="state good">Every record is in exactly one place.</p>'
    elif open_minutes:
        state = f'<p class="state">{balance:,.0f} records are still under way, in {open_minutes:,.0f} open minutes.</p>'
    else:
        state = (
            f'<p class="state bad">{balance:,.0f} records are in no place, or in two: run audience doctor --books.</p>'
        )
    shown = books.select(pl.col("source").replace("", "(no source)"), *columns)
    if shown.height > SOURCES:
        rest = shown[SOURCES:]
        total = rest.select(pl.lit(f"{rest.height:,} others").alias("source"), pl.col(columns).sum())
        shown = pl.concat([shown[:SOURCES], total])
    return f'{state}<div class="scroll">{_table(shown)}</div>'


def definitions_html(names: Iterable[str]) -> str:
    """What each metric of the page is, folded away under the name that charts lead to."""
    known = definitions()
    return "".join(_definition(name, known[name], set(names)) for name in names)


def _definition(name: str, metric: Definition, here: set[str]) -> str:
    lines = "".join(f"<li>{_marked(line, here)}</li>" for line in metric.formula)
    views = ", ".join(f"<code>{escape(view)}</code>" for view in metric.views)
    return (
        f'<details id="{name}"><summary>{escape(metric.title)}</summary><p>{escape(metric.sentence)}</p>'
        f"<ul>{lines}</ul>"
        f"<p>Window: {_marked(metric.window, here)}</p><p>Late data: {_marked(metric.late, here)}</p>"
        f"<p>Ask: {views}. The page: docs/metrics/{name}.md</p></details>"
    )


def _marked(text: str, here: set[str]) -> str:
    """The little Markdown of a definition: code, and links, to what is on this page."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))

    def link(found: re.Match) -> str:
        name = found[2].rpartition("/")[2].removesuffix(".md")
        return f'<a href="#{name}">{found[1]}</a>' if name in here else found[1]

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, text)
