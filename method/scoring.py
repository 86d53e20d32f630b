"""Whether an answer is right: accuracy by exact match of the extracted choice, content or number.

No answer is ever right by default: None, empty text and ambiguous text are wrong whatever the gold answer is.
"""

from __future__ import annotations

import re

from method import numbers, values
from method.answers import extract_answer


def _same_text(predicted: str, gold: str) -> bool:
    formula = values.read_formula(gold)
    if formula is not None:
        # "f(x) = x + 1" says "x + 1", "x \in (0, 1)" the interval, and "16\pi square units" the number.
        bare = predicted if "=" in formula else re.split(r"(?<![<>!])=|\\in\b|∈", predicted)[-1]
        bare = re.sub(r"\$?\s+(?:\\text\{\s*)?(?:units|(?:square|cubic)\s+[a-z]+)\}?\$?$", "", bare)
        return formula in (values.read_formula(predicted), values.read_formula(bare))
    wanted, got = values.read_text(gold), values.read_text(predicted)
    if wanted is None or got is None:
        return wanted is None and predicted.split() == gold.split() and bool(predicted.split())
    if wanted == got:
        return True
    # "a, b, and c" is the list "a b c", unless "and" is itself a member.
    if "and" not in wanted.split() and wanted == " ".join(t for t in got.split() if t != "and"):
        return True
    gold_quantity = numbers.quantity(gold)
    if gold_quantity is None:
        return False
    got_quantity = numbers.quantity(predicted)
    if got_quantity is not None and got_quantity[1]:
        return got_quantity == gold_quantity
    # The value alone is enough: "18th" where the 18th century is asked for.
    if got_quantity is not None:
        return got_quantity[0] == gold_quantity[0]
    return values.type_of(predicted) == "number" and numbers.read_number(predicted) == gold_quantity[0]


def _same_choice(predicted: str, wanted: str, question: str) -> bool:
    letter, options = values.read_choice(predicted), values.options_as_written(question)
    if letter is None or (options and letter not in options):
        # "Rome, which ..." is "Rome", unless an option has the reason in it.
        for said in (predicted, values.REASON.split(predicted, maxsplit=1)[0]):
            content = values.read_text(said)
            # "B Rome" is both; without the option's text, "A cat" would be a letter.
            matching = [
                key
                for key, text in options.items()
                if content in (own := values.read_text(text), f"{key[1].lower()} {own}", f"{own} {key[1].lower()}")
            ] or [key for key, text in options.items() if _same_value(said, text)]
            if matching:
                return matching == [wanted]
        return False
    said = values.option_text(predicted)
    # "(A) Rome" where Rome is (B) says two things.
    contradicts = said is not None and any(
        values.read_text(text) == said for key, text in options.items() if key != letter
    )
    return letter == wanted and not (contradicts and values.read_text(options.get(letter, "")) != said)


def _same_value(predicted: str, text: str) -> bool:
    value = numbers.read_number(text) if values.type_of(text) == "number" else None
    return (value is not None and numbers.read_number(predicted) == value) or _same_text(predicted, text)


def is_correct(predicted: str | None, gold: str, task_type: str = "auto", *, question: str = "") -> bool:
    """Tells whether an extracted answer equals the gold answer.

    Args:
        predicted: the answer as extract_answer returned it; None is wrong.
        gold: the gold answer.
        task_type: one of method.values.TASK_TYPES; "auto" takes the type of the gold answer.
        question: the question, so that an option's text counts as its letter and the reverse.

    Returns:
        True where both say the same: numbers by value ("$18.00" is "18", units aside), choices by letter ("option A" is
        "(A)"), verdicts by word ("not valid" is "invalid", "true" is not "yes"), brackets without regard to blanks,
        words without regard to case, commas and quotes.

    Raises:
        ValueError: the task type is unknown.
    """
    if task_type not in values.TASK_TYPES:
        raise ValueError(f"task_type {task_type!r} is unknown: use one of {', '.join(values.TASK_TYPES)}")
    if predicted is None or not predicted.strip() or not gold.strip():
        return False
    kind = values.type_of(gold) if task_type == "auto" else task_type
    if kind == "choice":
        wanted = values.read_choice(gold)
        return wanted is not None and _same_choice(predicted, wanted, question)
    if kind == "text":
        if _same_text(predicted, gold):
            return True
        chosen = values.options_of(question).get(values.read_choice(predicted) or "") if question else None
        return chosen is not None and chosen == values.read_text(gold)
    wanted = values.canonical(gold, kind)
    if wanted is None:  # the declared type does not fit this gold answer: compare as text rather than never
        return _same_text(predicted, gold)
    if kind == "boolean" and wanted not in ("yes", "no"):
        # "No, the argument is invalid."
        predicted = re.sub(r"^\W*(?:yes|no)\s*[,.;:]\s*", "", predicted, flags=re.IGNORECASE) or predicted
    return values.canonical(predicted, kind) == wanted


def score_output(
    output: str | None, gold: str, task_type: str = "auto", *, question: str = "", mode: str = "cot"
) -> bool:
    """Scores a whole model output: extract_answer, then is_correct."""
    return is_correct(extract_answer(output, mode=mode), gold, task_type, question=question)
