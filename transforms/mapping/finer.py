"""Finer: times of a mapping that state more than the microseconds that a column holds."""

import polars as pl

from transforms.mapping.functions import decimal_of, texts_of
from transforms.records.patterns import are_finer
from transforms.records.times import EPOCH_UNITS, FINER, RFC3339

_BEHIND_MICROS = {  # digits of a count, as JSON writes it without an exponent
    "s": r"\.[0-9]{6}[0-9]*[1-9]",
    "ms": r"\.[0-9]{3}[0-9]*[1-9]",
    "us": r"\.[0-9]*[1-9]",
    "ns": r"[1-9][0-9]{0,2}(?:\.|$)|\.[0-9]*[1-9]",
}
_LONGEST = 60  # digits of a count that is written out


def finer_than_micros(values: pl.Series, form: str) -> pl.Series | None:
    """Return the rows (Boolean) of which digits that are not zero are cut off; None if there cannot be any.

    values  String, Int64 or Boolean, before they are read as times
    form    as in `to_time`
    """
    if values.dtype == pl.Int64 and form in (*EPOCH_UNITS, RFC3339):
        return (values % 1_000 != 0).fill_null(False) if form == "ns" else None
    texts = texts_of(values)
    if texts.null_count() == len(texts):
        return None
    if form in EPOCH_UNITS:
        return _written_out(texts).str.contains(_BEHIND_MICROS[form]).fill_null(False)
    return texts.str.contains(FINER).fill_null(False) if form == RFC3339 else are_finer(texts, form)


def _written_out(texts: pl.Series) -> pl.Series:
    """Numbers without exponents."""
    rows = texts.str.contains("[0-9.][eE]").fill_null(False).arg_true()
    return texts.clone().scatter(rows, [_plain(text) for text in texts[rows].to_list()]) if len(rows) else texts


def _plain(text: str) -> str:
    exact = decimal_of(text)
    return text if exact is None or abs(exact.adjusted()) > _LONGEST else format(exact, "f")
