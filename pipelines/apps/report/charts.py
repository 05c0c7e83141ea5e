"""The charts of a report: each a function from the numbers to a Drawing, or to None where the data says nothing.

A chart fills the width of its container, says in words what it shows (for screen readers), and takes its colours from
the page, light or dark. All of them draw the days of one window.
"""

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any, NamedTuple

import polars as pl

from pipelines.apps.report import svg
from pipelines.apps.report.queries import MEASURES, Numbers

LIFE = {
    "new": "new_persons",
    "returning": "returning_persons",
    "returning after a gap": "resurrecting_persons",
    "not seen since the day before": "dormant_persons",
}
LOST = "not seen since the day before"
PEOPLE = {"1 day": "dau", "7 days": "wau", "28 days": "mau"}
KINDS = 6  # series of a chart, of which the last may add up the others
CURRENCIES = 3  # charts of revenue; the others are in the table
CAMPAIGNS = 8
ATTRIBUTED = 3  # campaigns, each with a bar for each model
MODELS = {
    "first_touch": "first touch",
    "last_touch": "last touch",
    "last_non_direct": "last non-direct",
    "position_based": "position-based",
}
SMALL = 20  # people of a cohort, or sessions of a campaign, below which a rate is muted
SHADES = 6
NO_CAMPAIGN = "(no campaign)"
SEGMENTS = ("champion", "loyal", "new", "promising", "at_risk", "lost")


class Drawing(NamedTuple):
    """A chart: what it shows in words, its HTML, the rows behind it, and a note under it."""

    text: str
    html: str
    rows: pl.DataFrame
    note: str = ""


class Bar(NamedTuple):
    """A horizontal bar: its name, its length as a share of the longest, what is written behind it, and whether too few
    are counted to believe it."""

    name: str
    length: float
    label: str
    muted: bool = False
    color: int = 1


def people(numbers: Numbers) -> Drawing | None:
    """Lines of the people active on a day, in 7 and in 28 days."""
    rows = numbers["activity"]
    if not _has(rows, "mau"):
        return None
    series = [
        svg.Series(name, _by_day(numbers, rows, column, None, numbers.window.unknown(days)))
        for days, (name, column) in zip((1, 7, 7), PEOPLE.items(), strict=True)
    ]
    last = _last(numbers, rows)
    text = f"Active people, {span(numbers)}: {last['dau']:,} on the last day, {last['wau']:,} in the last 7 days, "
    text += f"{last['mau']:,} in the last 28."
    if numbers.window.days == 1:  # no line
        longest = last["mau"] or 1
        bars = [Bar(f"in {name}", last[column] / longest, f"{last[column]:,}") for name, column in PEOPLE.items()]
        return Drawing(text, bars_html(bars), rows, _progress_note(numbers))
    return _by_days(numbers, svg.lines, text, series, rows)


def lifecycle(numbers: Numbers) -> Drawing | None:
    """Bars of new and returning people above the line, and of people not seen since the day before below it."""
    rows = numbers["lifecycle"]
    if not _has(rows, "active_persons"):
        return None
    series = [
        svg.Series(name, [value and (-value if name == LOST else value) for value in _by_day(numbers, rows, column)])
        for name, column in LIFE.items()
    ]
    last = _last(numbers, rows)
    returning = last["returning_persons"] + last["resurrecting_persons"]
    text = f"People, {span(numbers)}: {last['new_persons']:,} new on the last day, {returning:,} returning, "
    text += f"{last['dormant_persons']:,} {LOST}."
    return _by_days(numbers, svg.stacked, text, series, rows)


def volume(numbers: Numbers) -> Drawing | None:
    """Bars of the events of a day, by channel, or by type where no event has a channel."""
    rows, what = numbers["channels"], "channel"
    if "types" in numbers.answers:
        rows, what = numbers["types"], "type"
    if rows.is_empty():
        return None
    rows = rows.with_columns(pl.col("kind").fill_null(f"(no {what})"))
    order = rows.group_by("kind").agg(pl.col("events").sum()).sort("events", "kind", descending=[True, False])
    names = order["kind"].to_list()
    kept = names if len(names) <= KINDS else names[: KINDS - 1]
    series = [svg.Series(name, _by_day(numbers, rows.filter(pl.col("kind") == name), "events")) for name in kept]
    if others := names[len(kept) :]:
        rest = rows.filter(pl.col("kind").is_in(others)).group_by("day").agg(pl.col("events").sum())
        series.append(svg.Series(f"{len(others)} others", _by_day(numbers, rest, "events")))
    text = f"Events, {span(numbers)}: {_total(rows, 'events'):,.0f}, most of them of {what} {names[0]}."
    return _by_days(numbers, svg.stacked, text, series, rows.rename({"kind": what}))


