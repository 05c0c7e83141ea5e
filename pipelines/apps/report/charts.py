"""The charts of a report, as Vega-Lite draws them: each a function from an answer's rows to a specification.

A chart takes the width it is given, says in words what it shows (`description`, for who does not see it), and takes
its colours from the page: light or dark.
"""

from datetime import date, timedelta
from typing import Any

import polars as pl

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name that Vega looks at: nothing is fetched
DAY = {"field": "day", "type": "temporal", "timeUnit": "utcyearmonthdate", "title": None}
DAY_AXIS = {"format": "%-d %b", "labelOverlap": True, "grid": False}
LEAST_DAYS, LABELS = 7, 6  # days that a chart is wide, though the warehouse hold fewer; days that are named
COUNT_AXIS = {"tickCount": 4, "labelExpr": "format(datum.value, '~s')"}
TOLD_DAY = {
    "field": "day",
    "type": "temporal",
    "timeUnit": "utcyearmonthdate",
    "title": "Day",
    "format": "%a %-d %b %Y",
}
LEGEND = {"orient": "top", "title": None, "direction": "horizontal", "symbolType": "square", "columns": 4}
LIFE = {"new": "new_persons", "back after a gap": "resurrecting_persons", "back": "returning_persons"}
COHORT_AXIS = {"labelAngle": 0, "orient": "top", "labelExpr": "datum.value == 0 ? 'people' : datum.label"}
STEP, CELL = 30, 27  # pixels of a horizontal bar, and of a row of cells
NO_CAMPAIGN = "(no campaign)"

Spec = dict[str, Any]


def people(rows: pl.DataFrame) -> Spec:
    """Lines of the people of a day, of 7 and of 28 days."""
    names = {"dau": "a day", "wau": "7 days", "mau": "28 days"}
    long = rows.rename(names).unpivot(list(names.values()), index="day", variable_name="of", value_name="people")
    last = rows.row(0, named=True)
    told = f"People of {span(rows)}; on the last day {last['dau']:,}, in 7 days {last['wau']:,}, in 28 {last['mau']:,}."
    encoding = {
        "x": _days(rows),
        "y": {"field": "people", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "of", "type": "nominal", "legend": LEGEND, "sort": list(names.values())},
        "tooltip": [TOLD_DAY, {"field": "of", "title": "In"}, _count("people", "People")],
    }
    mark = {"type": "line", "point": {"size": 14}, "strokeWidth": 2}
    return _chart(told, long, {"mark": mark, "encoding": encoding}, 220)


def lifecycle(rows: pl.DataFrame) -> Spec:
    """Bars of who is new or back above the line, who is gone below it."""
    kinds = {**LIFE, "gone since the day before": "dormant_persons"}
    long = pl.concat(
        rows.select(
            "day",
            pl.lit(kind).alias("kind"),
            pl.lit(order).alias("order"),
            pl.col(column).alias("people"),
            (pl.col(column) * (-1 if column == "dormant_persons" else 1)).alias("height"),
        )
        for order, (kind, column) in enumerate(kinds.items())
    )
    last = rows.row(0, named=True)
    told = f"Who was there, {span(rows)}; on the last day {last['new_persons']:,} new, " + (
        f"{last['returning_persons'] + last['resurrecting_persons']:,} back, {last['dormant_persons']:,} gone."
    )
    encoding = {
        "x": _days(rows),
        "y": {"field": "height", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "kind", "type": "nominal", "legend": LEGEND | {"columns": 2}, "sort": list(kinds)},
        "order": {"field": "order"},
        "tooltip": [TOLD_DAY, {"field": "kind", "title": "Who"}, _count("people", "People")],
    }
    return _chart(told, long, {"mark": {"type": "bar"}, "encoding": encoding}, 220)


