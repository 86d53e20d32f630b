"""What the stand-in says: scripted from the example's fact table, or replayed from recorded answers of a real LLM."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from examples.families.questions import SUMMARIES, Solution, fact_in, other_value, solve
from method.prompts import TRIGGER, read_messages

KINDS = ("rationale", "knowledge", "counterfactual")
# What chat templates of common models put behind a user's message.
_TEMPLATE_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "[/INST]", "</s>")


@dataclass(frozen=True)
class Ask:
    """A request, understood.

    Attributes:
        kind: rationale, knowledge or counterfactual.
        question: The question's text.
        answer: The gold answer, where the request shows it.
        entries: The numbered entries of a counterfactual request.
    """

    kind: str
    question: str
    answer: str = ""
    entries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lies:
    """Which untruths one answer is to have."""

    wrong_answer: bool = False
    wrong_fact: bool = False


class UnknownQuestion(LookupError):
    """The stand-in has no answer to the question."""


class Teacher(Protocol):
    """Writes the text of an answer."""

    def reply(self, ask: Ask, *, turn: int, lies: Lies) -> str:
        """Answers a request.

        Args:
            ask: The request.
            turn: A number that stands for the request; the same one gives the same text.
            lies: What is to be wrong about it.

        Raises:
            UnknownQuestion: There is no answer to this question.
        """


def understand(text: str) -> Ask:
    """Reads a request, as ``method.prompts`` writes them; any other text is taken for a bare question.

    Args:
        text: The last user message, or the whole prompt of a text-generation request.
    """
    start = text.find("Task: ")
    if start > 0:
        text = text[start:]
    for end in _TEMPLATE_ENDS:
        text = text.split(end, 1)[0]
    try:
        fields = read_messages([{"role": "user", "content": text}])
    except ValueError:
        return Ask("rationale", text.strip())
    lines = fields.get("entries", "").splitlines()
    entries = tuple(re.sub(r"^\s*\d+\.\s*", "", line) for line in lines if line.strip())
    kind = fields["task"] if fields["task"] in KINDS else "rationale"
    return Ask(kind, fields["question"], fields.get("answer", ""), entries)


def number_of(text: str) -> int:
    """A number that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def _json(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False)


