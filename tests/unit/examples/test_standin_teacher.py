"""What the stand-in says, apart from HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import validate

from examples.families.questions import FOLDER, solve
from examples.standin_teacher.calls import CallLog
from examples.standin_teacher.faults import hits
from examples.standin_teacher.server import tokenize
from examples.standin_teacher.teachers import (
    Ask,
    Lies,
    ReplayTeacher,
    ScriptedTeacher,
    UnknownQuestion,
    understand,
)
from method.prompts import (
    COUNTERFACTUAL_SCHEMA,
    KNOWLEDGE_SCHEMA,
    Row,
    counterfactual_messages,
    knowledge_messages,
    rationale_messages,
    retry_messages,
)

TRUE = Lies()
ROWS = [
    Row(row["id"], row["task"], row["question"], row["answer"])
    for name in ("train", "test")
    for row in map(json.loads, (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
]


def say(messages: list[dict[str, str]], *, turn: int = 5, lies: Lies = TRUE) -> str:
    return ScriptedTeacher().reply(understand(messages[-1]["content"]), turn=turn, lies=lies)


def test_rationale_of_every_row_is_true() -> None:
    for row in ROWS:
        assert say(rationale_messages(row)).endswith(f" Therefore, the answer is {row.answer}.")


def test_lying_rationale_has_another_answer() -> None:
    for row in ROWS[::7]:
        text = say(rationale_messages(row), lies=Lies(wrong_answer=True))
        assert "Therefore, the answer is " in text
        assert not text.endswith(f" the answer is {row.answer}.")


def test_knowledge_is_exactly_the_facts_that_the_question_needs() -> None:
    for row in ROWS:
        reply = json.loads(say(knowledge_messages(row, "I think 7.")))
        validate(reply, KNOWLEDGE_SCHEMA)
        assert reply["knowledge"] == [fact.text for fact in solve(row.question).facts]


def test_counterfactual_changes_a_needed_entry_and_the_answer_follows() -> None:
    for number, row in enumerate(ROWS):
        entries = ["A unicorn has 1 horn.", *(fact.text for fact in solve(row.question).facts)]
        reply = json.loads(say(counterfactual_messages(row, entries), turn=number))
        validate(reply, COUNTERFACTUAL_SCHEMA)
        assert reply["entry_index"] >= 2
        assert reply["entry"] != entries[reply["entry_index"] - 1]
        assert reply["answer"] != row.answer
        assert reply["entry"] in reply["rationale"]
        assert reply["rationale"].endswith(f"Therefore, the answer is {reply['answer']}.")


def test_counterfactual_without_a_needed_entry_keeps_the_answer() -> None:
    reply = json.loads(say(counterfactual_messages(ROWS[0], ["A unicorn has 1 horn."])))
    validate(reply, COUNTERFACTUAL_SCHEMA)
    assert (reply["entry_index"], reply["entry"], reply["answer"]) == (1, "A unicorn has 1 horn.", ROWS[0].answer)


def test_counterfactual_believes_entries_that_were_edited_before() -> None:
    row = Row("x", "legs", "Counting one of each, how many legs do crabs and olms have together?", "14")
    entries = ["Crabs have 12 legs.", "Olms have 4 legs."]
    for turn in range(10):
        reply = json.loads(say(counterfactual_messages(row, entries), turn=turn))
        changed = [*entries]
        changed[reply["entry_index"] - 1] = reply["entry"]
        assert reply["answer"] == str(sum(int(word) for text in changed for word in text.split() if word.isdigit()))
        assert reply["answer"] not in ("14", "16")


def test_question_asked_again_after_a_refusal_is_understood() -> None:
    messages = retry_messages(knowledge_messages(ROWS[0], "no"), "it was not JSON")
    assert understand(messages[-1]["content"]) == Ask("knowledge", ROWS[0].question, ROWS[0].answer)


def test_prompt_inside_a_chat_template_is_understood() -> None:
    text = rationale_messages(ROWS[0])[0]["content"]
    assert understand(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n").question == ROWS[0].question


def test_bare_question_wants_a_rationale() -> None:
    assert understand(" How many legs do 3 crabs have? ") == Ask("rationale", "How many legs do 3 crabs have?")


def test_unknown_question_is_refused() -> None:
    with pytest.raises(UnknownQuestion):
        ScriptedTeacher().reply(Ask("rationale", "Why?"), turn=0, lies=TRUE)
    with pytest.raises(UnknownQuestion):
        ReplayTeacher().reply(Ask("rationale", "Why?"), turn=0, lies=TRUE)


def test_replay_repeats_what_was_recorded_and_its_knowledge_keeps_the_answer_out() -> None:
    folder = FOLDER.parent / "bbh"
    teacher = ReplayTeacher.from_files([folder / "recorded.jsonl"])
    gold = {}
    for name in ("train", "test"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            gold[row["question"]] = row["answer"]
    assert len(gold) >= 200
    for question, answer in gold.items():
        assert "answer is" in teacher.reply(Ask("rationale", question), turn=0, lies=TRUE)
        reply = json.loads(teacher.reply(Ask("knowledge", question, answer), turn=0, lies=TRUE))
        validate(reply, KNOWLEDGE_SCHEMA)
        assert not any("the answer" in text for text in reply["knowledge"])


def test_replay_file_with_a_bad_line_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_text('{"question": "a", "teacher_response": "b"}\n{"question": "c"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"recorded\.jsonl, line 2"):
        ReplayTeacher.from_files([file])


def test_pieces_of_a_text_are_the_text_again() -> None:
    for text in ("", " ", "Crabs have 10 legs. \n\n", '{"a": ["b\\n"]}', "Crécy  ünïcode — 😀"):
        assert "".join(tokenize(text)) == text


def test_rate_hits_about_its_share_and_the_same_calls_every_time() -> None:
    struck = [hits(0.3, 1, "error_rate", f"digest-{n}") for n in range(2000)]
    assert struck == [hits(0.3, 1, "error_rate", f"digest-{n}") for n in range(2000)]
    assert 500 < sum(struck) < 700
    assert not hits(0, 1, "error_rate", "x")
    assert hits(1, 1, "error_rate", "x")


async def test_book_of_calls_goes_on_behind_a_half_written_line(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    log = CallLog(file)
    await log.write(digest="a", kind="rationale", status=200, path="/x")
    log.close()
    with file.open("ab") as half:
        half.write(b'{"id": "call-0000')
    log = CallLog(file)
    await log.write(digest="a", kind="rationale", status=200, path="/x")
    await log.write(digest="b", kind="knowledge", status=429, path="/x")
    log.close()
    summary = CallLog(file).summary()
    assert (summary["count"], summary["answered"], summary["answered_again"]) == (3, 2, 1)
    assert summary["by_status"] == {"200": 2, "429": 1}
    assert file.read_bytes().endswith(b"\n")