def volume(rows: pl.DataFrame) -> Spec:
    """Bars of the events of a day, by channel."""
    rows = rows.with_columns(pl.col("channel").fill_null("(no channel)"))
    order = rows.group_by("channel").agg(pl.col("events").sum()).sort("events", descending=True)["channel"].to_list()
    told = f"Events of {span(rows)}: {total(rows, 'events'):,.0f}, most of them in channel {order[0]}."
    encoding = {
        "x": _days(rows),
        "y": {"field": "events", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "channel", "type": "nominal", "legend": LEGEND, "sort": order},
        "tooltip": [TOLD_DAY, {"field": "channel", "title": "Channel"}, _count("events", "Events")],
    }
    return _chart(told, rows, {"mark": {"type": "bar"}, "encoding": encoding}, 220)


def engagement(rows: pl.DataFrame) -> Spec:
    """Bars of the sessions that began on a day, engaged or bounced."""
    rows = rows.with_columns((pl.col("engaged_sessions") / pl.col("sessions")).alias("rate"))
    long = rows.rename({"engaged_sessions": "engaged", "bounces": "bounced"}).unpivot(
        ["engaged", "bounced"], index=["day", "rate"], variable_name="kind", value_name="count"
    )
    sessions, engaged = total(rows, "sessions"), total(rows, "engaged_sessions")
    told = f"Sessions of {span(rows)}: {sessions:,.0f}, of which {percent(engaged, sessions)} engaged."
    encoding = {
        "x": _days(rows),
        "y": {"field": "count", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "kind", "type": "nominal", "legend": LEGEND, "sort": ["engaged", "bounced"]},
        "tooltip": [
            TOLD_DAY,
            {"field": "kind", "title": "Sessions"},
            _count("count", "How many"),
            {"field": "rate", "type": "quantitative", "title": "Engagement rate", "format": ".1%"},
        ],
    }
    return _chart(told, long, {"mark": {"type": "bar"}, "encoding": encoding}, 220)


def conversion(rows: pl.DataFrame) -> Spec:
    """A bar for each campaign: the share of its sessions that converted."""
    rows = rows.select(
        pl.col("campaign").fill_null(NO_CAMPAIGN).alias("name"),
        (pl.col("converted_sessions") / pl.col("sessions")).alias("share"),
        (_shown("converted_sessions") + " of " + _shown("sessions")).alias("of"),
    )
    rows = _labelled(rows, pl.col("of"))
    best = rows.sort("share", descending=True).row(0, named=True)
    told = f"Share of sessions that converted, by campaign; the highest is {best['name']} with {best['share']:.1%}."
    return _bars(told, rows, "Converted", ".0%")


def funnel(rows: pl.DataFrame) -> Spec:
    """A bar for each step: how many people reached it, and which share of the first step they are."""
    rows = rows.select(
        pl.col("event_type").alias("name"),
        (pl.col("persons") / pl.col("first_persons")).alias("share"),
        _shown("persons").alias("of"),
    )
    rows = _labelled(rows, pl.col("of"))
    told = "Funnel: " + ", ".join(f"{row['name']} {row['of']}" for row in rows.iter_rows(named=True)) + " people."
    return _bars(told, rows, "Of the first step", ".0%")


