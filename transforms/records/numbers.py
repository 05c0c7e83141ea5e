"""Numbers as the column `value` holds them: NUMERIC, nine places, rounded as BigQuery rounds."""

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

from transforms.block import VALUE_DIGITS

_NINE_PLACES = Decimal("1E-9")
_WIDE = Context(prec=60, rounding=ROUND_HALF_UP)  # half away from zero


def to_nine_places(value: int | Decimal) -> Decimal | None:
    """The number rounded half away from zero, or None if it is not finite or has more than VALUE_DIGITS digits."""
    try:
        rounded = _WIDE.quantize(value, _NINE_PLACES)
    except InvalidOperation:
        return None
    return rounded if rounded.is_finite() and rounded.adjusted() < VALUE_DIGITS else None
