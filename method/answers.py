"""Taking the answer out of what a model wrote."""

from __future__ import annotations

import re

from method.values import TASK_TYPES, canonical

# A closing sentence ("So the answer is 5.") outranks a passing mention ("suppose the answer is 5").
_ANSWER_IS = r"the\s+(?:final\s+|correct\s+|right\s+)?answer\s+is\b(?!\s*:?\s*not\s+(?:clear|known|given))"
_CLOSING = re.compile(rf"\b(?:therefore|thus|hence|so)\s*,?\s*{_ANSWER_IS}", re.IGNORECASE)
_MENTION = re.compile(rf"\b{_ANSWER_IS}", re.IGNORECASE)
_OTHER = re.compile(r"####|\\boxed(?=\{)|(?:^|\n)\W*(?:final\s+)?answer\W*:", re.IGNORECASE)
_NEXT_QUESTION = re.compile(r"\s(?:Question|Knowledge|Task)\s*:")

_PLACEHOLDER = re.compile(r"<\s*(?:y|x|answer|your answer)\s*>|\[\s*(?:your )?answer\s*\]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[A-Z])")
_ABBREVIATION = re.compile(r"(?:^|[\s.(])(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|[A-Z])$")
_WRAPPERS = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("$", "$"),
)
_MAX_ANSWER_CHARS = 1000


def _clean(tail: str) -> str | None:
    """Cuts what follows a marker down to the answer; None where nothing that could be one is left."""
    tail = tail.strip(" \t\r\n:\u200b\ufeff").split("\n", 1)[0].strip()
    if (
        boxed := re.match(r"\$*(?:\\boxed)?\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", tail)
        if "\\boxed" in tail or tail[:1] == "{"
        else None
    ):
        # "{ { }" is an answer of its own in bracket tasks: only words or digits make it a box.
        tail = boxed[1] if re.search(r"[^\W_]", boxed[1]) else tail
    for end in _SENTENCE_END.finditer(tail):
        if not _ABBREVIATION.search(tail[: end.start()]):
            tail = tail[: end.start()]
            break
    before = None
    while tail != before:
        before = tail
        tail = tail.strip().rstrip(".,;:!?").strip()
        for left, right in _WRAPPERS:
            if len(tail) > len(left) + len(right) and tail.startswith(left) and tail.endswith(right):
                tail = tail[len(left) : -len(right)]
        # An opening mark whose closing one fell to the cut.
        tail = tail.removeprefix("**").removesuffix("**")
    words = tail.casefold().split()
    loops = len(words) >= 4 and len(set(words)) == 1 and words[0].isalnum()
    if (
        loops
        or not re.search(r"[^\W_]|[()\[\]{}<>]", tail)
        or _PLACEHOLDER.fullmatch(tail)
        or len(tail) > _MAX_ANSWER_CHARS
    ):
        return None
    return tail


def _find(text: str) -> tuple[int, str] | None:
    """Finds the last marker that an answer follows: where the marker starts, and the answer."""
    for pattern in (_CLOSING, _MENTION, _OTHER):
        first = pattern.search(text)
        if not first:
            continue
        # A student that goes on to invent the next question must not be scored on that one.
        runaway = _NEXT_QUESTION.search(text, first.end())
        part = text[: runaway.start()] if runaway else text
        for m in reversed(list(pattern.finditer(part))):
            following = pattern.search(part, m.end())
            answer = _clean(part[m.end() : following.start() if following else len(part)])
            if answer is not None:
                return m.start(), answer
    return None


def extract_answer(text: str | None, task_type: str = "auto", *, mode: str = "cot") -> str | None:
    """Takes the answer out of a model's output.

    The answer is what follows the last "Therefore, the answer is" (or So, Thus, Hence); failing that, the last "the
    answer is", "Answer:", "####" or boxed value. It ends with its line or sentence.

    Args:
        text: what the model wrote.
        task_type: "auto" returns the answer as written, without final punctuation and quotes; "number", "choice",
            "boolean", "brackets" and "text" return it in canonical form (see method.values).
        mode: "cot" wants one of the markers; "answer" takes the first line where there is none.

    Returns:
        The answer, or None for empty or degenerate output and for text that is not of the type.

    Raises:
        ValueError: the task type is unknown.
    """
    if task_type not in TASK_TYPES:
        raise ValueError(f"task_type {task_type!r} is unknown: use one of {', '.join(TASK_TYPES)}")
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text or "")
    found = _find(text)
    answer = found[1] if found else _clean(text) if mode == "answer" else None
    return None if answer is None else canonical(answer, task_type)


def split_rationale(text: str | None) -> tuple[str, str | None]:
    """Splits a model's output into the reasoning before the answer sentence, and the answer (None without one)."""
    text = text or ""
    found = _find(text)
    if found is None:
        return text.strip(), None
    return text[: found[0]].rstrip(), found[1]