def retention(rows: pl.DataFrame, unit: str) -> Spec:
    """A cell for each cohort and N: the share of the cohort that was there again, the darker the more."""
    rows = rows.with_columns(
        (pl.col("retained_on") / pl.col("cohort_size")).alias("rate"),
        pl.col("cohort").map_elements(lambda day: f"{day:%-d %b}", pl.String).alias("name"),
    )
    again = rows.filter(pl.col("n") > 0)
    told = f"Retention of {rows['cohort'].n_unique()} cohorts by the {unit} in which they came first"
    if again.height:
        told += f": {percent(total(again, 'retained_on'), total(again, 'cohort_size'))} were there again in one {unit}"
    least, most = min(again["rate"].to_list(), default=0.0), max(again["rate"].to_list(), default=1.0)
    least = max(0.0, 2 * least - most)  # so that the least is not the faintest
    order = {"field": "name", "type": "ordinal", "sort": rows["name"].unique(maintain_order=True).to_list()}
    shared = {
        "x": {"field": "n", "type": "ordinal", "title": f"{unit}s later", "axis": COHORT_AXIS},
        "y": order | {"title": f"first {unit}", "axis": {"labelOverlap": False}},
        "tooltip": [
            {"field": "name", "title": f"First {unit}"},
            _count("cohort_size", "People"),
            {"field": "n", "title": f"{unit.capitalize()}s later"},
            _count("retained_on", "There again"),
            {"field": "rate", "type": "quantitative", "title": "Share", "format": ".1%"},
        ],
    }
    colour = {
        "field": "rate",
        "type": "quantitative",
        "legend": None,
        "scale": {"domain": [least, most or 1.0]},
    }
    # The first column is always 100 %: it tells the size of the cohort instead.
    size = {"field": "cohort_size", "type": "quantitative", "format": ",.0f"}
    share = {"field": "rate", "type": "quantitative", "format": ".0%"}
    text = {"type": "text", "fontSize": {"expr": "width < 420 ? 9 : 11"}}
    layers = [
        {"transform": [{"filter": "datum.n > 0"}], "mark": {"type": "rect"}, "encoding": {"color": colour}},
        {
            "transform": [{"filter": "datum.n > 0"}],
            "mark": text,
            "encoding": {"text": share, "color": _ink((least + most) / 2)},
        },
        {"transform": [{"filter": "datum.n == 0"}], "mark": text, "encoding": {"text": size}},
    ]
    return _chart(told + ".", rows, {"layer": layers, "encoding": shared}, CELL * rows["name"].n_unique())


