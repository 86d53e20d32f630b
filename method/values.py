"""Reading one answer as a value of a known type: number, choice, boolean, brackets or text.

A reader returns the value in one canonical form, or None where the text does not say exactly one such value. Ambiguous
text ("(A) and (B)", "yes or no", "16 to 24") is never resolved in the student's favour.
"""

from __future__ import annotations

import re

from method.numbers import DENIED, NUMBER, format_number, plain_text, quantity, read_number

TASK_TYPES = ("auto", "number", "choice", "boolean", "brackets", "text")

_LABEL_PAIRS = (("yes", "no"), ("true", "false"), ("valid", "invalid"), ("plausible", "implausible"))
_OPPOSITE = {a: b for pair in _LABEL_PAIRS for a, b in (pair, pair[::-1])}
LABELS = frozenset(_OPPOSITE)
_AFFIRMING = frozenset(yes for yes, _ in _LABEL_PAIRS)
# "no" that denies a thing, not the question: "no one told him", "no net movement"; not "no, it is" or "no wait".
_NO_SUCH = re.compile(r"no\s+(?!(?:it|they|that|this|he|she|we|you|i|there|wait|the|because|since|or|and)\b)[a-z]")

_BRACKETS = "()[]{}<>"
# Where a reason begins, in which other options may be named: "(A), because (B) is older".
REASON = re.compile(
    r"\b(?:i\.e|because|since|as|which|who|while|whereas|but|although|though|even\s+though|despite|unlike|(?:and\s+)?not|rather|instead)\b",
    re.IGNORECASE,
)
# With these a sentence that ends in a verdict gives none: "it is unclear whether it is valid".
_HEDGE = re.compile(
    r"\b(?:cannot|cant|doubt\w*|unclear|unsure|whether|if|impossible|nobody|unlikely|not the case|not sure)\b"
)
_NEXT_OPTION = re.compile(r"[.!?]\s+(?=\([A-Z]\)[^.!?]*\b(?:is|are|was|were)\b)")
_LONGEST_BARE = 60
_BETWEEN_WORDS = ("<", ">", "->", "→", "|")


def read_choice(text: str) -> str | None:
    """Reads the letter of a multiple-choice answer: "(A)", "A", "option A", "A. The owl", "(a)", "[A]" all give "(A)"."""
    plain = plain_text(text).strip(" \"'`*_.")
    plain = re.sub(r"^\[([A-Za-z])\]|^\(([A-Z])$", lambda m: f"({m[1] or m[2]})", plain)
    plain = re.sub(r"^not\s+\(?[A-Z]\)?,?\s+but\s+", "", plain)
    above = re.match(
        r"(?:none|all|both|neither)\s+of\s+the\s+(?:above|options|others|choices)[\s,.:-]*\(([A-Z])\)$",
        plain,
        re.IGNORECASE,
    )
    if above:
        return f"({above[1].upper()})"
    if re.match(r"(?:not|neither|none|all|both)\b", plain, re.IGNORECASE):
        return None
    plain = re.sub(
        r"^(?:the\s+)?(?:correct\s+|right\s+)?(?:(?:option|choice|answer|letter)(?:\s+is)?\s*:?\s+)+(?=\(?[A-Za-z]\b)",
        "",
        plain,
        flags=re.I,
    )
    bracketed = set(re.findall(r"(?<!\w)\(([A-Z])\)", plain))
    m = re.match(
        r"\(([A-Za-z])\)|([A-Za-z])(?:[).:](?=\s|$)|$|\s+-\s|\s+is\s+(?:the\s+)?(?:correct|right)\b)"
        r"|([A-Z])(?=,\s|\s\(|\s+(?:because|since|as|which|rather|not)\b)",
        plain,
    )
    if m:
        letter, rest = (m[1] or m[2] or m[3]).upper(), plain[m.end() :]
        if re.match(r"\s+(?:is|are)\s+(?:not|wrong|incorrect|false)\b", rest):
            return None
        # A sentence about other options that follows says nothing of this one: "(B). (A) is older."
        rest = _NEXT_OPTION.split(plain[m.end() - 1 :], maxsplit=1)[0][1:]
        reason = REASON.search(rest)
        if reason:
            rest = rest[: reason.start()]
        others = set(re.findall(r"(?<!\w)\(([A-Z])\)", rest)) - {letter}
        if others or re.match(r"\s*(?:or|and|,|/|&)\s*(?!a\s+[a-z])\(?[A-Za-z]\)?(?!\w)", rest):
            return None
        return f"({letter})"
    return f"({bracketed.pop()})" if len(bracketed) == 1 and not DENIED.search(plain) else None


