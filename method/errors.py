"""What kind of mistake a wrong answer is. Kinds are told apart by what can be checked; all else is "other"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from method import values
from method.answers import split_rationale
from method.arithmetic import equations
from method.normalise import normalise_fact
from method.numbers import all_numbers, read_number, spelled_numbers

CUT_OFF, NO_ANSWER, FORMAT = "cut off", "no answer", "format"
ARITHMETIC, FACT, OTHER = "wrong arithmetic", "wrong fact", "other"
KINDS = (CUT_OFF, NO_ANSWER, FORMAT, ARITHMETIC, FACT, OTHER)

_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_BARE_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w%])")  # not "15th", not "x2"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_ALIKE = 0.6
"""Share of an entry's words that a sentence must have, in their places, to be about the same thing."""


def classify(answer: Mapping[str, Any]) -> str:
    """Tells the kind of a wrong answer.

    Args:
        answer: a record of an evaluation: "text" (all that the student wrote), "answer" (what was read out of it, or
            None), "gold", "question", "entries" (what it read: each with its "text") and "truncated" (whether it was cut
            off at the most tokens); the last two may be absent.

    Returns:
        One of KINDS, the first that holds:

        * "cut off": it came to no answer in the tokens that it may write.
        * "no answer": nothing that could be one was written.
        * "format": what was written is no value of the gold answer's type, or has the right value in a form that does
          not count.
        * "wrong arithmetic": an equation of the rationale is false (see method.arithmetic).
        * "wrong fact": the rationale says something else than an entry that was read, or names a number that is neither
          in the question nor in an entry nor calculated. Only where entries were read.
        * "other": wrong reasoning, the wrong entry, and whatever cannot be told.
    """
    text, gold, question = str(answer.get("text") or ""), str(answer["gold"]), str(answer.get("question") or "")
    said = answer.get("answer")
    if not said and answer.get("truncated"):
        return CUT_OFF
    if not said:
        last = text.strip().rsplit("\n", 1)[-1]
        return FORMAT if _states(last, gold, values.type_of(gold)) else NO_ANSWER
    if _misformed(said, gold, question):
        return FORMAT
    rationale = split_rationale(text)[0]
    if any(not equation.holds for equation in equations(rationale)):
        return ARITHMETIC
    entries = [str(entry["text"]) for entry in answer.get("entries") or ()]
    if entries and _wrong_fact(rationale, question, entries, said):
        return FACT
    return OTHER


def _misformed(said: str, gold: str, question: str) -> bool:
    kind = values.type_of(gold)
    if kind == "text":
        return not re.search(r"\bnot?\b", said) and _states(said, gold, kind)
    if kind == "choice" and values.read_text(said) in values.options_of(question).values():
        return False  # another option, by its text
    return values.canonical(said, kind) is None


def _states(text: str, gold: str, kind: str) -> bool:
    """Whether a text has the value somewhere in it."""
    if kind == "number":
        return read_number(gold) in all_numbers(text)
    if kind == "choice":
        letter = values.read_choice(gold)
        return letter is not None and letter in text
    wanted, got = (values.read_text(gold) or "").split(), (values.read_text(text) or "").split()
    return bool(wanted) and any(got[i : i + len(wanted)] == wanted for i in range(len(got) - len(wanted) + 1))


def _wrong_fact(rationale: str, question: str, entries: Sequence[str], said: str) -> bool:
    told = [sentence for entry in entries for sentence in _sentences(entry)]
    known = _numbers(f"{question}\n" + "\n".join(entries)) | _numbers(said)
    known |= {Fraction(n) for n in spelled_numbers(question)} | {Fraction(n) for n in (0, 1, 2)}
    same = {normalise_fact(sentence) for sentence in told}
    for sentence in _sentences(rationale):
        numbers, calculated = _numbers(sentence), equations(sentence)
        if normalise_fact(sentence) not in same and not calculated:
            if any(_contradicts(sentence, other) for other in told):
                return True
            if numbers and not numbers & known:
                return True
        known |= numbers
    return False


def _contradicts(sentence: str, entry: str) -> bool:
    """Whether a sentence is an entry's with one thing otherwise, beginning alike: "Crabs have 8 legs", "Crabs have 10 legs"."""
    a, b = _words(sentence), _words(entry)
    head = _alike(a, b)
    tail = _alike(a[head:][::-1], b[head:][::-1])
    changed, original = a[head : len(a) - tail], b[head : len(b) - tail]
    if head and changed + original == ["not"]:
        return True
    return bool(head and changed and original) and head + tail >= _ALIKE * len(b)


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two sentences begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _words(sentence: str) -> list[str]:
    words = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", _THOUSANDS.sub("", sentence.casefold()))
    return words[1:] if words and words[0] in ("a", "an", "the") else words


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def _numbers(text: str) -> set[Fraction]:
    return {Fraction(number) for number in _BARE_NUMBER.findall(_THOUSANDS.sub("", text))}