def engagement(numbers: Numbers) -> Drawing | None:
    """Bars of the sessions that began on a day: engaged, bounced."""
    rows = numbers["engagement"]
    if not _has(rows, "sessions"):
        return None
    columns = {"engaged": "engaged_sessions", "bounced": "bounces"}
    series = [svg.Series(name, _by_day(numbers, rows, column)) for name, column in columns.items()]
    sessions, engaged = _total(rows, "sessions"), _total(rows, "engaged_sessions")
    text = f"Sessions, {span(numbers)}: {sessions:,.0f}, of which {percent(engaged, sessions)} engaged."
    return _by_days(numbers, svg.stacked, text, series, rows)


def conversion(numbers: Numbers) -> Drawing | None:
    """A bar for each campaign: the share of its sessions that converted."""
    rows = numbers["campaigns"]
    if not _has(rows, "converted_sessions") or rows["campaign"].is_null().all():
        return None
    rows = rows.group_by("campaign").agg(pl.col("sessions", "converted_sessions").sum())
    rows = rows.sort("sessions", "campaign", descending=[True, False]).head(CAMPAIGNS)
    shares = [(row["converted_sessions"] / row["sessions"], row) for row in rows.iter_rows(named=True)]
    longest = max(share for share, _ in shares) or 1
    bars = [
        Bar(
            row["campaign"] or NO_CAMPAIGN,
            share / longest,
            f"{share:.1%} · {row['converted_sessions']:,.0f} of {row['sessions']:,.0f}",
            row["sessions"] < SMALL,
        )
        for share, row in shares
    ]
    best = max(bars, key=lambda bar: (not bar.muted, bar.length))
    text = "Share of sessions that converted, by campaign; the highest is "
    text += f"{best.name} with {best.label.partition(' ')[0]}."
    return Drawing(text, bars_html(bars), rows, _muted_note(bars, "campaigns", "sessions"))


def attribution(numbers: Numbers) -> Drawing | None:
    """A bar for each of the first campaigns and each model: the purchases that are attributed to it."""
    rows = numbers["attribution"]
    if not _has(rows, "purchases") or rows["campaign"].is_null().all():
        return None
    of_campaign = rows.filter(pl.col("campaign").is_not_null())
    sizes = of_campaign.group_by("campaign").agg(pl.col("purchases").sum())
    chosen = sizes.sort("purchases", "campaign", descending=[True, False]).head(ATTRIBUTED)["campaign"].to_list()
    found = {(campaign, model): purchases for campaign, model, purchases in of_campaign.iter_rows()}
    longest = max(found.values())
    bars = [
        Bar(f"{campaign}, {name}", (count := found.get((campaign, model), 0)) / longest, f"{count:,.1f}", color=color)
        for campaign in chosen
        for color, (model, name) in enumerate(MODELS.items(), 1)
    ]
    whole = rows.filter(pl.col("model") == "first_touch")["purchases"].sum()
    text = f"Purchases by the campaign that they are attributed to, of {whole:,.0f}; the first is {chosen[0]}."
    others = sizes.height - len(chosen)
    return Drawing(text, bars_html(bars), rows, f"{others} more campaigns are in the numbers." if others > 0 else "")


def funnel(numbers: Numbers) -> Drawing | None:
    """A bar for each step: how many people reached it, as a share of the first step."""
    rows = numbers["funnel"]
    if rows.height < 2 or not _has(rows.filter(pl.col("step") > 1), "persons"):
        return None
    bars = []
    for row in rows.iter_rows(named=True):
        share = row["persons"] / (row["first_persons"] or 1)
        bars.append(Bar(row["event_type"], share, f"{share:.1%} · {row['persons']:,.0f}"))
    told = ", ".join(f"{row['event_type']} {row['persons']:,.0f}" for row in rows.iter_rows(named=True))
    return Drawing(f"Funnel: {told} people.", bars_html(bars), rows)


def revenue(numbers: Numbers) -> Drawing | None:
    """Bars of the revenue of a day, a chart for each of the first currencies: two cannot share a scale."""
    rows = numbers["revenue"]
    if not _has(rows, "revenue"):
        return None
    totals = rows.group_by("currency").agg(pl.col("revenue", "orders").sum())
    totals = totals.sort("orders", "currency", descending=[True, False])
    told = [f"{row['revenue']:,.2f} {row['currency']}" for row in totals.iter_rows(named=True)]
    parts = []
    for row in totals.head(CURRENCIES).iter_rows(named=True):
        own = rows.filter(pl.col("currency") == row["currency"])
        series = [svg.Series("revenue", _by_day(numbers, own, "revenue"))]
        head = f"{row['currency']}: {row['revenue']:,.2f} in {row['orders']:,.0f} orders"
        chart = svg.stacked(numbers.window, series, _in_progress(numbers), lambda value: f"{value:,.2f}")
        parts.append(f'<p class="unit">{escape(head)}</p>{chart}')
    text = f"Revenue, {span(numbers)}: {'; '.join(told)}."
    others = totals.height - CURRENCIES
    note = f"{others} more currencies are in the numbers." if others > 0 else ""
    return Drawing(text, "".join(parts), rows, " ".join(filter(None, [note, _progress_note(numbers)])))


