"""Answers: the rows of a question as keys and values of the page.

now.people                 of a question with one row
contents.0.views           of a list, by the place of the row; `contents.0.pace` is added
minutes.1772359200.events  of a series, by the second in which the minute begins
now.asked, now.written     when it was asked, and the newest row behind it, in seconds since 1970
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

import polars as pl

from pipelines.apps.live.labels import label
from pipelines.apps.live.question import Question

Value = str | int | float | None
Keys = dict[str, Value]

SMALL = 20  # fewer in either of two times: their pace would say nothing
PACES = {"contents": ("views", "views_before"), "campaigns": ("last_hour", "hour_before")}


def keys_of(question: Question, rows: pl.DataFrame, times: Mapping[str, datetime | date], asked: float) -> Keys:
    """The keys of one question's answer; `asked` in seconds since 1970."""
    found: Keys = {f"{question.name}.asked": round(asked, 3)}
    written = rows["written"].max() if "written" in rows.columns and rows.height else None
    if isinstance(written, datetime):
        found[f"{question.name}.written"] = round(written.timestamp(), 3)
    shown = rows.drop("written", strict=False)
    for place, row in enumerate(shown.iter_rows(named=True)):
        prefix = _prefix(question, place, row)
        found |= {f"{prefix}.{name}": _value(value) for name, value in row.items() if name != "minute"}
        if question.name in PACES:
            found[f"{prefix}.pace"] = _pace(question.name, row, times)
    if question.many:
        found[f"{question.name}.rows"] = rows.height
    return found


def _prefix(question: Question, place: int, row: Mapping) -> str:
    if not question.many:
        return question.name
    return f"{question.name}.{row.get('minute', place)}"


def _value(value: object) -> Value:
    if isinstance(value, str):
        return label(value)
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, int | float) or value is None else str(value)


def _pace(name: str, row: Mapping, times: Mapping[str, datetime | date]) -> float | None:
    """How many times as many as in the time before; None of few."""
    new, old = (float(row[column] or 0) for column in PACES[name])
    share = 1.0
    if name == "contents":  # an hour so far, against a whole one
        now, begun = times["now"], times["this_hour"]
        assert isinstance(now, datetime) and isinstance(begun, datetime)
        share = max((now - begun).total_seconds(), 60.0) / 3600
    if old < SMALL or new < SMALL:
        return None
    return round(new / share / old, 2)
