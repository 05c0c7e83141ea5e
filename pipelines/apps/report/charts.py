"""The charts of a report, for Vega-Lite: each a function from the rows of an answer to a specification.

A chart fills the width of its container, describes what it shows in words (`description`, for screen readers), and
takes its colours from the page, light or dark.
"""

from datetime import date, timedelta
from typing import Any

import polars as pl

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name that Vega compares: nothing is fetched
DAY = {"field": "day", "type": "temporal", "timeUnit": "utcyearmonthdate", "title": None}
DAY_AXIS = {"format": "%-d %b", "labelOverlap": True, "grid": False}
LABELS = 6  # days with a label
DAY_MS = 86_400_000
COUNT_AXIS = {"tickCount": 4, "labelExpr": "format(abs(datum.value), '~s')"}
DAY_TOOLTIP = {
    "field": "day",
    "type": "temporal",
    "timeUnit": "utcyearmonthdate",
    "title": "Day",
    "format": "%a %-d %b %Y",
}
LEGEND = {
    "orient": "top",
    "title": None,
    "direction": "horizontal",
    "symbolType": "square",
    "columns": {"expr": "width < 420 ? 3 : 5"},
    "labelLimit": {"expr": "width < 420 ? 76 : 130"},
}
LIFE = {"new": "new_persons", "returning after a gap": "resurrecting_persons", "returning": "returning_persons"}
PAIRS = {"columns": 2, "labelLimit": 0}
LOST = "not seen since the day before"
COHORT_AXIS = {"labelAngle": 0, "orient": "top", "labelExpr": "datum.value == 0 ? 'people' : datum.label"}
STEP, CELL = 30, 27  # pixels of a horizontal bar, and of a row of cells
NO_CAMPAIGN = "(no campaign)"

Spec = dict[str, Any]


def people(rows: pl.DataFrame) -> Spec:
    """Lines of the people active on a day, in 7 and in 28 days."""
    names = {"dau": "1 day", "wau": "7 days", "mau": "28 days"}
    long = rows.rename(names).unpivot(list(names.values()), index="day", variable_name="of", value_name="people")
    last = rows.row(0, named=True)
    text = f"Active people, {span(rows)}: {last['dau']:,} on the last day, {last['wau']:,} in the last 7 days, "
    text += f"{last['mau']:,} in the last 28."
    encoding = {
        "x": _days(rows),
        "y": {"field": "people", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "of", "type": "nominal", "legend": LEGEND, "sort": list(names.values())},
        "tooltip": [DAY_TOOLTIP, {"field": "of", "title": "In"}, _count("people", "People")],
    }
    mark = {"type": "line", "point": {"size": 14}, "strokeWidth": 2}
    return _chart(text, long, {"mark": mark, "encoding": encoding}, 220)


def lifecycle(rows: pl.DataFrame) -> Spec:
    """Bars of new and returning people above the line, and of people not seen since the day before below it."""
    kinds = {**LIFE, LOST: "dormant_persons"}
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
    returning = last["returning_persons"] + last["resurrecting_persons"]
    text = f"People, {span(rows)}: {last['new_persons']:,} new on the last day, {returning:,} returning, "
    text += f"{last['dormant_persons']:,} {LOST}."
    encoding = {
        "x": _days(rows),
        "y": {"field": "height", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "kind", "type": "nominal", "legend": LEGEND | PAIRS, "sort": list(kinds)},
        "order": {"field": "order"},
        "tooltip": [DAY_TOOLTIP, {"field": "kind", "title": "People who are"}, _count("people", "People")],
    }
    return _chart(text, long, {"mark": _day_bars(rows), "encoding": encoding}, 220)


def volume(rows: pl.DataFrame) -> Spec:
    """Bars of the events of a day, by channel."""
    rows = rows.with_columns(pl.col("channel").fill_null("(no channel)"))
    order = rows.group_by("channel").agg(pl.col("events").sum()).sort("events", descending=True)["channel"].to_list()
    text = f"Events, {span(rows)}: {total(rows, 'events'):,.0f}, most of them in channel {order[0]}."
    encoding = {
        "x": _days(rows),
        "y": {"field": "events", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "channel", "type": "nominal", "legend": LEGEND, "sort": order},
        "tooltip": [DAY_TOOLTIP, {"field": "channel", "title": "Channel"}, _count("events", "Events")],
    }
    return _chart(text, rows, {"mark": _day_bars(rows), "encoding": encoding}, 220)


