"""The fact table of the example, and what a person who knows it would answer.

Three families. Each question needs one or two facts and one easy step:

* ``legs``: "How many legs do 3 scorpions have?", "Counting one of each, how many legs do crabs and olms have together?"
* ``units``: "How many feet is 10 times a chain?"
* ``battles``: "In which century was the Battle of Pavia fought?", "Which year came 100 years after the Battle of Pavia?"

No answer stands in a fact that it needs: a fact in the knowledge base is never the answer itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
FACTS_FILE = FOLDER / "facts.jsonl"

SUMMARIES = {
    "legs": "Recall the leg count of each animal first, then multiply or add.",
    "units": "Recall the size of the old unit first, then multiply.",
    "battles": "Recall the date of the battle first, then take the step that is asked for.",
}


@dataclass(frozen=True)
class Fact:
    """A true fact from public knowledge.

    Attributes:
        id: ``<family>-<subject>``.
        family: legs, units or battles.
        subject: What it is about, as it stands in questions.
        value: The number that it states.
        unit: What the number counts.
        text: One short sentence.
        held_out: True where no training row needs it.
        citation: Where it can be looked up.
    """

    id: str
    family: str
    subject: str
    value: int
    unit: str
    text: str
    held_out: bool
    citation: str

    def with_value(self, value: int) -> str:
        """The sentence with another value."""
        return re.sub(rf"\b{self.value}\b", str(value), self.text, count=1)


@dataclass(frozen=True)
class Solution:
    """How a question is answered.

    Attributes:
        family: The family of the question.
        facts: The facts that it needs, in the order in which the rationale states them.
        rationale: The facts word for word, then the step. Without the closing "Therefore, ...".
        answer: The answer.
    """

    family: str
    facts: tuple[Fact, ...]
    rationale: str
    answer: str


@cache
def load_facts() -> tuple[Fact, ...]:
    """Reads ``facts.jsonl``, the whole table, in the file's order."""
    facts = []
    for line in FACTS_FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        source = row.pop("source")
        facts.append(Fact(**row, citation=f"{source['title']}, {source['url']}"))
    return tuple(facts)


@cache
def _by_subject(family: str) -> dict[str, Fact]:
    return {fact.subject.lower(): fact for fact in load_facts() if fact.family == family}


def ordinal(number: int) -> str:
    """1 -> "1st", 12 -> "12th"."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def century(year: int) -> str:
    """1066 -> "11th century". A year that ends in 00 closes its century."""
    return f"{ordinal((year + 99) // 100)} century"


# A step: the values of the facts and the other numbers of the question -> (sentence, answer).
_Step = Callable[[list[int], list[int]], tuple[str, str]]


def _times(values: list[int], numbers: list[int]) -> tuple[str, str]:
    product = numbers[0] * values[0]
    return f"{numbers[0]} times {values[0]} is {product}.", str(product)


def _plus(values: list[int], numbers: list[int]) -> tuple[str, str]:
    total = values[0] + values[1]
    return f"{values[0]} plus {values[1]} is {total}.", str(total)


def _later(values: list[int], numbers: list[int]) -> tuple[str, str]:
    year = values[0] + numbers[0]
    return f"{values[0]} plus {numbers[0]} is {year}.", str(year)


def _century(values: list[int], numbers: list[int]) -> tuple[str, str]:
    return f"{values[0]} is in the {century(values[0])}.", century(values[0])


@dataclass(frozen=True)
class _Form:
    """A way of asking. ``{n}`` stands for a number, ``{a}`` and ``{b}`` for subjects, ``{unit}`` for the fact's unit."""

    family: str
    template: str
    step: _Step

    @property
    def pattern(self) -> re.Pattern[str]:
        text = re.escape(self.template)
        for name, expression in (("n", r"\d+"), ("a", r".+?"), ("b", r".+?"), ("unit", r".+?"), ("art", r"an?")):
            text = text.replace(re.escape("{" + name + "}"), f"(?P<{name}>{expression})")
        return re.compile(text, re.IGNORECASE)


