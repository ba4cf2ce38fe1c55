"""Words and signs that may stand beside a number: units, currencies, multipliers.

Two spellings of one unit are the same unit; nothing is converted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MULTIPLIERS: Mapping[str, int] = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
# Glued to a number: "3k"; the others only behind a currency, since 5M and 5m may be metres.
SHORT: Mapping[str, int] = {"k": 10**3}
SHORT_MONEY: Mapping[str, int] = {
    "k": 10**3,
    "m": 10**6,
    "mn": 10**6,
    "b": 10**9,
    "bn": 10**9,
    "t": 10**12,
    "tn": 10**12,
}
ORDINALS = frozenset({"st", "nd", "rd", "th"})

# Behind a number these make it another one, which is not worked out.
_CHANGING = """
dozen dozens score gross pi squared cubed factorial choose mod modulo half halves third thirds
quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth
ninths tenth tenths hundredth hundredths thousandth thousandths millionth millionths hundreds
thousands millions billions trillions lakh lakhs crore crores quadrillion am pm
"""
CHANGING = frozenset(_CHANGING.split())

_NAMES = """
$ dollar dollars usd us$ buck bucks | ¢ cent cents | € euro euros eur | £ gbp | ¥ yen jpy |
₹ rupee rupees inr rs | yuan cny rmb | franc francs chf | rouble roubles ruble rubles rub |
° deg degree degrees | rad radian radians | °c celsius | °f fahrenheit | kelvin kelvins |
second seconds sec secs | minute minutes min mins | hour hours hr hrs | day days | week weeks |
month months | year years yr yrs | decade decades | century centuries |
metre metres meter meters | inch inches | foot feet ft | yard yards yd | mile miles mi |
gram grams gramme grammes | tonne tonnes | ton tons | ounce ounces oz | stone |
litre litres liter liters | gallon gallons gal | pint pints | quart quarts | cup cups |
acre acres | hectare hectares ha | newton newtons | joule joules | calorie calories cal |
kcal kilocalorie kilocalories | watt watts | volt volts | ampere amperes amp amps |
hertz hz | pascal pascals pa | mole moles mol | byte bytes | bit bits | mph | kph | kwh |
unit units | point points | piece pieces | person persons people | time times | item items
"""
_PREFIXES = {"kilo": "k", "centi": "c", "milli": "m", "mega": "M", "deci": "d"}
_SIZES = {"metre": "m", "gram": "g", "litre": "l", "watt": "W", "hertz": "Hz"}
_LETTERS = {
    "s": "second",
    "h": "hour",
    "m": "metre",
    "g": "gram",
    "l": "litre",
    "L": "litre",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
}
_AMBIGUOUS = {"pound", "pounds", "lb", "lbs"}  # of money or of weight


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for line in _NAMES.split("|"):
        spellings = line.split()
        table |= dict.fromkeys(spellings, spellings[0])
    for size, symbol in _SIZES.items():
        for prefix, letter in _PREFIXES.items():
            names = {name for name, unit in table.items() if unit == size and len(name) > 2}
            unit = prefix + size
            table |= {prefix + name: unit for name in names} | {letter + symbol: unit}
    return table | _LETTERS


_UNITS = _table()
_POWER = re.compile(
    r"(?:((?i:square|cubic|sq|cu))\b\.?)?\s*([^\W\d_]+|°[CF]|[$¢€£¥₹°])\s*(?:\^?\{?([23])\}?)?"
)


def unit_named(text: str) -> str | None:
    """The usual name of a unit such as `dollars`, `m^2`, `km/h` or `square feet per day`.

    An empty one for what may be two units; None for what is none.
    """
    above, slash, below = re.sub(r"\s+(?:per|an?)\s+", "/", text.strip()).partition("/")
    top = _power(above)
    if not slash or top is None:
        return top
    bottom = _power(below)
    return None if bottom is None else f"{top}/{bottom}"


def _power(text: str) -> str | None:
    match = _POWER.fullmatch(text.strip())
    if match is None:
        return None
    kind, name, exponent = match.groups()
    if name.lower() in _AMBIGUOUS:
        return ""
    # Symbols of one letter as they are written: 5M is not five metres.
    unit = _UNITS.get(name) or (_UNITS.get(name.lower()) if len(name) > 1 else None)
    if unit is None or (kind and exponent):
        return None
    power = exponent or {"sq": "2", "cu": "3"}.get((kind or "")[:2].lower(), "")
    return unit + power