def engagement(rows: pl.DataFrame) -> Spec:
    """Bars of the sessions that began on a day: engaged, bounced."""
    rows = rows.with_columns((pl.col("engaged_sessions") / pl.col("sessions")).alias("rate"))
    long = rows.rename({"engaged_sessions": "engaged", "bounces": "bounced"}).unpivot(
        ["engaged", "bounced"], index=["day", "rate"], variable_name="kind", value_name="count"
    )
    sessions, engaged = total(rows, "sessions"), total(rows, "engaged_sessions")
    text = f"Sessions, {span(rows)}: {sessions:,.0f}, of which {percent(engaged, sessions)} engaged."
    encoding = {
        "x": _days(rows),
        "y": {"field": "count", "type": "quantitative", "title": None, "axis": COUNT_AXIS},
        "color": {"field": "kind", "type": "nominal", "legend": LEGEND, "sort": ["engaged", "bounced"]},
        "tooltip": [
            DAY_TOOLTIP,
            {"field": "kind", "title": "Sessions"},
            _count("count", "Count"),
            {"field": "rate", "type": "quantitative", "title": "Engagement rate", "format": ".1%"},
        ],
    }
    return _chart(text, long, {"mark": _day_bars(rows), "encoding": encoding}, 220)


def conversion(rows: pl.DataFrame) -> Spec:
    """A bar for each campaign: the share of its sessions that converted."""
    rows = rows.select(
        pl.col("campaign").fill_null(NO_CAMPAIGN).alias("name"),
        (pl.col("converted_sessions") / pl.col("sessions")).alias("share"),
        (_format("converted_sessions") + " of " + _format("sessions")).alias("of"),
    )
    rows = _add_labels(rows, pl.col("of"))
    best = rows.sort("share", descending=True).row(0, named=True)
    text = f"Share of sessions that converted, by campaign; the highest is {best['name']} with {best['share']:.1%}."
    return _bars(text, rows, "Converted", ".0%")


def funnel(rows: pl.DataFrame) -> Spec:
    """A bar for each step: how many people reached it, as a share of the first step."""
    rows = rows.select(
        pl.col("event_type").alias("name"),
        (pl.col("persons") / pl.col("first_persons")).alias("share"),
        _format("persons").alias("of"),
    )
    rows = _add_labels(rows, pl.col("of"))
    text = "Funnel: " + ", ".join(f"{row['name']} {row['of']}" for row in rows.iter_rows(named=True)) + " people."
    return _bars(text, rows, "Of the first step", ".0%")


def retention(rows: pl.DataFrame, unit: str) -> Spec:
    """A cell for each cohort and N: the share of the cohort that returned, darker for more."""
    rows = rows.with_columns(
        (pl.col("retained_on") / pl.col("cohort_size")).alias("rate"),
        pl.col("cohort").map_elements(lambda day: f"{day:%-d %b}", pl.String).alias("name"),
    )
    again = rows.filter(pl.col("n") > 0)
    text = f"Retention of {rows['cohort'].n_unique()} cohorts, by the {unit} of the first visit"
    if again.height:
        returned = percent(total(again, "retained_on"), total(again, "cohort_size"))
        text += f": {returned} returned in a later {unit}, on average"
    least, most = min(again["rate"].to_list(), default=0.0), max(again["rate"].to_list(), default=1.0)
    least = max(0.0, 2 * least - most)  # keeps the lowest share visible
    order = {"field": "name", "type": "ordinal", "sort": rows["name"].unique(maintain_order=True).to_list()}
    shared = {
        "x": {"field": "n", "type": "ordinal", "title": f"{unit}s later", "axis": COHORT_AXIS},
        "y": order | {"title": f"first {unit}", "axis": {"labelOverlap": False}},
        "tooltip": [
            {"field": "name", "title": f"First {unit}"},
            _count("cohort_size", "People"),
            {"field": "n", "title": f"{unit.capitalize()}s later"},
            _count("retained_on", "Returned"),
            {"field": "rate", "type": "quantitative", "title": "Share", "format": ".1%"},
        ],
    }
    colour = {
        "field": "rate",
        "type": "quantitative",
        "legend": None,
        "scale": {"domain": [least, most or 1.0]},
    }
    # The first column is always 100 %: it shows the size of the cohort instead.
    size = {"field": "cohort_size", "type": "quantitative", "format": ",.0f"}
    share = {"field": "rate", "type": "quantitative", "format": ".0%"}
    label: Spec = {"type": "text", "fontSize": {"expr": "width < 420 ? 9 : 11"}}
    layers = [
        {"transform": [{"filter": "datum.n > 0"}], "mark": {"type": "rect"}, "encoding": {"color": colour}},
        {
            "transform": [{"filter": "datum.n > 0"}],
            "mark": label,
            "encoding": {"text": share, "color": _ink((least + most) / 2)},
        },
        {"transform": [{"filter": "datum.n == 0"}], "mark": label, "encoding": {"text": size}},
    ]
    return _chart(text + ".", rows, {"layer": layers, "encoding": shared}, CELL * rows["name"].n_unique())


