"""From a prompt to an answer: the steps of each mode, and the answer in what was written."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from method.answers import extract_answer, split_rationale
from method.prompts import ANSWER_ONLY, TRIGGER, cascade_prompt
from services.student.engines.base import Completion, Decoding, Job, Model
from services.student.questions import Mode

CompleteOne = Callable[[Job], Awaitable[Completion]]
"""Completes one prompt."""
OnText = Callable[[str], None]
"""Is given the next characters; called from any thread."""
_ANSWER_TOKENS = 64
"""Of a cascade's tokens, at most so many are kept for the answer."""
_SEAM_TOKENS = 16
"""Tokens that a cascade's second prompt has beside the first one and the rationale: the words before the answer."""


@dataclass(frozen=True)
class Written:
    """What the student wrote, read.

    Attributes:
        rationale: How it got there.
        answer: The answer; empty where there is none.
        text: All of it.
        prompt_tokens: Tokens that it read, in all steps.
        completion_tokens: Tokens that it wrote, in all steps.
        truncated: Whether it was cut off.
        confidence: Geometric mean of the probabilities of the answer's tokens; 0 where there is no answer, or nobody
            wanted to know.
    """

    rationale: str
    answer: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    truncated: bool
    confidence: float = 0.0


def prompt_budget(mode: Mode, decoding: Decoding, context_length: int) -> int:
    """How many tokens a prompt may have, so that all that follows it fits the context."""
    return context_length - decoding.max_new_tokens - (_SEAM_TOKENS if mode == "cascade" else 0)


async def write(
    prompt: str, mode: Mode, decoding: Decoding, complete: CompleteOne, engine: Model, *,
    scored: bool = False, on_text: OnText | None = None,
) -> Written:  # fmt: skip
    """Writes an answer, in one step, or in two for a cascade.

    Args:
        prompt: The prompt; it has at most `prompt_budget` tokens.
        mode: Its mode.
        decoding: How to write.
        complete: Completes a prompt.
        engine: Counts tokens.
        scored: Whether to find out how sure the student is.
        on_text: Is given all of the text, piece by piece.
    """
    if mode == "cascade":
        return await _write_cascade(prompt, decoding, complete, engine, scored, on_text)
    stop_after = "" if mode in ANSWER_ONLY else TRIGGER
    completion = await complete(Job(prompt, decoding, stop_after=stop_after, scored=scored, on_text=on_text))
    text = completion.text
    rationale, answer = ("", extract_answer(text, mode="answer")) if mode in ANSWER_ONLY else split_rationale(text)
    return Written(
        rationale=rationale,
        answer=answer or "",
        text=text,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        truncated=completion.finish == "length",
        confidence=confidence(completion, answer or "", len(rationale)),
    )


async def _write_cascade(
    prompt: str, decoding: Decoding, complete: CompleteOne, engine: Model, scored: bool, on_text: OnText | None
) -> Written:
    kept = min(_ANSWER_TOKENS, max(1, decoding.max_new_tokens // 8))
    first = await complete(
        Job(
            prompt,
            replace(decoding, max_new_tokens=decoding.max_new_tokens - kept),
            stop_before=TRIGGER,
            on_text=on_text,
        )
    )
    head = f"{first.text} {TRIGGER}".lstrip()
    if on_text:
        on_text(head[len(first.text) :])
    written = Written(
        rationale=split_rationale(first.text)[0],
        answer="",
        text=head,
        prompt_tokens=first.prompt_tokens,
        completion_tokens=first.completion_tokens,
        truncated=True,
    )
    prompt = cascade_prompt(prompt, first.text)
    # Text that a model made of odd pieces may have more tokens when it is read than it had when it was written.
    room = min(decoding.max_new_tokens - first.completion_tokens, engine.context_length - engine.count_tokens(prompt))
    if room < 1:
        return written
    second = await complete(
        Job(
            prompt,
            replace(decoding, max_new_tokens=room),
            scored=scored,
            on_text=_led_by(" ", on_text) if on_text else None,
        )
    )
    answer = extract_answer(second.text, mode="answer") or ""
    return replace(
        written,
        answer=answer,
        text=f"{head} {second.text}".rstrip(),
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        truncated="length" in (first.finish, second.finish),
        confidence=confidence(second, answer, 0),
    )


def _led_by(lead: str, on_text: OnText) -> OnText:
    """The same, with something before the first piece."""
    leads = [lead]

    def send(piece: str) -> None:
        on_text((leads.pop() if leads else "") + piece)

    return send


def confidence(completion: Completion, answer: str, start: int) -> float:
    """How sure the student was: the geometric mean of the probabilities of the answer's tokens.

    Args:
        completion: With its tokens scored; else the confidence is 0.
        answer: The answer as it was read; "": the confidence is 0.
        start: Where in the text the answer sentence begins.
    """
    text, trigger = completion.text, completion.text.find(TRIGGER, start)
    start = trigger + len(TRIGGER) if trigger >= 0 else start
    # As a word where it is one: "a" is in "the answer is a" more than once.
    word = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)").search(text, start)
    first = word.start() if word else text.find(answer, start)
    if not answer or first < 0:
        return 0.0
    ends = [token.end for token in completion.tokens]
    scores = [
        token.log_probability
        for begin, token in zip([0, *ends], completion.tokens, strict=False)
        if begin < first + len(answer) and token.end > first
    ]
    return math.exp(sum(scores) / len(scores)) if scores else 0.0