def retention_by_week(numbers: Numbers) -> Drawing | None:
    """A table of cohorts by week; None until a week after the first is over."""
    rows = _complete(numbers, numbers["weeks"], 7)
    return None if rows.is_empty() or rows["n"].max() == 0 else _retention(rows, "week")


def retention_by_day(numbers: Numbers) -> Drawing | None:
    """A table of cohorts by day, of the newest two weeks."""
    rows = _complete(numbers, numbers["days"], 1)
    if rows.is_empty() or rows["n"].max() == 0:
        return None
    return _retention(rows.filter(pl.col("cohort").is_in(rows["cohort"].unique().sort().tail(14).implode())), "day")


def contents(numbers: Numbers) -> Drawing | None:
    """A bar for each of the first contents, by views, or by the first measure that any has."""
    rows = numbers["contents"]
    by = next((measure for measure in (*MEASURES, "events") if _has(rows, measure)), None)
    if by is None:
        return None
    rows = rows.filter(pl.col(by) > 0).sort(by, "content_id", descending=[True, False])
    longest = rows[by][0]
    others = [measure for measure in MEASURES if measure != by and _has(rows, measure)]
    bars = [
        Bar(
            row["content_id"],
            row[by] / longest,
            ", ".join(f"{row[measure]:,.0f} {measure}" for measure in (by, *others) if measure == by or row[measure]),
        )
        for row in rows.iter_rows(named=True)
    ]
    text = f"Contents by {by}, {span(numbers)}: {bars[0].name} is first with {rows[by][0]:,.0f}."
    note = "" if by == "views" else f"By {by}: no content has {' or '.join(MEASURES[: _place(by)])}."
    return Drawing(text, bars_html(bars), rows.select("content_id", by, *others), note)


def segments(numbers: Numbers) -> Drawing | None:
    """A bar for each purchase segment and currency: the number of buyers."""
    rows = numbers["segments"]
    if rows.is_empty():
        return None
    order = {name: place for place, name in enumerate(SEGMENTS)}
    kinds = sorted(set(rows["currency"]))
    ordered = sorted(rows.iter_rows(named=True), key=lambda row: (order.get(row["segment"], 9), row["currency"]))
    longest = max(row["buyers"] for row in ordered)
    bars = []
    for row in ordered:
        name = row["segment"] if len(kinds) == 1 else f"{row['segment']}, {row['currency']}"
        money = "" if row["revenue"] is None else f" · {row['revenue']:,.2f} {row['currency']}"
        color = 1 + kinds.index(row["currency"]) % 8
        bars.append(Bar(name, row["buyers"] / longest, f"{row['buyers']:,}{money}", color=color))
    sizes = rows.group_by("segment").agg(pl.col("buyers").sum())
    sums = dict(zip(sizes["segment"], sizes["buyers"], strict=True))
    text = "Buyers by segment: " + ", ".join(f"{name} {sums[name]:,}" for name in SEGMENTS if name in sums) + "."
    return Drawing(text, bars_html(bars), rows, "Of all purchases up to the newest event, not of the days drawn.")


def bars_html(bars: Sequence[Bar]) -> str:
    """Horizontal bars, their names in full."""
    made = []
    for bar in bars:
        kind = ' class="muted"' if bar.muted else ""
        width = f"{100 * max(0.0, min(1.0, bar.length)):.1f}%"
        drawn = f'<svg height="14" aria-hidden="true"><rect class="c{bar.color}" width="{width}" height="14"/></svg>'
        made.append(f'<li{kind}><span class="name">{escape(bar.name)}</span>{drawn}')
        made.append(f'<span class="label">{escape(bar.label)}</span></li>')
    return f'<ul class="bars">{"".join(made)}</ul>'


def span(numbers: Numbers) -> str:
    """The first and the last day that are drawn, as text."""
    first, last = numbers.window.first, numbers.window.last
    return f"{first}" if first == last else f"{first} to {last}"


def percent(part: float, whole: float) -> str:
    """A share as text; `none` if the whole is zero."""
    return f"{part / whole:.1%}" if whole else "none"


