"""The currencies of ISO 4217 in use, and their decimals."""

import re
from typing import Final


def _listed(text: str) -> set[str]:
    return set(text.split())


_WHOLE = _listed("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF")
_THOUSANDTHS = _listed("BHD IQD JOD KWD LYD OMR TND")
DIGITS: Final = dict.fromkeys(_WHOLE, 0) | dict.fromkeys(_THOUSANDTHS, 3)  # 2 for the others
CODES: Final = set(DIGITS) | _listed(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP"
    " CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR"
    " JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN"
    " NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP"
    " SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW"
)
_WORDS = _listed("ALL TOP CUP")  # codes that are words of names, too

_UNITS = _listed("in cents minor pence unit units")


def currency_in(name: str) -> str | None:
    """Return the code that is a word of a name: USD of `price_usd` and `amountUSD`."""
    words = re.split(r"[^A-Za-z]+", re.sub(r"([a-z])([A-Z]{3})$", r"\1_\2", name))
    return next((word.upper() for word in words if word.upper() in CODES - _WORDS), None)


def without_unit(name: str) -> str:
    """Return a name in snake case without its unit: `price` of `price_usd`, `amount` of `amount_in_cents`."""
    words = [word for word in name.split("_") if word.upper() not in CODES - _WORDS and word not in _UNITS]
    return "_".join(words) or name
