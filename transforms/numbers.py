"""Numbers as the column `value` holds them: NUMERIC, nine places, rounded as BigQuery rounds."""

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, InvalidOperation

VALUE_DIGITS = 18  # before the point: NUMERIC holds 29, so sums of a hundred billion values still fit

_NINE_PLACES = Decimal("1E-9")
_HALF_AWAY, _DOWN = Context(prec=60, rounding=ROUND_HALF_UP), Context(prec=60, rounding=ROUND_FLOOR)


def to_nine_places(value: int | Decimal) -> Decimal | None:
    """The number rounded half away from zero, or None if it is not finite or has more than VALUE_DIGITS digits."""
    return _quantized(value, _HALF_AWAY)


def floor_to_nine_places(value: int | Decimal) -> Decimal | None:
    """The greatest number of nine places that is not above, for counts of time; None as by `to_nine_places`."""
    return _quantized(value, _DOWN)


def _quantized(value: int | Decimal, context: Context) -> Decimal | None:
    try:
        rounded = context.quantize(value, _NINE_PLACES)
    except InvalidOperation:
        return None
    return rounded if rounded.is_finite() and rounded.adjusted() < VALUE_DIGITS else None
