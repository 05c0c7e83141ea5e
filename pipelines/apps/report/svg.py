"""Charts by day as SVG without a script: they fill any width, and a title says the numbers under the pointer.

The plot is stretched to the width of its container, a day being DAY units wide; labels stand beside it, where nothing
is stretched. Colours are classes of the page's style: c1 to c8.
"""

from collections.abc import Callable, Sequence
from datetime import date
from html import escape
from typing import NamedTuple

from pipelines.apps.report.window import Window

DAY, HEIGHT, TOP = 10, 180, 8
LABELS, MONTHS = 5, 4  # of a scale of days, of months
FEW_DAYS = 3  # up to, bars are slim
SLIM_DAYS = 62  # above, bars touch
POINT_DAYS = 14  # up to, lines have points


class Series(NamedTuple):
    """What is drawn of each day: numbers by the window's days, None where there is none; negative ones below zero."""

    name: str
    values: Sequence[float | None]


class Scale(NamedTuple):
    """The vertical scale: from `low` to `high`, with a line at each tick."""

    low: float
    high: float
    ticks: list[float]
    digits: int = 1  # of a place: fewer where there are many

    def y(self, value: float) -> float:
        """Where a value is, from the top."""
        return round(TOP + (HEIGHT - TOP) * (self.high - value) / ((self.high - self.low) or 1), self.digits)


def lines(window: Window, series: Sequence[Series], progress: Sequence[date], form: Callable[[float], str]) -> str:
    """A line for each series, broken where a day has no value."""
    scale = scale_of([value for each in series for value in each.values if value is not None])
    marks = [_line(window, scale, number, each.values) for number, each in enumerate(series, 1)]
    return _framed(window, scale, "".join(marks), series, progress, form)


