"""Modes, demonstrations and the gate: what the engine is asked, and what becomes of what it writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from method.mixtures import build_rows
from method.prompts import TRIGGER, Demonstration, Row, cascade_prompt, student_prompt
from services.common.errors import InvalidArgument
from services.student.answering import Answer
from services.student.engines.base import Completion, Decoding, Token
from services.student.questions import Mode, Question
from services.student.registry import Retrieval
from services.student.writing import confidence
from tests.unit.student.scripted import Say, scripted

ASKED = "How many legs do 3 crabs have?"
SHOWN = Demonstration("How many legs do 2 ants have?", "2 x 6 = 12.", "12")
READ = Retrieval("knowledgeBases/k")
SURE, UNSURE = 0.9, 0.2


def says(text: str, probability: float = SURE) -> Say:
    return lambda prompt: (text, probability)


def knows_more_when_it_reads(prompt: str) -> tuple[str, float]:
    answer, probability = ("30", SURE) if "Knowledge:" in prompt else ("24", UNSURE)
    return f"3 times. {TRIGGER} {answer}.", probability


def in_steps(rationale: str, answer: str, probability: float = SURE) -> Say:
    return lambda prompt: (answer if prompt.endswith(TRIGGER) else rationale, probability)


# --- modes


async def test_an_answer_alone_is_read_from_the_first_line_in_both_modes_that_want_one(tmp_path: Path) -> None:
    async with scripted(says("30"), tmp_path) as student:
        for mode in ("answer", "zero_shot_answer"):
            written = (await student.answering.answer(Question(ASKED, mode=mode))).written
            assert (written.rationale, written.answer, written.text) == ("", "30", "30")
        assert [job.prompt for job in student.engine.jobs] == [
            student_prompt(ASKED, mode="answer"), student_prompt(ASKED, mode="zero_shot_answer"),
        ]  # fmt: skip
        assert {job.stop_after for job in student.engine.jobs} == {""}


async def test_a_cascade_writes_the_rationale_and_then_reads_it_to_answer(tmp_path: Path) -> None:
    async with scripted(in_steps("3 x 10 = 30.", "30."), tmp_path) as student:
        pieces: list[str] = []
        answer = await student.answering.answer(Question(ASKED, mode="cascade"), pieces.append)
        first, second = student.engine.jobs
    assert (first.prompt, first.stop_before) == (student_prompt(ASKED, mode="cascade"), TRIGGER)
    assert second.prompt == cascade_prompt(first.prompt, "3 x 10 = 30.")
    written = answer.written
    assert (written.rationale, written.answer) == ("3 x 10 = 30.", "30")
    assert written.text == f"3 x 10 = 30. {TRIGGER} 30."
    assert "".join(pieces) == written.text
    assert written.prompt_tokens == len(first.prompt.split()) + len(second.prompt.split())
    assert written.completion_tokens == len("3 x 10 = 30.") + len("30.")
    assert not written.truncated


@pytest.mark.parametrize(("rationale", "text"), [("", f"{TRIGGER} 30."), ("So.", f"So. {TRIGGER} 30.")])
async def test_a_cascade_without_a_rationale_answers_all_the_same(tmp_path: Path, rationale: str, text: str) -> None:
    async with scripted(in_steps(rationale, "30."), tmp_path) as student:
        pieces: list[str] = []
        written = (await student.answering.answer(Question(ASKED, mode="cascade"), pieces.append)).written
    assert (written.rationale, written.answer, written.text, "".join(pieces)) == (rationale, "30", text, text)


async def test_a_cascade_without_an_answer_has_the_words_before_it(tmp_path: Path) -> None:
    async with scripted(in_steps("So.", ""), tmp_path) as student:
        pieces: list[str] = []
        written = (await student.answering.answer(Question(ASKED, mode="cascade"), pieces.append)).written
    assert (written.answer, written.text, "".join(pieces)) == ("", *[f"So. {TRIGGER}"] * 2)


async def test_both_steps_of_a_cascade_together_write_no_more_than_is_allowed_and_the_second_has_room(
    tmp_path: Path,
) -> None:
    async with scripted(in_steps("x" * 999, "y" * 999), tmp_path) as student:
        for most in (2, 3, 8, 20, 200):
            student.engine.jobs.clear()
            question = Question(ASKED, mode="cascade", decoding=Decoding(max_new_tokens=most))
            written = (await student.answering.answer(question)).written
            assert written.completion_tokens == most and written.truncated
            assert student.engine.jobs[1].decoding.max_new_tokens >= 1
        with pytest.raises(InvalidArgument, match="2 to 200"):
            await student.answering.answer(Question(ASKED, mode="cascade", decoding=Decoding(max_new_tokens=1)))


async def test_a_cascade_whose_rationale_leaves_no_room_in_the_context_is_cut_off_and_no_failure(
    tmp_path: Path,
) -> None:
    # A token when it is written, two when it is read: as odd bytes are with a real tokenizer.
    async with scripted(in_steps("a " * 50, "30."), tmp_path) as student:
        student.engine.context_length = 100
        question = "why " * 30
        decoding = Decoding(max_new_tokens=50)
        student.engine.count_tokens = lambda text: len(text.split()) + 30 * text.count("a a")  # type: ignore[method-assign]
        written = (await student.answering.answer(Question(question, mode="cascade", decoding=decoding))).written
    assert written.truncated and written.answer == "" and written.text.endswith(TRIGGER)


async def test_the_engine_is_asked_with_the_prompts_of_the_training_rows_byte_by_byte(tmp_path: Path) -> None:
    row = Row("r1", "legs", ASKED, "30")
    entries = ["A crab has\n10 legs.", "An ant has 6 legs."]
    for recipe, kind, mode, reads in (
        ("general", "DC", "cot", False),
        ("reads-cot", "AD", "cot", True),
        ("answer", "AP", "answer", False),
        ("reads-answer", "AP", "answer", True),
        ("cascod", "R", "cascade", False),
        ("cascod", "A", "cascade", False),
    ):
        rows = build_rows(
            recipe,
            [row],
            {"r1": f"3 x 10 = 30. {TRIGGER} 30."},
            entries={"r1": entries},
            descriptions={"legs": "Count."},
        )
        wanted = next(example.prompt for example in rows if example.kind == kind)
        async with scripted(in_steps("3 x 10 = 30.", "30."), tmp_path, *entries) as student:
            question = Question(ASKED, "Count.", mode=mode, retrieval=READ if reads else None)
            await student.answering.answer(question)
            assert student.engine.jobs[kind == "A"].prompt == wanted, (recipe, kind)


@pytest.mark.parametrize("mode", ["cot", "answer", "zero_shot", "zero_shot_answer", "cascade"])
async def test_entries_and_demonstrations_stand_in_the_prompt_of_every_mode(tmp_path: Path, mode: Mode) -> None:
    entries = ["Crabs have 10 legs.", "Ants have 6 legs."]
    prompt = student_prompt(ASKED, entries=entries, demonstrations=[SHOWN], mode=mode, task_description="Count.")
    question = Question(ASKED, "Count.", mode=mode, demonstrations=(SHOWN,))
    for found in (replace(question, retrieval=READ), replace(question, given_entries=tuple(entries))):
        async with scripted(in_steps("So.", "30."), tmp_path, *entries) as student:
            answers = [await student.answering.answer(found), *await student.answering.answer_group([found])]
            assert all(isinstance(answer, Answer) and len(answer.entries) == 2 for answer in answers)
            steps = [prompt, cascade_prompt(prompt, "So.")] if mode == "cascade" else [prompt]
            assert [job.prompt for job in student.engine.jobs] == steps * 2


async def test_demonstrations_make_way_before_knowledge_and_the_question_stays(tmp_path: Path) -> None:
    shown = tuple(Demonstration(f"Number {i}?", "word " * 40, str(i)) for i in range(5))
    async with scripted(says(f"{TRIGGER} 30."), tmp_path, "entry " * 50, "entry " * 60) as student:
        student.engine.context_length = 260
        question = Question(ASKED, demonstrations=shown, retrieval=READ, decoding=Decoding(max_new_tokens=50))
        answer = await student.answering.answer(question)
        assert (len(answer.entries), answer.dropped_entries) == (2, 0)
        assert ["Number 0?" in (prompt := student.engine.jobs[-1].prompt), "Number 1?" in prompt] == [True, False]
        student.engine.context_length = 140
        answer = await student.answering.answer(question)
        assert (len(answer.entries), answer.dropped_entries) == (1, 1)
        assert "Number 0?" not in student.engine.jobs[-1].prompt and ASKED in student.engine.jobs[-1].prompt


# --- the gate


async def test_the_gate_sees_the_question_and_a_sure_student_reads_nothing(tmp_path: Path) -> None:
    async with scripted(says(f"So. {TRIGGER} 30."), tmp_path) as student:
        question = Question(ASKED, "Count.", retrieval=replace(READ, gate=0.8), demonstrations=(SHOWN,))
        pieces: list[str] = []
        answer = await student.answering.answer(question, pieces.append)
        assert [job.prompt for job in student.engine.jobs] == [
            student_prompt(ASKED, demonstrations=[SHOWN], task_description="Count.")
        ]
        assert student.retriever.searches == []
    assert answer.gated and answer.entries == () and answer.knowledge_version == 0
    assert answer.written.confidence == pytest.approx(SURE)
    assert (answer.written.answer, "".join(pieces)) == ("30", answer.written.text)


@pytest.mark.parametrize("mode", ["cot", "answer", "cascade"])
async def test_an_unsure_student_reads_and_its_tokens_are_summed(tmp_path: Path, mode: Mode) -> None:
    async with scripted(knows_more_when_it_reads, tmp_path) as student:
        question = Question(ASKED, mode=mode, retrieval=replace(READ, gate=0.8))
        pieces: list[str] = []
        answer = await student.answering.answer(question, pieces.append)
        first, *_ = prompts = [job.prompt for job in student.engine.jobs]
        assert len(prompts) == (4 if mode == "cascade" else 2)
        assert first == student_prompt(ASKED, mode=mode)
        assert [asked for asked, _ in student.retriever.searches] == [ASKED]
        assert answer.written.prompt_tokens == sum(len(prompt.split()) for prompt in prompts)
        assert answer.written.completion_tokens == sum(len(knows_more_when_it_reads(prompt)[0]) for prompt in prompts)
    assert not answer.gated and len(answer.entries) == 1 and answer.knowledge_version == 7
    assert answer.written.confidence == pytest.approx(UNSURE), "how sure it was before it read"
    assert answer.written.answer == "30"
    assert "".join(pieces) == answer.written.text, "nothing of the answer that does not stand is told"


async def test_the_gate_opens_at_its_value_and_not_below(tmp_path: Path) -> None:
    async with scripted(says(f"{TRIGGER} 30.", 0.5), tmp_path) as student:
        for gate, gated in ((0.499, True), (0.5, True), (0.501, False), (1.0, False)):
            answer = await student.answering.answer(Question(ASKED, retrieval=replace(READ, gate=gate)))
            assert answer.gated is gated and answer.written.confidence == pytest.approx(0.5)


async def test_who_writes_no_answer_is_not_sure(tmp_path: Path) -> None:
    async with scripted(says("I do not know."), tmp_path) as student:
        answer = await student.answering.answer(Question(ASKED, retrieval=replace(READ, gate=0.01)))
    assert not answer.gated and len(answer.entries) == 1 and answer.written.confidence == 0


async def test_the_gate_is_greedy_and_what_stands_after_it_is_sampled_as_asked(tmp_path: Path) -> None:
    sampled = Decoding(temperature=0.7, top_p=0.9, top_k=50, seed=3)
    async with scripted(knows_more_when_it_reads, tmp_path) as student:
        await student.answering.answer(Question(ASKED, retrieval=replace(READ, gate=0.8), decoding=sampled))
        assert [job.decoding for job in student.engine.jobs] == [replace(sampled, temperature=0.0), sampled]


async def test_confidence_is_not_asked_for_without_a_gate(tmp_path: Path) -> None:
    async with scripted(says(f"{TRIGGER} 30."), tmp_path) as student:
        answer = await student.answering.answer(Question(ASKED, retrieval=READ))
        assert [job.scored for job in student.engine.jobs] == [False]
    assert answer.written.confidence == 0 and not answer.gated


async def test_where_nothing_can_be_read_the_gate_only_tells_how_sure_the_student_was(tmp_path: Path) -> None:
    async with scripted(says(f"{TRIGGER} 30."), tmp_path) as student:
        for retrieval in (Retrieval(gate=0.5), replace(READ, gate=0.5, disabled=True)):
            student.engine.jobs.clear()
            answer = await student.answering.answer(Question(ASKED, retrieval=retrieval))
            assert len(student.engine.jobs) == 1
            assert answer.written.confidence == pytest.approx(SURE) and not answer.gated


async def test_given_entries_pass_the_gate_of_the_request(tmp_path: Path) -> None:
    for say, gated in ((says(f"{TRIGGER} 30."), True), (knows_more_when_it_reads, False)):
        async with scripted(say, tmp_path) as student:
            question = Question(ASKED, retrieval=Retrieval(gate=0.8, disabled=True), given_entries=("Crabs: 10.",))
            answer = await student.answering.answer(question)
            assert answer.gated is gated and len(answer.entries) == (not gated)
            assert student.retriever.searches == []


# --- groups


async def test_a_group_goes_step_by_step_so_that_its_batches_depend_on_its_questions_only(tmp_path: Path) -> None:
    questions = [
        Question("One?"),
        Question("Two?", mode="cascade"),
        Question("Three?", retrieval=replace(READ, gate=0.8)),
        Question("Four?", mode="cascade", retrieval=replace(READ, gate=0.8)),
        Question(" "),
    ]
    async with scripted(knows_more_when_it_reads, tmp_path) as student:
        answers = await student.answering.answer_group(questions)
        batches = [list(batch) for batch in student.engine.batches]
        assert [len(batch) for batch in batches] == [4, 3, 1, 1]
        for _ in range(3):
            student.engine.batches.clear()
            assert [getattr(a, "written", str(a)) for a in await student.answering.answer_group(questions)] == [
                getattr(a, "written", str(a)) for a in answers
            ]
            assert student.engine.batches == batches
        assert isinstance(answers[4], InvalidArgument)
        alone = [await student.answering.answer(question) for question in questions[:4]]
    assert alone == answers[:4]


async def test_a_failing_engine_fails_its_group_and_no_later_one(tmp_path: Path) -> None:
    def breaks(prompt: str) -> tuple[str, float]:
        if "Break" in prompt:
            raise RuntimeError("out of memory")
        return f"{TRIGGER} 30.", SURE

    async with scripted(breaks, tmp_path) as student:
        with pytest.raises(RuntimeError, match="out of memory"):
            await student.answering.answer_group([Question("One?"), Question("Break?")])
        (answer,) = await student.answering.answer_group([Question("One?")])
        assert isinstance(answer, Answer)
        assert await student.answering.answer_group([]) == []


async def test_who_goes_away_from_a_group_ends_its_decoding(tmp_path: Path) -> None:
    written, go = threading.Event(), threading.Event()

    def slowly(prompt: str) -> tuple[str, float]:
        written.set()
        go.wait(5)
        return "So.", SURE

    async with scripted(slowly, tmp_path) as student:
        group = asyncio.create_task(
            student.answering.answer_group([Question("One?", mode="cascade"), Question("Two?")])
        )
        await asyncio.to_thread(written.wait, 5)
        group.cancel()
        with pytest.raises(asyncio.CancelledError):
            await group
        assert {job.gone() for job in student.engine.jobs} == {"cancelled"}
        go.set()
        await student.answering.answer(Question("Three?"))
        assert len(student.engine.jobs) == 3, "no second step is begun"


# --- confidence


def test_confidence_is_that_of_the_answers_tokens_alone() -> None:
    words = [("3 x 10 = a. ", -5.0), (TRIGGER, -4.0), (" a", -0.2), ("bc", -0.4), (". A", -3.0), ("nd", -9.0)]
    text, tokens = "", []
    for word, score in words:
        text += word
        tokens.append(Token(len(text), score))
    completion = Completion(text, 1, len(tokens), "stop", tuple(tokens))
    assert confidence(completion, "abc", 11) == pytest.approx(2.718281828 ** (-0.3))
    assert confidence(completion, "", 11) == 0
    assert confidence(completion, "nowhere", 11) == 0
    assert confidence(replace(completion, tokens=()), "abc", 11) == 0


def test_an_answer_that_is_also_a_part_of_the_words_before_it_is_found_in_its_place() -> None:
    text = "The answer is a"
    tokens = tuple(Token(i + 1, -0.5 if i == len(text) - 1 else -7.0) for i in range(len(text)))
    assert confidence(Completion(text, 1, 1, "stop", tokens), "a", 0) == pytest.approx(2.718281828 ** (-0.5))


# --- what may be asked


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"demonstrations": (SHOWN,) * 17}, "request.demonstrations"),
        ({"demonstrations": (SHOWN, replace(SHOWN, question=" "))}, "request.demonstrations[1].question"),
        ({"demonstrations": (replace(SHOWN, question="q" * 32769),)}, "request.demonstrations[0].question"),
        ({"demonstrations": (replace(SHOWN, rationale="r" * 32769),)}, "request.demonstrations[0].rationale"),
        ({"demonstrations": (replace(SHOWN, answer=""),)}, "request.demonstrations[0].answer"),
        ({"demonstrations": (replace(SHOWN, answer="a" * 8193),)}, "request.demonstrations[0].answer"),
        ({"retrieval": Retrieval(gate=-0.1)}, "request.retrieval.gate"),
        ({"retrieval": Retrieval(gate=1.1)}, "request.retrieval.gate"),
        ({"retrieval": Retrieval(gate=float("nan"))}, "request.retrieval.gate"),
        ({"decoding": Decoding(top_p=float("nan"))}, "request.decoding.top_p"),
    ],
)
async def test_what_cannot_be_asked_is_named(tmp_path: Path, fields: dict[str, object], path: str) -> None:
    async with scripted(says("30"), tmp_path) as student:
        with pytest.raises(InvalidArgument) as caught:
            await student.answering.answer(replace(Question(ASKED), **fields))  # type: ignore[arg-type]
        assert [field for field, _ in caught.value.violations] == [path]
        assert student.engine.jobs == []


async def test_sixteen_demonstrations_of_any_kind_are_fine(tmp_path: Path) -> None:
    bare: Callable[[int], Demonstration] = lambda i: Demonstration(f"Number {i}?", "", str(i))  # noqa: E731
    async with scripted(says(f"{TRIGGER} 30."), tmp_path) as student:
        answer = await student.answering.answer(Question(ASKED, demonstrations=tuple(bare(i) for i in range(16))))
    assert answer.written.answer == "30"