FORMS: dict[str, tuple[_Form, ...]] = {
    "legs": (
        _Form("legs", "How many legs do {n} {a} have?", _times),
        _Form("legs", "Counting one of each, how many legs do {a} and {b} have together?", _plus),
    ),
    "units": (
        _Form("units", "How many {unit} is {n} times {art} {a}?", _times),
        _Form("units", "What is {n} times {art} {a} in {unit}?", _times),
    ),
    "battles": (
        _Form("battles", "In which century was the Battle of {a} fought?", _century),
        _Form("battles", "The Battle of {a} belongs to which century?", _century),
        _Form("battles", "Which year came {n} years after the Battle of {a}?", _later),
        _Form("battles", "What year is {n} years later than the Battle of {a}?", _later),
    ),
}
_COMPILED = tuple((form, form.pattern) for forms in FORMS.values() for form in forms)


def ask(form: _Form, facts: Sequence[Fact], number: int | None = None) -> str:
    """Writes a question.

    Args:
        form: One of ``FORMS``.
        facts: One or two facts, as the form needs.
        number: The number in the question, where the form has one.

    Returns:
        The question's text.
    """
    first = facts[0].subject
    values = {"a": first, "n": number, "unit": facts[0].unit, "art": "an" if first[0] in "aeiouAEIOU" else "a"}
    if len(facts) > 1:
        values["b"] = facts[1].subject
    return form.template.format(**values)


def solve(question: str, values: Mapping[str, int] | None = None) -> Solution | None:
    """Answers a question of the families.

    Args:
        question: Its text. Space and capitals do not matter.
        values: Other values to believe, by fact id: what the answer would be if they were so.

    Returns:
        The solution; None where the question is of no family or its subject is not in the table.
    """
    text = " ".join(question.split())
    for form, pattern in _COMPILED:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        groups = match.groupdict()
        table = _by_subject(form.family)
        subjects = [groups[name].lower() for name in ("a", "b") if groups.get(name)]
        if any(subject not in table for subject in subjects):
            continue
        facts = tuple(table[subject] for subject in subjects)
        if groups.get("unit") and groups["unit"].lower() != facts[0].unit.lower():
            continue
        believed = [dict(values or {}).get(fact.id, fact.value) for fact in facts]
        numbers = [int(groups["n"])] if groups.get("n") else []
        sentence, answer = form.step(believed, numbers)
        stated = [fact.with_value(value) for fact, value in zip(facts, believed, strict=True)]
        return Solution(form.family, facts, " ".join([*stated, sentence]), answer)
    return None


def fact_in(text: str, facts: Iterable[Fact]) -> tuple[Fact, int] | None:
    """Finds which of ``facts`` a text states, with whatever value it gives.

    Args:
        text: An entry's text, which may have been edited.
        facts: The facts to look for.

    Returns:
        The fact and the value that the text gives; None where it states none of them.
    """
    for fact in facts:
        before, after = re.split(rf"\b{fact.value}\b", fact.text, maxsplit=1)
        found = re.search(re.escape(before) + r"(\d+)" + re.escape(after), text, re.IGNORECASE)
        if found:
            return fact, int(found[1])
    return None


@cache
def _easy_values() -> tuple[int, ...]:
    def easy(value: int) -> bool:
        head = str(value).rstrip("0")
        return value < 13 or (len(head) <= 2 and all(digit in "01234" for digit in head))

    return tuple(value for value in range(2, 20_000) if easy(value))


def other_value(fact: Fact, turn: int, *, avoid: Iterable[int] = ()) -> int:
    """Another plausible value for a fact.

    Args:
        fact: The fact.
        turn: Any number; the same one gives the same value.
        avoid: Values that will not do, beside the true one.

    Returns:
        A value of the kind that other facts of the family have.
    """
    if fact.family == "legs":
        choices = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 30]
    elif fact.family == "units":
        # Numbers that are easy to double, for a small model; within a factor of five, so that it stays plausible.
        choices = [value for value in _easy_values() if fact.value <= 5 * value and value <= 5 * fact.value]
    else:
        # Another century; two hundred years on it is still the same millennium.
        choices = [year for year in range(1007, 1800, 13) if century(year) != century(fact.value) and year % 100]
    ruled_out = {fact.value, *avoid}
    choices = [value for value in choices if value not in ruled_out]
    return choices[turn % len(choices)]
