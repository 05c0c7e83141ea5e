"""The text of a report as HTML: headline numbers, tables, definitions. Values of data are escaped: never markup."""

import re
from collections.abc import Iterable
from datetime import date, timedelta
from html import escape
from typing import Any, NamedTuple

import polars as pl

from pipelines.apps.report.days import State
from pipelines.apps.report.definitions import Definition, definitions
from pipelines.apps.report.queries import Numbers

TABLE_ROWS = 60
CURRENCIES = 2  # headline numbers of revenue
SOURCES = 8  # rows of the audit counts that are shown; one more adds up the others
NO_DAY_BEFORE, UNCHANGED = "no day before", "as the day before"


class Tile(NamedTuple):
    """A headline number of the shown day, and its change against the day before."""

    name: str
    value: str
    change: str


def tiles(numbers: Numbers) -> list[Tile]:
    """The headline numbers of the shown day; a view without a row of that day has none."""
    day = numbers.last_day
    if day is None:
        return []
    candidates = [
        _count("Active people", numbers["activity"], day, "dau"),
        _count("New people", numbers["lifecycle"], day, "new_persons"),
        _count("Sessions", numbers["engagement"], day, "sessions"),
        _rate("Engagement rate", numbers["engagement"], day, "engaged_sessions"),
        _conversion(numbers, day),
        *_revenues(numbers, day),
        _count("Events", _sum_by_day(numbers["channels"], "events"), day, "events"),
    ]
    return [tile for tile in candidates if tile]