def _holds(verdict: re.Match[str]) -> bool:
    """Whether a verdict, with its "not" and its label as groups, affirms."""
    return (verdict[2] in _AFFIRMING) != bool(verdict[1])


def read_boolean(text: str) -> str | None:
    """Reads a verdict: yes, no, true, false, valid, invalid, plausible or implausible, in lower case.

    The verdict must be the whole answer, or open it ("no, because ..."), or end it ("the argument is not valid").
    """
    plain = re.sub(r"[\"'`*]", "", plain_text(text)).casefold().strip(" .,!;:()[]")
    label = "|".join(sorted(LABELS, key=len, reverse=True))
    plain = plain.rsplit("=", 1)[-1].strip()  # "not True = False"
    m = re.fullmatch(rf"(?:(not)\s+)?(?:(?:deductively|logically)\s+)?({label})", plain)
    if not m:
        opened = re.match(
            rf"(?:(not)\s+)?({label})(?:\s*[,.;:!(-]\s*|\s+(?=(?:because|since|as|it|the|this|that|you|they|we|there|he|she)\b))",
            plain,
        )
        again = opened and re.match(rf"(?:or\s+)?(not\s+)?({label})\b", plain[opened.end() :])
        # "invalid (not valid)" says one thing twice, but a second yes or no may answer something else: "invalid? No, it is valid".
        twice = again and again[2] not in ("yes", "no") and _holds(opened) == _holds(again)
        # "yes, no one told him" has a "no" of another word.
        if opened and (not again or twice or _NO_SUCH.match(plain, opened.end())):
            m = opened
    if not m and len(set(re.findall(rf"\b(?:{label})\b", plain))) == 1 and not _HEDGE.search(plain):
        m = re.search(
            rf"\b(?:(?:is|are|(?<!may )(?<!might )(?<!could )be|answer|its)\s+(?:deductively\s+|also\s+)?(?:(not)\s+)?|(isnt|arent)\s+)(?:deductively\s+)?({label})$",
            plain,
        )
    if not m:
        return None
    denied, verdict = any(m.groups()[:-1]), m.groups()[-1]
    return _OPPOSITE[verdict] if denied else verdict


def read_brackets(text: str) -> str | None:
    """Reads a sequence of brackets, spaced by one blank; None where anything but brackets and separators is there."""
    bare = re.sub(r"[\s,\"'`.]", "", plain_text(text))
    return " ".join(bare) if bare and all(c in _BRACKETS for c in bare) else None


def read_text(text: str) -> str | None:
    """Reads words: lower case, without separators, quotes, outer punctuation and a leading article."""
    plain = re.sub(r"(?<!\d)0(?=\d/\d)", "", plain_text(text).casefold())  # "05/01/2021" is "5/1/2021"
    plain = re.sub(r"(?<=\d)\s*:\s*(?=\d)", ":", plain)
    tokens = [t.strip("\"'`“”‘’()[]{}.,;:!?*_") for t in re.split(r"[\s,;]+", plain)]
    tokens = [t for t in tokens if t and t not in _BETWEEN_WORDS] or [t for t in tokens if t]
    if len(tokens) > 1 and tokens[0] in ("the", "a", "an"):
        tokens = tokens[1:]
    return " ".join(tokens) or None