def forecast(window: Window, series: Sequence[Series], form: Callable[[float], str]) -> str:
    """Lines of what happened and of what is expected, and an area between the ends of the interval: the four series."""
    happened, expected, low, high = series
    scale = scale_of([value for each in series for value in each.values if value is not None])
    ends = [
        (DAY * n + DAY // 2, scale.y(least), scale.y(most))
        for n, (least, most) in enumerate(zip(low.values, high.values, strict=True))
        if least is not None and most is not None
    ]
    around = [*((x, top) for x, _, top in ends), *((x, bottom) for x, bottom, _ in reversed(ends))]
    area = "L".join(f"{x} {y:g}" for x, y in around)
    marks = [f'<path class="band" d="M{area}z"/>'] if around else []
    marks += [_line(window, scale, number, each.values) for number, each in enumerate((happened, expected), 1)]
    return _framed(window, scale, "".join(marks), series, (), form)


def _line(window: Window, scale: Scale, number: int, values: Sequence[float | None]) -> str:
    path, points = [], []
    for n, value in enumerate(values):
        if value is None:
            continue
        joined = n and values[n - 1] is not None
        x, y = DAY * n + DAY // 2, scale.y(value)
        path.append(f"{'L' if joined else 'M'}{x} {y:g}")
        alone = not joined and (n + 1 == len(values) or values[n + 1] is None)
        if alone or window.days <= POINT_DAYS:
            points.append(f"M{x} {y:g}h0")  # a line of no length has round ends
    pointed = f'<path class="point s{number}" d="{"".join(points)}"/>' if points else ""
    return f'<path class="line s{number}" d="{"".join(path)}"/>{pointed}'


def stacked(window: Window, series: Sequence[Series], progress: Sequence[date], form: Callable[[float], str]) -> str:
    """Bars of each day, one series on the other; what is negative stands below the line."""
    above, below = [0.0] * window.days, [0.0] * window.days
    margin = 3 if window.days <= FEW_DAYS else 1 if window.days <= SLIM_DAYS else 0
    tops: list[list[tuple[int, float, float]]] = []
    for each in series:
        pieces = []
        for n, value in enumerate(each.values):
            if value:
                stack = above if value > 0 else below
                pieces.append((n, stack[n], stack[n] + value))
                stack[n] += value
        tops.append(pieces)
    scale = scale_of([*above, *below])._replace(digits=1 if margin else 0)
    marks = []
    for number, pieces in enumerate(tops, 1):
        path = [
            f"M{DAY * n + margin} {scale.y(start):g}V{scale.y(end):g}h{DAY - 2 * margin}V{scale.y(start):g}z"
            for n, start, end in pieces
        ]
        marks.append(f'<path class="c{number}" d="{"".join(path)}"/>')
    return _framed(window, scale, "".join(marks), series, progress, form)


def scale_of(values: Sequence[float]) -> Scale:
    """A scale from zero, or the lowest value, to the highest, with few round ticks."""
    low, high = min([0.0, *values]), max([0.0, *values])
    span = (high - low) or 1.0
    step = next(
        step * 10**power
        for power in range(-6, 19)
        for step in (1, 2, 5)
        if span / (step * 10**power) <= 4
    )  # fmt: skip
    ticks = [n * step for n in range(int(low // step), int(high // step) + 2) if low <= n * step <= high]
    return Scale(low, high or (0.0 if low else 1.0), ticks)


def short(number: float) -> str:
    """A number in few characters: 1.2k, 3M."""
    size = abs(number)
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{name}"
    return f"{size:.3g}"


def legend(names: Sequence[str]) -> str:
    """The names of the series with their colours."""
    items = "".join(f'<li class="k{number}">{escape(name)}</li>' for number, name in enumerate(names, 1))
    return f'<ul class="legend">{items}</ul>'


def _framed(
    window: Window,
    scale: Scale,
    marks: str,
    series: Sequence[Series],
    progress: Sequence[date],
    form: Callable[[float], str],
) -> str:
    wide = DAY * window.days
    bands = [("gap", (first - window.first).days, days) for first, days in window.holes()]
    bands += [("progress", (day - window.first).days, 1) for day in progress if day >= window.first]
    drawn = "".join(
        f'<rect class="{kind}" x="{DAY * n}" width="{DAY * days}" height="{HEIGHT}"/>' for kind, n, days in bands
    )
    rules = "".join(
        f'<path class="{"zero" if tick == 0 else "rule"}" d="M0 {scale.y(tick):g}H{wide}"/>' for tick in scale.ticks
    )
    y_labels = "".join(f'<text x="40" y="{scale.y(tick) + 4:g}">{short(tick)}</text>' for tick in scale.ticks)
    return (
        f'<div class="plot"><svg class="y" width="44" height="{HEIGHT + 8}" aria-hidden="true">{y_labels}</svg>'
        f'<svg class="marks" viewBox="0 0 {wide} {HEIGHT + 2}" preserveAspectRatio="none" height="{HEIGHT + 2}">'
        f"{drawn}{rules}{marks}{_titles(window, series, form)}</svg>"
        f'<svg class="x" height="18" aria-hidden="true">{_day_labels(window)}</svg></div>'
    )


def _titles(window: Window, series: Sequence[Series], form: Callable[[float], str]) -> str:
    """What stands under the pointer: the numbers of a day; of a long window those of each seventh."""
    step = 1 if window.days <= 3 * 31 else 7
    made = []
    for n in range(0, window.days, step):
        values = [(each.name, each.values[n]) for each in series]
        said = "; ".join(f"{name} {form(abs(value))}" for name, value in values if value is not None)
        text = f"{window.day(n):%a %-d %b %Y}: {said or 'no events'}"
        width = DAY * min(step, window.days - n)
        made.append(f'<rect x="{DAY * n}" width="{width}" height="{HEIGHT}"><title>{escape(text)}</title></rect>')
    return f'<g class="under">{"".join(made)}</g>'


def _day_labels(window: Window) -> str:
    if window.days <= 3 * 31:
        step = -(-window.days // LABELS)
        shown = list(range(window.days - 1, -1, -step))[::-1]
        names = [f"{window.day(n):%-d %b}" for n in shown]
    else:
        firsts = [n for n in range(window.days) if window.day(n).day == 1]
        step = -(-len(firsts) // MONTHS)
        shown = firsts[::step]
        names = [f"{window.day(n):%b %Y}" for n in shown]
    made = []
    for place, (n, name) in enumerate(zip(shown, names, strict=True)):
        at = 100 * (n + 0.5) / window.days
        anchor = "end" if at > 94 else "middle"
        kind = ' class="odd"' if len(shown) > MONTHS and (len(shown) - 1 - place) % 2 else ""
        made.append(f'<text x="{at:.2f}%" y="13" text-anchor="{anchor}"{kind}>{name}</text>')
    return "".join(made)