def _retention(rows: pl.DataFrame, unit: str) -> Drawing:
    """A cell for each cohort and N: the share of the cohort that returned, darker for more; small cohorts are muted."""
    again = rows.filter((pl.col("n") > 0) & (pl.col("cohort_size") >= SMALL))
    most = max((again["retained_on"] / again["cohort_size"]).to_list(), default=0.0) or 1.0
    head = "".join(f'<th scope="col">{n}</th>' for n in range(1, int(rows["n"].max() or 0) + 1))  # type: ignore[arg-type]
    body = []
    for (cohort,), cells in rows.group_by("cohort", maintain_order=True):
        size = cells["cohort_size"][0]
        small = size < SMALL
        shares = dict(zip(cells["n"], (cells["retained_on"] / size).to_list(), strict=True))
        shown = "".join(_cell(shares.get(n), most, small) for n in range(1, int(rows["n"].max() or 0) + 1))  # type: ignore[arg-type]
        kind = ' class="muted"' if small else ""
        body.append(f'<tr{kind}><th scope="row">{cohort:%-d %b %Y}</th><td class="size">{size:,}</td>{shown}</tr>')
    text = f"Retention of {rows['cohort'].n_unique()} cohorts, by the {unit} of the first visit"
    if again.height:
        returned = percent(_total(again, "retained_on"), _total(again, "cohort_size"))
        text += f": {returned} returned in a later {unit}, on average"
    html = (
        f'<div class="scroll"><table class="heat"><thead><tr><th scope="col">first {unit}</th>'
        f'<th scope="col">people</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )
    note = f"Columns: {unit}s later."
    if (rows["cohort_size"] < SMALL).any():
        note += f" Cohorts of fewer than {SMALL} people are muted: one person more would change their rates much."
    return Drawing(text + ".", html, rows, note)


def _cell(share: float | None, most: float, small: bool) -> str:
    if share is None:
        return "<td></td>"
    shade = "" if small else f' class="h{min(SHADES, round(SHADES * share / most))}"'
    return f"<td{shade}>{share:.0%}</td>"


def _complete(numbers: Numbers, rows: pl.DataFrame, width: int) -> pl.DataFrame:
    """The cells whose days are over by the shown day."""
    if rows.is_empty() or numbers.last_day is None:
        return pl.DataFrame()
    ends = pl.col("cohort") + pl.duration(days=width * pl.col("n") + width - 1)
    return rows.filter(ends <= numbers.last_day).sort("cohort", "n")


def _by_days(numbers: Numbers, draw: Any, text: str, series: Sequence[svg.Series], rows: pl.DataFrame) -> Drawing:
    chart = draw(numbers.window, series, _in_progress(numbers), lambda value: f"{value:,.0f}")
    html = svg.legend([each.name for each in series]) + chart
    return Drawing(text, html, rows.sort("day", descending=True), _progress_note(numbers))


def _in_progress(numbers: Numbers) -> list[date]:
    return [day for day in numbers.shown.in_progress if day <= numbers.window.last] if numbers.shown else []


def _progress_note(numbers: Numbers) -> str:
    days = _in_progress(numbers)
    note = f"In progress: {', '.join(f'{day:%-d %B}' for day in days)}." if days else ""
    return f"{note} Shaded days have no events.".strip() if numbers.window.gaps else note


def _by_day(
    numbers: Numbers,
    rows: pl.DataFrame,
    column: str,
    none: float | None = 0.0,
    unknown: Collection[date] = frozenset(),
) -> list[float | None]:
    """The value of each day of the window; `none` for a day without one, or that is unknown."""
    values = dict(zip(rows["day"], rows[column], strict=True))
    days = (numbers.window.first + timedelta(days=n) for n in range(numbers.window.days))
    return [none if day in unknown else values.get(day, none) for day in days]


def _last(numbers: Numbers, rows: pl.DataFrame) -> dict[str, Any]:
    """The row of the shown day, or of the last one before it."""
    known = rows.filter(pl.col("day") <= (numbers.last_day or date.max)).sort("day")
    return (known if known.height else rows).row(-1, named=True)


def _has(rows: pl.DataFrame, column: str) -> bool:
    """Whether any value of a column is not 0."""
    return not rows.is_empty() and column in rows.columns and bool((rows[column].fill_null(0) != 0).any())


def _place(measure: str) -> int:
    return MEASURES.index(measure) if measure in MEASURES else len(MEASURES)


def _total(rows: pl.DataFrame, column: str) -> float:
    return sum(value for value in rows[column].to_list() if value is not None)


def _muted_note(bars: Sequence[Bar], what: str, of: str) -> str:
    return f"Muted {what} have fewer than {SMALL} {of}." if any(bar.muted for bar in bars) else ""