def type_of(gold: str) -> str:
    """Tells the task type from a gold answer."""
    plain = plain_text(gold)
    if re.fullmatch(r"\([A-Za-z]\)|[A-Z]", plain):
        return "choice"
    if plain.casefold().strip(".") in LABELS:
        return "boolean"
    if read_brackets(plain):
        return "brackets"
    m = NUMBER.match(plain)
    if m and re.fullmatch(r"\s?%?\$?\.?", plain[m.end() :]) and read_number(plain) is not None:
        return "number"
    return "text"


def options_as_written(question: str) -> dict[str, str]:
    """Returns the options of a multiple-choice question: canonical letter ("(A)") to its text."""
    # Behind the heading, where there is one: before it "I." and "V." number statements.
    question = re.split(r"(?m)^[^\S\n]*Options:", question)[-1]
    lines = re.findall(r"^[^\S\n]*(?:\(([A-Z])\)[^\S\n]*|([A-Z])[).][^\S\n]+)(\S.*?)[^\S\n]*$", question, re.MULTILINE)
    return {f"({bracketed or letter})": text for bracketed, letter, text in lines}


def options_of(question: str) -> dict[str, str]:
    """Returns the options of a multiple-choice question: canonical letter ("(A)") to its text in canonical form."""
    return {letter: read_text(text) or text for letter, text in options_as_written(question).items()}


def option_text(answer: str) -> str | None:
    """Returns what stands beside the letter of an answer such as "(A) The owl" or "The owl (A)", in canonical form; None where nothing does."""
    plain = plain_text(answer)
    m = re.match(r"\s*(?:\([A-Za-z]\)|[A-Za-z][).:,]|[A-Z](?=\s+\())\s*(\S.*)", plain) or re.match(
        r"(.*\S)\s*\([A-Z]\)\W*$", plain
    )
    return read_text(m[1]) if m else None


def read_formula(text: str) -> str | None:
    """Reads a formula, interval or tuple, without blanks and dollar signs; None where the text is none."""
    bare = re.sub(r"\\[()\[\]]", "", text.strip().strip("$").strip())
    plain = re.sub(r"\s+", "", plain_text(bare)).removesuffix(".")
    listed = re.fullmatch(r"[\[(][^()\[\],]+(?:,[^()\[\],]+)+[\])]", plain) and re.search(
        r"\d|infty|\b[A-Za-z]\b", plain
    )
    formula = re.search(
        r"[\^_+=*{}<>|]|[)\]]cup[(\[]|(?:sqrt|frac)(?=[({\d])|\d(?:pi|[a-z])\b|(?<![A-Za-z])[a-z]-\d|\d-[a-z](?![A-Za-z])",
        plain,
    ) and re.search(r"\w", plain)
    return plain if listed or (formula and quantity(text) is None) else None


def bare_value(text: str) -> bool:
    """Tells whether a text is nothing but a letter, a verdict, brackets or a number ("(A)", "option B", "no.", "$18.00")."""
    plain = re.sub(r"^(?:option|choice)\s+", "", plain_text(text).strip(" .!\"'`*"), flags=re.IGNORECASE)
    if len(plain) > _LONGEST_BARE:
        return False
    if re.fullmatch(r"\(?[A-Z]\)?", plain) or plain.casefold().strip("() ") in LABELS or read_brackets(plain):
        return True
    number = NUMBER.match(plain)
    return bool(number and re.fullmatch(r"\s?%?", plain[number.end() :]))


def canonical(text: str, task_type: str) -> str | None:
    """Returns an answer in the canonical form of a type, or None where it is not exactly one value of it.

    Args:
        text: the answer as it was written.
        task_type: one of TASK_TYPES; "auto" leaves the text as it is.

    Raises:
        ValueError: the type is unknown.
    """
    if task_type == "auto":
        return text
    if task_type == "number":
        value = read_number(text)
        return None if value is None else format_number(value)
    readers = {"choice": read_choice, "boolean": read_boolean, "brackets": read_brackets, "text": read_text}
    if task_type not in readers:
        raise ValueError(f"task_type {task_type!r} is unknown: use one of {', '.join(TASK_TYPES)}")
    return readers[task_type](text)
