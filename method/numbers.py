"""Numbers in what people and models write: in digits and in words, with units, in LaTeX."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_WORDS_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_UNITS = {word: value for value, word in enumerate(_WORDS_TO_NINETEEN)}
_TENS = {word: 10 * (i + 2) for i, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VULGAR = {c: f" {unicodedata.normalize('NFKC', c).replace(chr(0x2044), '/')}" for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}

_SPELLED = re.compile(rf"\b({'|'.join((*_UNITS, *_TENS, *_SCALES))})\b")
_UNIT_NAMES = {
    "feet": "foot", "ft": "foot", "inches": "inch", "in": "inch", "yd": "yard", "yds": "yard", "mi": "mile", "cm": "centimeter",
    "mm": "millimeter", "m": "meter", "km": "kilometer", "kg": "kilogram", "g": "gram", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second", "sec": "second",
    "percent": "%", "degree": "°", "degrees": "°", "l": "liter", "ml": "milliliter", "mph": "mph", "am": "am", "pm": "pm",
    "centimetres": "centimeter", "metres": "meter", "kilometres": "kilometer",
}  # fmt: skip
_LENGTH = r"(?:[mck]?m|in|ft|yd|mi|unit|inch|foot|feet|yard|mile|(?:centi|milli|kilo)?met(?:er|re))(?:e?s)?"
_MAY_FOLLOW = {
    "unit": ("ten", "hundred", "scale"),
    "ten": ("hundred", "scale"),
    "hundred": ("unit",),
    "scale": ("unit", "ten", "hundred"),
}

_TYPED = (("π", "pi"), ("∞", "infty"), ("≤", "<="), ("≥", ">="))
_SUPERSCRIPT = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_ROOT = re.compile(r"√\s*(\d+|\w|\([^()]*\))|\bsqrt\(([^()]*)\)")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*(?:×|\\times|\\cdot|[x*])\s*10\s*\^\s*\{?\s*(-?\d{1,2})\s*\}?(?!\w)")
_LATEX = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\(?:left|right|!|,|;|:|quad)(?![a-z])", ""),
        (r"\{,\}", ","),
        (r"\\[dt]frac", r"\\frac"),
        (r"(?<=\d)\s*\\frac", r" \\frac"),
        (r"\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\1/\2"),
        (r"\\frac\s*(\d)\s*(\d)", r"\1/\2"),
        (r"\^\{?\\circ\}?", "°"),
        (r"\\sqrt(\w)", r"\\sqrt{\1}"),
        (r"\^\{(\w|\d+)\}", r"^\1"),
        (r"\\leq?(?![a-z])", "<="),
        (r"\\geq?(?![a-z])", ">="),
        (r"\\(?:text|textbf|mbox|boxed|mathrm|mathbf)\{([^{}]*)\}", r"\1"),
    )
)

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
# A number may carry a sign and a currency; "4-5" and "R2D2" must not read as -5 and 2.
NUMBER = re.compile(
    rf"(?<![\w.,)])(?P<sign>[-+]\s?)?(?:US)?[$€£]?\s?(?P<sign2>[-+])?"
    rf"(?:(?P<whole>\d+)\s+(?:and\s+)?(?P<mnum>\d+)/(?P<mden>\d+)|(?P<num>{_DECIMAL})\s?/\s?(?P<den>\d+(?:\.\d+)?)"
    rf"|(?P<dec>{_DECIMAL})(?P<exp>[eE][-+]?\d{{1,2}}(?!\w))?)(?!\d|[.,]\d)"
    rf"(?P<scale>\s(?:{'|'.join(_SCALES)})\b)?",
    re.ASCII,
)
# What may follow the value in a sentence without being part of it: "24 legs in 3 groups", "24 (3 * 8)".
_AFTERTHOUGHT = re.compile(
    r"\s*(?:\(|,?\s(?:in|for|from|per|after|when|if|as|which|so|out\s+of|of\s+the|with|not|rather|instead|i\.e|that\s+is)\b"
    r"|\s-+\s+[a-z]{2}|(?<=\w):\s+(?!\d[\d.,]*\W*$))",
    re.IGNORECASE,
)
# A second number of the same standing: "20 in January and 30 in February", "18 if it rains, otherwise 20".
_SECOND = re.compile(
    r"\botherwise,?\s+\$?\d|\band\s+\$?\d[\d,.]*\s+(?:\w+\s+)?(?:in|for|if|when|from)\b", re.IGNORECASE
)
_FORMULA = re.compile(
    r"sqrt|\^|\bpi\b|\d(?:pi|[abiknqrtuvwxyz])\b|\b(?:log|ln|sin|cos|tan)[\s_({]*\d"
    r"|(?<![\w'])[a-z]\s*[-+*]\s*\d|\d\s*[-+*]\s*[b-hj-z](?![\w'])",
    re.IGNORECASE,
)
_REASON = re.compile(r"[\s,(]+(?:because|since)\b.*", re.DOTALL)
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z]\w*(?:\s[^<>]*=[^<>]*|\s*/?)>")  # "<m and k>" bounds m
# What an arrow leads to is the result, as what stands behind "=" is.
_ARROW = re.compile(r"(?:[-=]+>|[→⇒]|\b(?:long)?rightarrow\b)(?=\s*[-+]?[$€£]?\s*\.?\d)", re.IGNORECASE)
# What bounds a value does not state it.
_BOUND = re.compile(r"(?:<(?![^<>]*>)|[>≠±]|\bpm\b)\s?=?\s*[-+$]?\d")
_BOUND_WORDS = re.compile(
    r"\b(?:(?:more|less|fewer|greater|higher|lower)\s+than|over|under|above|below|twice|double|triple|half(?:\s+of)?)\s*$",
    re.IGNORECASE,
)
_FRACTION_WORD = re.compile(r"\b(?:half|halves|quarter|thirds?|fourths?|fifths?)\b", re.IGNORECASE)
DENIED = re.compile(r"\b(?:not|cannot|never)\b|n't\b", re.IGNORECASE)
_MAX_DIGITS = 40


def plain_text(text: str) -> str:
    """Returns text in one Unicode form, with ASCII minus signs and fractions and without LaTeX and markdown marks."""
    for char, spelled in _VULGAR.items():
        text = text.replace(char, spelled)
    text = re.sub("(?<=\\d)[\u00a0\u2009\u202f](?=\\d{3}(?!\\d))", "", text)  # thin blanks between thousands
    text = _SUPERSCRIPT.sub(lambda m: f"^{m.group()}", text)
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    text = re.sub("[\u2212\u2010-\u2014]", "-", text).replace("\u2019", "'").replace("\u2018", "'")
    text = _ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text)
    text = _POWER_OF_TEN.sub(r"e\1", text)
    for char, typed in _TYPED:
        text = text.replace(char, typed)
    if "\\" in text or "{" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return text.replace("\\", "").replace("**", "").strip()


def _numbers_in(text: str) -> list[Fraction]:
    values: list[Fraction] = []
    for m in NUMBER.finditer(text):
        if len(m.group()) > _MAX_DIGITS:
            continue
        try:
            if m["whole"]:
                value = int(m["whole"]) + Fraction(int(m["mnum"]), int(m["mden"]))
            elif m["num"]:
                value = Fraction(m["num"].replace(",", "")) / Fraction(m["den"])
            else:
                value = Fraction(m["dec"].replace(",", "") + (m["exp"] or ""))
            value *= _SCALES[m["scale"].strip().lower()] if m["scale"] else 1
        except ZeroDivisionError:
            continue
        negative = "-" in ((m["sign"] or "") + (m["sign2"] or ""))
        values.append(-value if negative else value)
    return values


def spelled_numbers(text: str) -> list[int]:
    """Returns the numbers that a text spells in English words, in order ("two hundred and twenty-four" is 224)."""
    values: list[int] = []
    total = current = end = 0
    last = ""  # the kind of the word before, where it belongs to the same number
    for m in _SPELLED.finditer(text := text.lower()):
        word, gap = m[1], text[end : m.start()]
        kind = "unit" if word in _UNITS else "ten" if word in _TENS else "hundred" if word == "hundred" else "scale"
        joined = re.fullmatch(r"[-\s]+", gap) or (last in ("hundred", "scale") and re.fullmatch(r"\s+and\s+", gap))
        if (
            not joined
            or last not in _MAY_FOLLOW[kind]
            or (last == "ten" and kind == "unit" and not 0 < _UNITS[word] < 10)
        ):
            if last:
                values.append(total + current)
            total = current = 0
            last = ""
            if kind in ("hundred", "scale"):
                if not re.search(r"\ba\s+$", text[: m.start()]):
                    continue  # "3 hundred" is read as digits
                current = 1
        if kind == "scale":
            total, current = total + current * _SCALES[word], 0
        elif kind == "hundred":
            current *= 100
        else:
            current += _UNITS[word] if kind == "unit" else _TENS[word]
        last, end = kind, m.end()
    return [*values, total + current] if last else values


def all_numbers(text: str) -> list[Fraction]:
    """Returns every number that a text names, in digits or in words."""
    plain = plain_text(text)
    return _numbers_in(plain) + [Fraction(v) for v in spelled_numbers(plain)]


def read_number(text: str) -> Fraction | None:
    """Reads the one number that an answer states.

    Args:
        text: the answer, for instance "$1,234.50", "24 legs", "3 * 8 = 24", "2 1/2", "-7", "twenty-four".

    Returns:
        The exact value, or None where there is no number or more than one.
    """
    plain = re.sub(r"\b(?:minus|negative)\s+(?=[\d$])", "-", plain_text(text), flags=re.IGNORECASE)
    plain = re.sub(rf"(?<=\d)(\s*{_LENGTH})\^([23])(?!\w)", r" \1\2", plain)  # "18 cm^2"
    plain = _TAG.sub("", _LINE_BREAK.sub(" ", _CALCULATION.sub("", plain)))
    plain = _ARROW.sub("=", plain)
    first = NUMBER.search(plain)
    if first:
        plain = plain[: first.end()] + _REASON.sub("", plain[first.end() :])
    if _BOUND.search(plain):
        return None
    if "=" in plain:
        before, plain = (part.strip() for part in plain.rsplit("=", 1))
        if re.search(r",\s|\b(?:and|or)\b", before):
            return None
    first = NUMBER.search(plain)
    before = plain[: first.start()] if first else plain
    if DENIED.search(before) or (first and _BOUND_WORDS.search(before)):
        return None
    half = re.search(r"\s+and\s+(?:a|one)\s+half\b", plain)
    if half:
        plain = plain[: half.start()] + plain[half.end() :]
    if _FORMULA.search(plain.split(", ")[0]) or (not first and _FRACTION_WORD.search(plain)):
        return None
    values = _numbers_in(plain)
    if (
        len(set(values)) > 1
        and not _SECOND.search(plain)
        and (first := NUMBER.match(plain))
        and (cut := _AFTERTHOUGHT.search(plain, first.end()))
    ):
        values = _numbers_in(plain[: cut.start()])
    if not values and not any(c.isdigit() for c in plain):
        sign = -1 if re.match(r"(?:minus|negative)\b", plain, re.IGNORECASE) else 1
        values = [Fraction(sign * v) for v in spelled_numbers(plain)]
    if half:
        values = [value + Fraction(1, 2) for value in values]
    # Two mentions may be a restatement ("24, that is 24 legs"); more is a student that loops.
    return values[0] if len(set(values)) == 1 and len(values) <= 2 else None


def format_number(value: Fraction) -> str:
    """Writes a number canonically: an integer, a finite decimal where there is one, else a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    scaled = str(abs((value * 10**digits).numerator)).rjust(digits + 1, "0")
    return f"{'-' if value < 0 else ''}{scaled[:-digits]}.{scaled[-digits:]}"


def quantity(text: str) -> tuple[Fraction, str] | None:
    """Splits "66 feet" into its value and its unit in singular ("foot"); None where the text is not of that form."""
    plain = plain_text(text).strip(" .")
    m = NUMBER.match(plain)
    if not m or not re.fullmatch(r"\s*(?!pi\b)[A-Za-z°%][A-Za-z°%²³/ .-]{0,40}", plain[m.end() :]):
        return None
    values = _numbers_in(m.group())
    unit = re.sub(r"^(?:st|nd|rd|th)\b", "", rest := plain[m.end() :].casefold()).strip(" .")
    if (rest == unit or len(unit) == 1) and unit.isalpha() and unit not in _UNIT_NAMES:
        return None  # "2x" and "2 x" are formulas
    unit = _UNIT_NAMES.get(unit, unit.removesuffix("s"))
    return (values[0], unit) if values else None