def leaderboard(rows: pl.DataFrame) -> Spec:
    """A bar for each content item: its smoothed rate, with a line at the overall rate."""
    by = "engagement" if rows["overall_engagement_rate"].is_not_null().any() else "click_through"
    what, of = ("reactions", "views") if by == "engagement" else ("clicks", "impressions")
    overall = rows[f"overall_{by}_rate"][0]
    rows = rows.select(
        pl.col("content_id").alias("name"),
        pl.col(f"smoothed_{by}_rate").alias("share"),
        (_format(what) + f" {what}, " + _format(of) + f" {of}").alias("of"),
    )
    rows = _add_labels(rows, pl.lit(None, pl.String))
    text = f"Content by smoothed {by.replace('_', '-')} rate: {rows['name'][0]} is first; {overall:.1%} overall."
    spec = _bars(text, rows, "Smoothed rate", ".0%")
    once: Spec = {"values": [{}]}
    at: Spec = {"x": {"datum": overall}}
    line = {"data": once, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": at}
    label = at | {"y": {"value": 0}, "text": {"value": f"overall {overall:.1%}"}}
    spec["layer"] += [line, {"data": once, "mark": {"type": "text", "dy": -9}, "encoding": label}]
    return spec


def segments(rows: pl.DataFrame) -> Spec:
    """A bar for each purchase segment: the number of buyers, by currency."""
    order = [
        name for name in ("champion", "loyal", "new", "promising", "at_risk", "lost") if name in set(rows["segment"])
    ]
    counts = rows.group_by("segment").agg(pl.col("buyers").sum())
    sizes = dict(zip(counts["segment"], counts["buyers"], strict=True))
    text = "Buyers by segment: " + ", ".join(f"{name} {sizes[name]:,}" for name in order) + "."
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
    return _chart(text, rows, {"mark": {"type": "bar"}, "encoding": encoding}, STEP * len(order))


def span(rows: pl.DataFrame) -> str:
    """The first and the last day of the rows, as text."""
    days = sorted(rows["day"].to_list())
    first, last = days[0], days[-1]
    return f"{first}" if first == last else f"{first} to {last}"


def _days(rows: pl.DataFrame) -> Spec:
    """The x axis: from the first day of the rows to the last, days without rows in between included."""
    first, last = min(rows["day"].to_list()), max(rows["day"].to_list())
    days = (last - first).days + 1
    step = -(-days // LABELS)
    labels = [_utc(last - timedelta(days=back)) | {"hours": 12} for back in range(0, days, step)]
    domain = [_utc(first), _utc(last + timedelta(days=1))]
    return DAY | {"axis": DAY_AXIS | {"values": labels[::-1]}, "scale": {"domain": domain}, "bandPosition": 0.5}


def _day_bars(rows: pl.DataFrame) -> Spec:
    """The mark of bars by day: few days have bars that do not touch."""
    days = (max(rows["day"].to_list()) - min(rows["day"].to_list())).days + 1
    return {"type": "bar", "width": {"band": min(0.9, 0.3 + 0.06 * days)}}


def mark_in_progress(spec: Spec, days: list[date]) -> Spec:
    """The chart with a band behind these days, which are labelled as in progress."""
    if not days:
        return spec
    data: Spec = {"values": [{"day": f"{day}", "text": "in progress" if day == days[-1] else ""} for day in days]}
    x: Spec = spec["encoding"]["x"]
    whole_day = {key: x[key] for key in x if key != "bandPosition"}
    band = {"data": data, "mark": {"type": "rect", "color": "band"}, "encoding": {"x": whole_day}}
    edge = {key: x[key] for key in x if key not in ("timeUnit", "bandPosition")}
    label = {
        "data": data,
        "transform": [{"calculate": f"toDate(datum.day) + {DAY_MS}", "as": "end"}],
        "mark": {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11},
        "encoding": {"x": edge | {"field": "end"}, "y": {"value": 0}, "text": {"field": "text"}},
    }
    colour = spec["encoding"]["color"]
    above = colour | {"legend": colour["legend"] | {"offset": 24}}  # the label has a line of its own
    inner = {"mark": spec["mark"], "encoding": spec["encoding"] | {"color": above}}
    outer = {key: spec[key] for key in spec if key not in inner}
    text = f"{outer['description']} In progress: {', '.join(map(str, days))}."
    return outer | {"description": text, "layer": [band, inner, label]}


def _utc(day: date) -> Spec:
    return {"year": day.year, "month": day.month, "date": day.day, "utc": True}


def total(rows: pl.DataFrame, column: str) -> float:
    """The sum of a column."""
    return sum(rows[column].to_list())


def percent(part: float, whole: float) -> str:
    """A share as text; `none` if the whole is zero."""
    return f"{part / whole:.1%}" if whole else "none"


def to_records(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows for JSON: a day as text."""
    return rows.with_columns(pl.col(pl.Date).dt.to_string()).to_dicts()


def _format(column: str) -> pl.Expr:
    return pl.col(column).map_elements(lambda number: f"{number:,.0f}", pl.String)


def _add_labels(rows: pl.DataFrame, behind: pl.Expr) -> pl.DataFrame:
    """The rows with the label of each bar: its share, and the counts behind it."""
    share = pl.col("share").map_elements(lambda share: f"{share:.1%}", pl.String)
    return rows.with_columns(pl.concat_str(share, behind, separator="  ·  ", ignore_nulls=True).alias("label"))


def _bars(description: str, rows: pl.DataFrame, title: str, form: str) -> Spec:
    """A horizontal bar for each `name`, as long as its `share`, followed by its `label`."""
    longest = max((share for share in rows["share"] if share is not None), default=0) or 1
    names, room = rows["name"].to_list(), 16 + 7 * max(map(len, rows["label"]))
    encoding = {
        "y": {"field": "name", "type": "ordinal", "sort": names, "title": None, "axis": {"labelLimit": 110}},
        "x": {
            "field": "share",
            "type": "quantitative",
            "title": None,
            # The label of the longest bar has room, and the bar a third of the width at least.
            "scale": {"domainMin": 0, "domainMax": {"expr": f"{longest} * width / max(width / 3, width - {room})"}},
            "axis": {"values": _ticks(longest), "format": form},
        },
        "tooltip": [
            {"field": "name", "title": "Name"},
            {"field": "share", "type": "quantitative", "title": title, "format": ".1%"},
            {"field": "of", "title": "Counts"},
        ],
    }
    text = {"type": "text", "align": "left", "dx": 6, "fontSize": 12}
    layers = [
        {"mark": {"type": "bar"}, "encoding": encoding},
        {"mark": text, "encoding": encoding | {"text": {"field": "label"}}},
    ]
    return _chart(description, rows, {"layer": layers}, STEP * rows.height)


def _ticks(longest: float) -> list[float]:
    step = next(
        step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if longest / step <= 4
    )
    return [round(step * n, 6) for n in range(5) if step * n <= longest * 1.01]


def _count(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "format": ",.0f"}


def _ink(middle: float) -> Spec:
    """The colour of a text on a cell: that of the page on a strong cell."""
    return {"condition": {"test": f"datum.rate > {middle:.6f}", "value": "onstrong"}, "value": "onweak"}


def _chart(text: str, rows: pl.DataFrame, drawn: Spec, height: int) -> Spec:
    return {
        "$schema": SCHEMA,
        "description": text,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": to_records(rows)},
        **drawn,
    }