def _sum_by_day(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return rows if rows.is_empty() else rows.group_by("day").agg(pl.col(columns).sum())


def _conversion(numbers: Numbers, day: date) -> Tile | None:
    """The rate of conversion; none where no session of the days drawn converted."""
    rows = _sum_by_day(numbers["campaigns"], "sessions", "converted_sessions")
    if rows.is_empty() or not rows["converted_sessions"].sum():
        return None
    return _rate("Conversion rate", rows, day, "converted_sessions")


def _revenues(numbers: Numbers, day: date) -> list[Tile | None]:
    """The revenue of the day in each of the first currencies."""
    rows = numbers["revenue"]
    if rows.is_empty():
        return []
    orders = rows.group_by("currency").agg(pl.col("orders").sum()).sort("orders", "currency", descending=[True, False])
    tiles = []
    for currency in orders["currency"].to_list()[:CURRENCIES]:
        own = rows.filter(pl.col("currency") == currency).select("day", "revenue")
        lacking = {day, max(day - timedelta(days=1), numbers.window.first)} - set(own["day"])  # nothing was bought
        none = pl.DataFrame({"day": sorted(lacking), "revenue": [0.0] * len(lacking)}, schema=own.schema)
        tiles.append(_count(f"Revenue, {currency}", pl.concat([own, none]), day, "revenue"))
    return tiles


def _count(name: str, rows: pl.DataFrame, day: date, column: str) -> Tile | None:
    """A count of the day, and how far it is above that of the day before."""
    now, before = _value(rows, day, column), _value(rows, day - timedelta(days=1), column)
    if now is None:
        return None
    change = NO_DAY_BEFORE
    if before is not None:
        share = f" ({_percent(abs(now - before) / before)})" if before else ""
        change = UNCHANGED if now == before else f"{_direction(now - before)} {abs(now - before):,.0f}{share}"
    return Tile(name, f"{now:,.0f}", change)


def _rate(name: str, rows: pl.DataFrame, day: date, part: str) -> Tile | None:
    """A share of the sessions of the day, and how many points it is above that of the day before."""
    if rows.is_empty():
        return None
    rows = rows.with_columns((pl.col(part) / pl.col("sessions")).alias("rate"))
    now, before = _value(rows, day, "rate"), _value(rows, day - timedelta(days=1), "rate")
    if now is None:
        return None
    if before is None:
        return Tile(name, f"{now:.1%}", NO_DAY_BEFORE)
    points = 100 * (now - before)
    change = UNCHANGED if abs(points) < 0.05 else f"{_direction(points)} {abs(points):.1f} points"
    return Tile(name, f"{now:.1%}", change)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.01 else f"{share:.0%}"


def _direction(difference: float) -> str:
    return "up" if difference > 0 else "down"


def _value(rows: pl.DataFrame, day: date, column: str) -> Any:
    """The value of a day; None if there is no such row."""
    if rows.is_empty():
        return None
    values = rows.filter(pl.col("day") == day)[column]
    return values[0] if len(values) else None


def subject(numbers: Numbers) -> str:
    """The day that the tiles show."""
    day = numbers.last_day
    if day is None:
        return f"{numbers.warehouse} holds no day yet."
    return f"{day:%A, %-d %B %Y} ({numbers.time_zone}), compared with the day before"


def reasons(numbers: Numbers) -> list[str]:
    """Why this day is shown, and what is held of the days after it."""
    shown = numbers.shown
    if shown is None:
        return []
    where, until = numbers.warehouse, f"{shown.until:%-d %B %Y, %H:%M}" if shown.until else ""
    sentences = {
        State.WHOLE: f"The last whole day in {where}: records were received until {until}, and every minute of the day "
        "is closed.",
        State.IN_PROGRESS: f"{where} holds no whole day yet. This day is in progress: records were received until "
        f"{until}, and its numbers will still change.",
        State.UNKNOWN: f"The newest day in {where}. No audit count has a received time, so whether the day is whole is "
        "not known.",
    }
    lines = [sentences[shown.state]]
    window = numbers.window
    if window.days > 1:
        lines.append(f"All charts show {window.first:%-d %B %Y} to {window.last:%-d %B %Y}, {window.days} days.")
    if window.before:
        lines.append(f"{window.before:,} events of earlier days are not drawn (--start draws them).")
    if shown.later:
        days = " and ".join(f"{day:%-d %B}" for day in shown.later)
        lines.append(f"Charts by day also show {days}, in progress.")
    if shown.strays:
        are = "1 event is" if shown.strays == 1 else f"{shown.strays:,} events are"
        lines.append(f"{are} dated later and not shown: those days hold stragglers only.")
    return lines


def tiles_html(shown: Iterable[Tile]) -> str:
    """The row of headline numbers."""
    return "".join(
        f'<div class="tile"><dt>{escape(tile.name)}</dt><dd class="value">{escape(tile.value)}</dd>'
        f'<dd class="change">{escape(tile.change)}</dd></div>'
        for tile in shown
    )


def table_html(rows: pl.DataFrame) -> str:
    """The rows of a chart as a table, collapsed."""
    more = (
        f"<p>The first {TABLE_ROWS} of {rows.height:,} rows; audience query has all.</p>"
        if rows.height > TABLE_ROWS
        else ""
    )
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
    """The audit counts: whether they reconcile, and what became of the records of each source."""
    if books.is_empty():
        return '<p class="empty">No record was received yet.</p>'
    columns = ["records", "events", "duplicates", "quarantined", "others", "balance"]
    balance, open_minutes = books["balance"].sum(), books["minutes_in_flight"].sum()
    if balance == 0:
        state = '<p class="state good">The counts reconcile: every record is in exactly one place.</p>'
    elif open_minutes:
        state = f'<p class="state">{balance:,.0f} records are in flight, in {open_minutes:,.0f} open minutes.</p>'
    else:
        state = (
            f'<p class="state bad">The counts do not reconcile: {balance:,.0f} records are missing or counted twice. '
            "Run audience doctor --audit.</p>"
        )
    shown = books.select(pl.col("source").replace("", "(no source)"), *columns)
    if shown.height > SOURCES:
        rest = shown[SOURCES:]
        total = rest.select(pl.lit(f"{rest.height:,} others").alias("source"), pl.col(columns).sum())
        shown = pl.concat([shown[:SOURCES], total])
    return f'{state}<div class="scroll">{_table(shown)}</div>'


def definitions_html(names: Iterable[str]) -> str:
    """The definition of each metric on the page, with the id that the charts link to."""
    known = definitions()
    return "".join(_definition(name, known[name], set(names)) for name in names)


def _definition(name: str, metric: Definition, here: set[str]) -> str:
    lines = "".join(f"<li>{_render(line, here)}</li>" for line in metric.formula)
    views = ", ".join(f"<code>{escape(view)}</code>" for view in metric.views)
    return (
        f'<section id="{name}"><h3>{escape(metric.title)}</h3><p>{escape(metric.sentence)}</p>'
        f"<ul>{lines}</ul>"
        f"<p>Window: {_render(metric.window, here)}</p><p>Late data: {_render(metric.late, here)}</p>"
        f"<p>Query: {views}. Reference: docs/metrics/{name}.md</p></section>"
    )


def _render(text: str, here: set[str]) -> str:
    """The Markdown of a definition as HTML: code, and links to definitions on this page."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))

    def link(match: re.Match) -> str:
        name = match[2].rpartition("/")[2].removesuffix(".md")
        return f'<a href="#{name}">{match[1]}</a>' if name in here else match[1]

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, text)