def leaderboard(rows: pl.DataFrame) -> Spec:
    """A bar for each content: its smoothed rate, with a line where the overall rate is."""
    by = "engagement" if rows["overall_engagement_rate"].is_not_null().any() else "click_through"
    what, of = ("reactions", "views") if by == "engagement" else ("clicks", "impressions")
    overall = rows[f"overall_{by}_rate"][0]
    rows = rows.select(
        pl.col("content_id").alias("name"),
        pl.col(f"smoothed_{by}_rate").alias("share"),
        (_shown(what) + f" {what}, " + _shown(of) + f" {of}").alias("of"),
    )
    rows = _labelled(rows, pl.lit(None, pl.String))
    told = f"Contents by smoothed {by.replace('_', '-')} rate; first is {rows['name'][0]}, overall {overall:.1%}."
    spec = _bars(told, rows, "Smoothed rate", ".0%")
    once: Spec = {"values": [{}]}
    there: Spec = {"x": {"datum": overall}}
    line = {"data": once, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": there}
    told_there = there | {"y": {"value": 0}, "text": {"value": f"overall {overall:.1%}"}}
    spec["layer"] += [line, {"data": once, "mark": {"type": "text", "dy": -9}, "encoding": told_there}]
    return spec


def segments(rows: pl.DataFrame) -> Spec:
    """A bar for each purchase segment: how many buyers, by currency."""
    order = [
        name for name in ("champion", "loyal", "new", "promising", "at_risk", "lost") if name in set(rows["segment"])
    ]
    counts = rows.group_by("segment").agg(pl.col("buyers").sum())
    sizes = dict(zip(counts["segment"], counts["buyers"], strict=True))
    told = "Buyers by segment: " + ", ".join(f"{name} {sizes[name]:,}" for name in order) + "."
    encoding = {
        "y": {"field": "segment", "type": "ordinal", "sort": order, "title": None},
        "x": {"field": "buyers", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "currency", "type": "nominal", "legend": LEGEND},
        "tooltip": [
            {"field": "segment", "title": "Segment"},
            {"field": "currency", "title": "Currency"},
            _count("buyers", "Buyers"),
            {"field": "revenue", "type": "quantitative", "title": "Revenue", "format": ",.2f"},
        ],
    }
    return _chart(told, rows, {"mark": {"type": "bar"}, "encoding": encoding}, STEP * len(order))


def span(rows: pl.DataFrame) -> str:
    """From which day to which."""
    days = sorted(rows["day"].to_list())
    first, last = days[0], days[-1]
    return f"{first}" if first == last else f"{first} to {last}"


def _days(rows: pl.DataFrame) -> Spec:
    """The days of the rows along the bottom, a week at least."""
    last = max(rows["day"].to_list())
    first = min([*rows["day"].to_list(), last - timedelta(days=LEAST_DAYS - 1)])
    step = -(-((last - first).days + 1) // LABELS)
    named = [_utc(last - timedelta(days=days)) for days in range(0, (last - first).days + 1, step)]
    domain = [_utc(first), _utc(last + timedelta(days=1))]
    return DAY | {"axis": DAY_AXIS | {"values": named[::-1]}, "scale": {"domain": domain}}


def _utc(day: date) -> Spec:
    return {"year": day.year, "month": day.month, "date": day.day, "utc": True}


def total(rows: pl.DataFrame, column: str) -> float:
    """The sum of a column."""
    return sum(rows[column].to_list())


def percent(part: float, whole: float) -> str:
    """A share as text; none of nothing."""
    return f"{part / whole:.1%}" if whole else "none"


def plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON has them: a day as text."""
    return rows.with_columns(pl.col(pl.Date).dt.to_string()).to_dicts()


def _shown(column: str) -> pl.Expr:
    return pl.col(column).map_elements(lambda number: f"{number:,.0f}", pl.String)


def _labelled(rows: pl.DataFrame, behind: pl.Expr) -> pl.DataFrame:
    """With the text that stands behind a bar: its share, and what of what."""
    share = pl.col("share").map_elements(lambda share: f"{share:.1%}", pl.String)
    return rows.with_columns(pl.concat_str(share, behind, separator="  ·  ", ignore_nulls=True).alias("label"))


def _bars(told: str, rows: pl.DataFrame, title: str, form: str) -> Spec:
    """A horizontal bar for each `name`, as long as its `share`, its `label` behind it."""
    longest = max((share for share in rows["share"] if share is not None), default=0) or 1
    names, room = rows["name"].to_list(), 16 + 7 * max(map(len, rows["label"]))
    encoding = {
        "y": {"field": "name", "type": "ordinal", "sort": names, "title": None, "axis": {"labelLimit": 110}},
        "x": {
            "field": "share",
            "type": "quantitative",
            "title": None,
            # What stands behind the longest bar has room, but a bar has a third of the width.
            "scale": {"domainMin": 0, "domainMax": {"expr": f"{longest} * width / max(width / 3, width - {room})"}},
            "axis": {"values": _ticks(longest), "format": form},
        },
        "tooltip": [
            {"field": "name", "title": "Of"},
            {"field": "share", "type": "quantitative", "title": title, "format": ".1%"},
            {"field": "of", "title": "Counted"},
        ],
    }
    text = {"type": "text", "align": "left", "dx": 6, "fontSize": 12}
    layers = [
        {"mark": {"type": "bar"}, "encoding": encoding},
        {"mark": text, "encoding": encoding | {"text": {"field": "label"}}},
    ]
    return _chart(told, rows, {"layer": layers}, STEP * rows.height)


def _ticks(longest: float) -> list[float]:
    step = next(
        step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if longest / step <= 4
    )
    return [round(step * n, 6) for n in range(5) if step * n <= longest * 1.01]


def _count(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "format": ",.0f"}


def _ink(middle: float) -> Spec:
    """The colour of a text on a cell: on a strong one that of the page."""
    return {"condition": {"test": f"datum.rate > {middle:.6f}", "value": "onstrong"}, "value": "onweak"}


def _chart(told: str, rows: pl.DataFrame, drawn: Spec, height: int) -> Spec:
    return {
        "$schema": SCHEMA,
        "description": told,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": plain(rows)},
        **drawn,
    }
