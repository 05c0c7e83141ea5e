"""Guess the amount, its unit and its currency from the record: codes in small letters, minor units, names, prices.

Nothing is taken from a list that the record does not show: a currency that it does not state is not guessed.
"""

import re
from collections import Counter
from typing import Any

from pipelines.apps.mapping.currencies import CODES, DIGITS, currency_in
from pipelines.apps.mapping.found import FAILING, Guess, Guesses, attempt, because, join_names
from pipelines.apps.mapping.profile import Seen
from pipelines.apps.mapping.trial import trial

_MINOR = re.compile(r"(^|_)(cents|minor|pence|minor_units?|in_cents)(_|$)")
_UNIT_PRICE = re.compile(r"unit_?price|price_?(per|each)|item_?price|einzelpreis|prix_unitaire|preco_unitario")
_COMMA = re.compile(r"[+-]?[\d.' ]*\d,\d{1,2}\D{0,4}")
_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+")
_OF_NUMBERS = " \u00a0\u2009\u202f\u2212\u20190123456789.,'()+-"
MOST_CURRENCIES = 60


def guess_currency(found: Guesses, name: str) -> None:
    """Guess the path whose values are codes, in any letters; by its values if no name suggests it."""
    named = found.candidates(name)
    others = [seen for seen in found.unused() if seen not in named and seen.share > 0.5 and _known(seen) == 1]
    for seen in (*named, *others[:1]):
        tried = trial(seen.values, name, {})
        if tried.filled and tried.failing <= FAILING:
            attempt(found, name, seen, {}, [])
            return
        if _known(seen) > 1 - FAILING and len(seen.counts) <= MOST_CURRENCIES:
            blanks = any(text != text.strip() for text in seen.counts)
            if attempt(found, name, seen, {"functions": [*(["trim"] if blanks else []), "upper"]}, []):
                return
        found.refused[seen.spelled] = because(tried, "no currency")
    if (value := found.made.get("value")) and (code := currency_in(str(value.stated.get("path", "")))):
        found.made[name] = Guess(name, {"const": code}, 1.0, (f"from the name {value.stated['path']}",))


def _known(seen: Seen) -> float:
    total = sum(seen.counts.values())
    return sum(count for text, count in seen.counts.items() if text.strip().upper() in CODES) / total if total else 0.0


def guess_value(found: Guesses, name: str) -> None:
    """Guess the amount as it is written; `settle_money` looks at its unit when the currency is known."""
    candidates = found.candidates(name)
    for at, seen in enumerate(candidates):
        if seen.kinds["boolean"]:
            continue
        if attempt(found, name, seen, number_form(seen, name), candidates[at + 1 :]):
            dotted = [text for text in seen.counts if "." in text]
            is_plain = seen.kinds["text"] and "functions" not in found.made[name].stated
            if dotted and is_plain and all(_GROUPS.fullmatch(text) for text in dotted):
                _note(
                    found,
                    name,
                    f"{dotted[0]} is read as {dotted[0].lstrip('+')} units: check that it is not a thousand",
                )
            return
        if any(_COMMA.fullmatch(text) for text in seen.counts):
            example = next(text for text in seen.counts if _COMMA.fullmatch(text))
            found.refused[seen.spelled] += f"; {example!r} has a decimal comma"


def number_form(seen: Seen, name: str) -> dict[str, Any]:
    """Return how the numbers of a path are written: of the ways to read them the first of those that fail least."""
    units = {text.strip(_OF_NUMBERS) for text in seen.counts} - {""}
    unit: dict[str, Any] = {"unit": units.pop()} if len(units) == 1 else {}
    ways: list[dict[str, Any]] = [{}, {"functions": ["number"]}, {"functions": [{"number": {"decimal": ","}}]}]
    if unit:
        ways += [{"functions": [{"number": unit}]}, {"functions": [{"number": {"decimal": ",", **unit}}]}]
    best, least = ways[0], None
    for way in ways:
        failed = trial(seen.values, name, way).failed
        if least is None or failed < least:
            best, least = way, failed
        if not failed:
            break
    return best


def settle_money(found: Guesses) -> None:
    """State minor units as such, and the amount of several at a unit price as a product."""
    value, currency, quantity = (found.made.get(name) for name in ("value", "currency", "quantity"))
    if value is None or "path" not in value.stated:
        return
    seen = next(each for each in found.seen if each.spelled == value.stated["path"])
    if seen.kinds.keys() == {"integer"} or all(re.fullmatch(r"-?\d+", text) for text in seen.counts):
        _settle_minor_units(found, value, currency, seen)
    elif quantity and "path" in quantity.stated and any(_UNIT_PRICE.search(each) for each in seen.names):
        parts = [{"path": quantity.stated["path"]}, {"path": seen.spelled} | _functions(value)]
        note = f"{quantity.stated['path']} times {seen.spelled}, which is a unit price by its name"
        found.made["value"] = value._replace(stated={"product": parts}, notes=(note,))


def _settle_minor_units(found: Guesses, value: Guess, currency: Guess | None, seen: Seen) -> None:
    named = any(_MINOR.search(each) for each in seen.names)
    in_small_letters = currency is not None and "upper" in currency.stated.get("functions", ())
    if not named and not in_small_letters:
        if currency is not None and seen.counts and all(len(text.lstrip("-")) >= 3 for text in seen.counts):
            _note(found, "value", "whole numbers: check that they are not in minor units (cents)")
        return
    why = "its name says minor units" if named else "whole numbers beside a currency in small letters are minor units"
    notes = (f"{why}: check it", *value.notes)
    codes = _codes_of(found, currency)
    rare = {digits: sorted(code for code in codes if DIGITS.get(code.upper(), 2) == digits) for digits in (0, 3)}
    part = {"path": seen.spelled} | _functions(value)
    found.made["value"] = value._replace(stated=_product(part, 2), notes=notes)
    if currency is None or "path" not in currency.stated or not any(rare.values()):
        return
    path = currency.stated["path"]
    usual = sorted(code for code in codes if DIGITS.get(code.upper(), 2) == 2)
    rules: dict[str, dict[str, Any]] = (
        {"in_hundredths": {"match": {path: {"not": [*rare[0], *rare[3]]}}}} if usual else {}
    )
    if rare[0]:
        rules["in_whole_units"] = {"match": {path: rare[0]}, "fields": {"value": part}}
    if rare[3]:
        rules["in_thousandths"] = {"match": {path: rare[3]}, "fields": {"value": _product(part, 3)}}
    found.rules = rules
    if not usual:
        found.made["value"] = found.made["value"]._replace(stated=part)
    others = join_names([*rare[0], *rare[3]])
    _note(found, "value", f"{others} have another number of decimals: see the rules under events")


def _product(part: dict[str, Any], digits: int) -> dict[str, Any]:
    return {"product": [part, {"const": round(10**-digits, digits)}]}


def _functions(guess: Guess) -> dict[str, Any]:
    return {"functions": guess.stated["functions"]} if "functions" in guess.stated else {}


def _codes_of(found: Guesses, currency: Guess | None) -> Counter[str]:
    if currency is None or "path" not in currency.stated:
        return Counter()
    return next(each.counts for each in found.seen if each.spelled == currency.stated["path"])


def _note(found: Guesses, name: str, note: str) -> None:
    found.made[name] = found.made[name]._replace(notes=(*found.made[name].notes, note))
