"""Kinds of mistakes, on outputs as students write them."""

from __future__ import annotations

import pytest

from method.errors import KINDS, classify

LEGS = "How many legs do 3 weevils have?"
TOGETHER = "Counting one of each, how many legs do crabs and kiwis have together?"
WEEVIL, CRAB, KIWI = "Weevils have 6 legs.", "Crabs have 10 legs.", "Kiwis have 2 legs."
BATTLE = "In which century was the Battle of Pavia fought?"
PAVIA = "The Battle of Pavia was fought in 1525."
SPORT = "Is the following sentence plausible? Tom scored a touchdown in soccer."
CHOICE = "Which is a bird?\nOptions:\n(A) owl\n(B) cat"

CASES = [
    ("no answer", LEGS, "18", None, "", [WEEVIL]),
    ("no answer", LEGS, "18", None, "Weevils have legs and legs and legs and legs and", [WEEVIL]),
    ("no answer", CHOICE, "(A)", None, "Let me see.", []),
    ("format", LEGS, "18", None, "Weevils have 6 legs.\n3 times 6 is 18.", [WEEVIL]),
    ("format", CHOICE, "(A)", None, "It must be (A)", []),
    ("format", LEGS, "18", "many legs", "Therefore, the answer is many legs.", [WEEVIL]),
    ("format", LEGS, "18", "6, 12, 18", "Therefore, the answer is 6, 12, 18.", [WEEVIL]),
    ("format", SPORT, "no", "soccer", "So the answer is soccer.", []),
    ("format", CHOICE, "(A)", "a bird", "Therefore, the answer is a bird.", []),
    ("format", "Sort: c b", "b c", "sorted: b c", "Therefore, the answer is sorted: b c.", []),
    ("wrong arithmetic", LEGS, "18", "24", "Weevils have 6 legs. 3 times 6 is 24. Therefore, the answer is 24.", [WEEVIL]),
    ("wrong arithmetic", LEGS, "18", "24", "Weevils have 8 legs. 3 times 8 is 25. Therefore, the answer is 25.", [WEEVIL]),
    ("wrong arithmetic", LEGS, "18", "15", "3 * 6 = 15. So the answer is 15.", []),
    ("wrong fact", LEGS, "18", "24", "Weevils have 8 legs. 3 times 8 is 24. Therefore, the answer is 24.", [WEEVIL]),
    ("wrong fact", TOGETHER, "12", "16",
     "Crabs have 14 legs. Kiwis have 2 legs. 14 plus 2 is 16. Therefore, the answer is 16.", [KIWI, WEEVIL]),
    ("wrong fact", TOGETHER, "12", "8",
     "Crabs have 6 legs. Kiwis have 2 legs. 6 plus 2 is 8. Therefore, the answer is 8.", [CRAB, KIWI, WEEVIL]),
    ("wrong fact", BATTLE, "16th century", "15th century",
     "The Battle of Pavia was fought in 1425. 1425 is in the 15th century. Therefore, the answer is 15th century.", [PAVIA]),
    ("wrong fact", SPORT, "no", "yes", "A touchdown is a play in soccer. Therefore, the answer is yes.",
     ["A touchdown is a play in American football."]),
    ("wrong fact", SPORT, "no", "yes", "A touchdown is not part of American football. Therefore, the answer is yes.",
     ["A touchdown is part of American football."]),
    # The century is taken wrongly from the right year: neither a fact nor arithmetic that can be checked.
    ("other", BATTLE, "16th century", "15th century",
     "The Battle of Pavia was fought in 1525. 1525 is in the 15th century. Therefore, the answer is 15th century.", [PAVIA]),
    # Right facts, wrong operation.
    ("other", TOGETHER, "12", "20", "Crabs have 10 legs. Kiwis have 2 legs. 10 times 2 is 20. Therefore, the answer is 20.",
     [CRAB, KIWI]),
    # Nothing was read: whether the fact is wrong cannot be told.
    ("other", LEGS, "18", "24", "Weevils have 8 legs. 3 times 8 is 24. Therefore, the answer is 24.", []),
    ("other", CHOICE, "(A)", "cat", "A cat is a bird. Therefore, the answer is cat.", []),
    ("other", LEGS, "18", "20", "20", [WEEVIL]),
    ("other", "Sort: c b", "b c", "c b", "Therefore, the answer is c b.", []),
]  # fmt: skip


def test_an_answer_that_was_not_reached_is_cut_off_and_one_that_was_read_is_judged_by_what_it_says() -> None:
    record = {"gold": "18", "question": LEGS, "truncated": True, "text": "Weevils have 6 legs.\n3 times 6 is 18"}
    assert classify({**record, "answer": None}) == "cut off"
    assert classify({**record, "answer": "15", "text": "3 * 6 = 15. So the answer is 15. 3 * 6"}) == "wrong arithmetic"


@pytest.mark.parametrize(("kind", "question", "gold", "said", "text", "entries"), CASES)
def test_a_mistake_is_of_the_first_kind_that_can_be_shown(
    kind: str, question: str, gold: str, said: str | None, text: str, entries: list[str]
) -> None:
    record = {"text": text, "answer": said, "gold": gold, "question": question}
    assert classify({**record, "entries": [{"name": "", "text": entry} for entry in entries]}) == kind


def test_every_kind_is_told_above_and_a_bare_record_is_enough() -> None:
    assert {"cut off", *(case[0] for case in CASES)} == set(KINDS)
    assert classify({"text": "x", "answer": "25", "gold": "24"}) == "other"


def test_a_question_that_was_refused_has_no_answer() -> None:
    refused = {"answer": None, "text": "", "gold": "24", "question": LEGS, "entries": [], "error": {"reason": "X"}}
    assert classify(refused) == "no answer"