class ScriptedTeacher:
    """Knows the example's fact table, and answers any question of its families truly."""

    def reply(self, ask: Ask, *, turn: int, lies: Lies) -> str:
        """See ``Teacher.reply``."""
        solution = solve(ask.question)
        if solution is None:
            raise UnknownQuestion(
                "the question is of none of the example's families, or its subject is not in the table"
            )
        if ask.kind == "knowledge":
            facts = [f.with_value(other_value(f, turn)) if lies.wrong_fact else f.text for f in solution.facts]
            return _json(summary=SUMMARIES[solution.family], knowledge=facts)
        if ask.kind == "counterfactual":
            return self._counterfactual(ask, solution, turn)
        if lies.wrong_answer:
            solution = self._changed(ask.question, {}, solution, 0, turn)
        return f"{solution.rationale} {TRIGGER} {solution.answer}."

    def _counterfactual(self, ask: Ask, solution: Solution, turn: int) -> str:
        # What the entries say counts, also where somebody has edited them.
        stated: dict[str, tuple[int, int]] = {}
        for index, entry in enumerate(ask.entries):
            found = fact_in(entry, solution.facts)
            if found and found[0].id not in stated:
                stated[found[0].id] = (index, found[1])
        present = [place for place, fact in enumerate(solution.facts) if fact.id in stated]
        if not present:
            # No entry matters to the answer, so nothing follows from a change: the answer stays, and the row is dropped.
            entry = ask.entries[0] if ask.entries else "There is no entry."
            text = f"{solution.rationale} {TRIGGER} {solution.answer}."
            return _json(entry_index=1, entry=entry, rationale=text, answer=solution.answer)
        place = present[turn % len(present)]
        fact = solution.facts[place]
        index, old = stated[fact.id]
        believed = {fact_id: value for fact_id, (_, value) in stated.items()}
        changed = self._changed(ask.question, believed, solution, place, turn // 7)
        new = changed_value(changed, place)
        entry = re.sub(rf"\b{old}\b", str(new), ask.entries[index], count=1)
        text = f"{changed.rationale} {TRIGGER} {changed.answer}."
        return _json(entry_index=index + 1, entry=entry, rationale=text, answer=changed.answer)

    @staticmethod
    def _changed(question: str, believed: dict[str, int], true: Solution, place: int, turn: int) -> Solution:
        """The solution with one fact changed, so that the answer is neither the true one nor the one believed."""
        fact = true.facts[place]
        now = solve(question, believed)
        assert now is not None
        for step in range(100):
            value = other_value(fact, turn + step, avoid=[believed.get(fact.id, fact.value)])
            changed = solve(question, {**believed, fact.id: value})
            if changed is not None and changed.answer not in (true.answer, now.answer):
                return changed
        raise UnknownQuestion("no other value changes the answer")


def changed_value(solution: Solution, place: int) -> int:
    """The value that a solution's rationale gives to its fact number ``place``."""
    found = fact_in(solution.rationale, [solution.facts[place]])
    assert found is not None
    return found[1]


_SENTENCE = re.compile(r"[^.\n]+(?:\.(?=\S)[^.\n]+)*[.\n]?")
_ANSWER = re.compile(r"(the answer is)\s+(.+?)\.?\s*$", re.IGNORECASE | re.DOTALL)


@dataclass
class ReplayTeacher:
    """Repeats recorded answers.

    Attributes:
        answers: Recorded answer by question.
    """

    answers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_files(cls, paths: Iterable[Path]) -> ReplayTeacher:
        """Reads JSON Lines with the fields ``question`` and ``teacher_response``.

        Raises:
            ValueError: A line is not of this form; the message names file and line.
        """
        teacher = cls()
        for path in paths:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        row = json.loads(line)
                        teacher.answers[_key(row["question"])] = str(row["teacher_response"])
                    except (ValueError, KeyError, TypeError) as error:
                        raise ValueError(
                            f"{path}, line {number}: want a JSON object with question and teacher_response ({error!r})"
                        ) from error
        return teacher

    def reply(self, ask: Ask, *, turn: int, lies: Lies) -> str:
        """See ``Teacher.reply``. Knowledge is general sentences of the recording; there are no recorded counterfactuals,
        so a request for one is answered with nothing changed.
        """
        try:
            recorded = self.answers[_key(ask.question)]
        except KeyError:
            raise UnknownQuestion("there is no recorded answer to this question") from None
        found = _ANSWER.search(recorded)
        if ask.kind == "knowledge":
            return self._knowledge(ask, recorded, found[2] if found else "")
        if ask.kind == "counterfactual":
            entry = ask.entries[0] if ask.entries else "There is no entry."
            answer = found[2] if found else ask.answer or "unknown"
            return _json(entry_index=1, entry=entry[:400], rationale=recorded[:2000], answer=answer[:200])
        if lies.wrong_answer and found:
            return f"{recorded[: found.start()]}{found[1]} none of these."
        return recorded

    @staticmethod
    def _knowledge(ask: Ask, recorded: str, recorded_answer: str) -> str:
        secrets = [_words(text) for text in (ask.answer, recorded_answer) if _words(text)]
        facts: list[str] = []
        for sentence in _SENTENCE.findall(recorded):
            text = sentence.strip()
            gives_away = any(f" {secret} " in f" {_words(text)} " for secret in secrets)
            # Long enough to say something, and of words rather than of the item's symbols.
            wordy = len(re.findall(r"[A-Za-z]{3,}", text)) >= 4
            if wordy and not gives_away and len(text) <= 400 and "the answer" not in text.casefold():
                facts.append(text)
        return _json(
            summary="Work through questions of this kind one step after the other, and check every step.",
            knowledge=list(dict.fromkeys(facts))[:3],
        )


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _key(question: str) -> str:
    return " ".join(question.split())
