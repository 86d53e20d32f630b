"""What a model wrote is read as one answer, and only a right one is credited."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from method import values
from method.answers import extract_answer, is_complete, split_rationale
from method.scoring import is_correct, score_output

OPTIONS = "Who?\nOptions:\n(A) The patient had it\n(B) The specialist had it\n(C) Ambiguous"
T = "Therefore, the answer is"

# (model output, gold answer, whether it is right)
OUTPUTS = [
    # numbers
    ("8 + 16 = 24. Therefore, the answer is 24.", "24", True),
    ("3.5 per head. Therefore, the answer is 3.5.", "3.5", True),
    ("Therefore, the answer is 3.5.", "3", False),
    ("Therefore, the answer is 3.", "3.5", False),
    ("Therefore, the answer is $1,234.50.", "1234.5", True),
    ("Therefore, the answer is 1,234,567 people.", "1234567", True),
    ("Therefore, the answer is 24 legs.", "24", True),
    ("Therefore, the answer is 24 legs in 3 groups.", "24", True),
    ("Therefore, the answer is 10 feet 6 inches.", "10", False),
    ("Therefore, the answer is 3 * 8 = 24.", "24", True),
    ("Therefore, the answer is 24 = 3 * 8.", "24", False),
    ("Therefore, the answer is -7.", "-7", True),
    ("Therefore, the answer is \u22127.", "-7", True),
    ("Therefore, the answer is -$7.", "-7", True),
    ("Therefore, the answer is 7.", "-7", False),
    ("Therefore, the answer is 1/2.", "0.5", True),
    ("Therefore, the answer is 2 1/2.", "2.5", True),
    ("Therefore, the answer is 2½ feet.", "5/2", True),
    ("Therefore, the answer is \\frac{3}{4}.", "3/4", True),
    ("Therefore, the answer is $\\boxed{72}$.", "72", True),
    ("Therefore, the answer is 50%.", "50", True),
    ("Therefore, the answer is twenty-four.", "24", True),
    ("Therefore, the answer is 16 or 24.", "24", False),
    ("Therefore, the answer is 20-24.", "24", False),
    ("Therefore, the answer is 24 24 24 24 24 24", "24", False),
    ("Therefore, the answer is **24**.", "24", True),
    ("Therefore, the answer is: \n\n24", "24", True),
    ("Therefore, the answer is 124.", "24", False),
    ("Therefore, the answer is 66 feet.", "66 feet", True),
    ("Therefore, the answer is 66.", "66 feet", True),
    ("Therefore, the answer is 66 inches.", "66 feet", False),
    # the last closing sentence counts, and nothing of an invented next question
    (f"{T} 20. Wait, once more. {T} 24.", "24", True),
    (f"{T} 20. Wait, once more. {T} 24.", "20", False),
    (f"{T} 24.\nQuestion: And of 2 cats?\nAnswer: {T} 8.", "24", True),
    (f"{T} 24. I hope the answer is helpful.", "24", True),
    (f"{T} 24. {T}", "24", True),
    ("So the answer is 14.", "14", True),
    ("14 = 14. The answer is 14", "14", True),
    ("24 legs", "24", False),
    # choices
    ("So the answer is (A).", "(A)", True),
    ("So the answer is A.", "(A)", True),
    ("So the answer is option A.", "(A)", True),
    ("So the answer is option (A).", "(A)", True),
    ("So the answer is (a)", "(A)", True),
    ("So the answer is A) The patient had it.", "(A)", True),
    ("So the answer is (A) The patient had it.", "(A)", True),
    ("So the answer is (B) St. Louis.", "(B)", True),
    ("So the answer is (A) and (B).", "(A)", False),
    ("So the answer is A or B.", "(A)", False),
    ("So the answer is not (A).", "(A)", False),
    ("So the answer is a patient.", "(A)", False),
    ("So the answer is (B).", "(A)", False),
    ("So the answer is (A).", "A", True),
    # verdicts
    ("So the answer is yes.", "yes", True),
    ("So the answer is No.", "no", True),
    ("So the answer is invalid.", "valid", False),
    ("So the answer is valid.", "valid", True),
    ("So the answer is not valid.", "invalid", True),
    ("So the answer is the argument is deductively valid.", "valid", True),
    ("So the answer is valid or invalid.", "valid", False),
    ("So the answer is yes, it is plausible.", "yes", True),
    ("So the answer is no one knows.", "no", False),
    ("So the answer is true.", "yes", False),
    ("So the answer is True.", "True", True),
    ("", "valid", False),
    ("valid valid valid valid", "valid", False),
    ("So the answer is", "valid", False),
    ("So the answer is ...", "valid", False),
    ("So the answer is <y>.", "y", False),
    # brackets
    ("So the answer is ] ].", "] ]", True),
    ("So the answer is ]].", "] ]", True),
    ("So the answer is ] ] ] ] ].", "] ] ] ] ]", True),
    ("So the answer is } ).", "} )", True),
    ("So the answer is ].", "] ]", False),
    ("So the answer is { { }.", "{ { }", True),
    # words
    ("So the answer is syndrome therefrom.", "syndrome therefrom", True),
    ("So the answer is Syndrome, therefrom", "syndrome therefrom", True),
    ("So the answer is ['syndrome', 'therefrom'].", "syndrome therefrom", True),
    ("So the answer is a1, b, and c.", "a1 b c", True),
    ("So the answer is therefrom syndrome.", "syndrome therefrom", False),
    ("So the answer is the owl.", "owl", True),
    ('So the answer is "owl".', "owl", True),
    ("So the answer is not the owl.", "owl", False),
    ("So the answer is Dr. Smith.", "Dr. Smith", True),
    ("So the answer is Answerville.", "Answerville", True),
    ("So the answer is still, stone, water.", "still stone water", True),
    ("So the answer is:\n\n1. apple\n\n2. banana", "apple banana", True),
    ("So the answer is fracture, sediment, and towel.", "fracture sediment towel", True),
    ("So the answer is fracturesediment towel.", "fracture sediment towel", False),
    ("So the answer is Sgt. Pepper.", "Sgt. Pepper", True),
    # which of several sentences
    ("Therefore, the answer is 18. Check: 6 * 3 = 18. So the answer is correct.", "18", True),
    ("So the answer is (A). Wait, let me redo it. The answer is (B).", "(B)", True),
    ("So the answer is (A). Wait, let me redo it. The answer is (B).", "(A)", False),
    ("So the answer is 18. If the answer is 20, she would have lied.", "18", True),
    ("Suppose the answer is (B). That is absurd. Therefore, the answer is", "(B)", False),
    ("The answer is (B).\n\nThe answer is not (A), because it is old.", "(B)", True),
    ("Thinking. #### 17\n#### 18 dollars", "18", True),
    # choices in sentences
    ("So the answer is B because it is older.", "(B)", True),
    ("So the answer is (B). (A) and (C) are younger.", "(B)", True),
    ("So the answer is (B). (A).", "(B)", False),
    ("So the answer is None of the above (D).", "(D)", True),
    ("So the answer is none of (A).", "(A)", False),
    ("Therefore, the best answer is (B).", "(B)", True),
    ("Therefore, (B) Rome is the correct answer.", "(B)", True),
    ("So the answer is (B) (B) (B) (B) (B).", "(B)", False),
    # verdicts in sentences
    ("So the answer is unclear whether the argument is valid.", "valid", False),
    ("So the answer is I doubt it is valid.", "valid", False),
    ("So the answer is not False = True.", "True", True),
    ("So the answer is invalid (not valid).", "invalid", True),
    ("So the answer is valid (not valid).", "valid", False),
    ("So the answer is logically invalid.", "invalid", True),
    # numbers in sentences, and formulas
    ("So the answer is 20 in January and 30 in February.", "20", False),
    ("So the answer is 18 if it rains, otherwise 20.", "18", False),
    ("So the answer is 18 with 2 left over.", "18", True),
    ("So the answer is 18 of the 20 eggs.", "18", True),
    ("So the answer is 18 cm^2.", "18", True),
    (r"So the answer is $3\frac{1}{2}$.", "3.5", True),
    (r"So the answer is $3\frac{1}{2}$.", "15.5", False),
    (r"So the answer is \frac {3}{4}.", "3/4", True),
    (r"So the answer is $(-\infty, 3]$.", r"(-\infty,3]", True),
    (r"So the answer is (-\infty,3).", r"(-\infty,3]", False),
    ("So the answer is x-1.", "x - 1", True),
]


@pytest.mark.parametrize(("output", "gold", "right"), OUTPUTS)
def test_a_model_output_is_scored_as_a_person_would(output: str, gold: str, right: bool) -> None:
    assert score_output(output, gold) is right


def test_the_text_of_an_option_counts_as_its_letter_and_the_reverse_where_the_question_is_known() -> None:
    assert is_correct("the patient had it", "(A)", question=OPTIONS)
    assert is_correct("(C)", "Ambiguous", question=OPTIONS)
    assert not is_correct("the patient had it", "(B)", question=OPTIONS)
    assert not is_correct("the patient had it", "(A)")


@pytest.mark.parametrize("gold", ["valid", "(A)", "24", "] ]", "owl", "yes", ""])
@pytest.mark.parametrize("output", [None, "", "   ", ".", "...", "\n\n", "!!!", "I do not know."])
def test_empty_and_degenerate_output_is_never_right(output: str | None, gold: str) -> None:
    assert extract_answer(output) is None
    assert not score_output(output, gold)
    assert not is_correct(output, gold)


def test_an_answer_is_returned_as_written_and_in_canonical_form_where_a_type_is_named() -> None:
    assert extract_answer(f"{T} $1,234.50.") == "$1,234.50"
    assert extract_answer(f"{T} $1,234.50.", "number") == "1234.5"
    assert extract_answer(f"{T} -1/3.", "number") == "-1/3"
    assert extract_answer(f"{T} 0.05.", "number") == "0.05"
    assert extract_answer(f"{T} option b.", "choice") == "(B)"
    assert extract_answer(f"{T} Yes!", "boolean") == "yes"
    assert extract_answer(f"{T} ]].", "brackets") == "] ]"
    assert extract_answer(f"{T} b, c.", "text") == "b c"
    assert extract_answer(f"{T} many.", "number") is None


def test_a_short_answer_needs_no_closing_sentence() -> None:
    assert extract_answer(" 24 legs.\nQuestion: more", mode="answer") == "24 legs"
    assert extract_answer(f" {T} 24.", mode="answer") == "24"
    assert extract_answer("", mode="answer") is None


def test_markers_of_other_models_are_understood() -> None:
    assert extract_answer("It is 5.\n#### 5") == "5"
    assert extract_answer("Reasoning.\n**Answer:** 5") == "5"
    assert extract_answer("so \\boxed{5}") == "5"


def test_a_rationale_is_split_from_its_answer() -> None:
    assert split_rationale("A spider has 8 legs. So the answer is 24.") == ("A spider has 8 legs.", "24")
    assert split_rationale("No end") == ("No end", None)
    assert split_rationale(None) == ("", None)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="task_type 'numbr' is unknown"):
        extract_answer("x", "numbr")
    with pytest.raises(ValueError, match="use one of"):
        is_correct("x", "x", "numbr")


@pytest.mark.parametrize(
    ("gold", "kind"),
    [("24", "number"), ("-7", "number"), ("3.5", "number"), ("1/2", "number"), ("(A)", "choice"), ("B", "choice"),
     ("No", "boolean"), ("invalid", "boolean"), ("] ]", "brackets"), (")", "brackets"), ("owl", "text"), ("66 feet", "text"),
     ("12:30", "text"), ("1/0", "text")],
)  # fmt: skip
def test_the_type_follows_from_the_gold_answer(gold: str, kind: str) -> None:
    assert values.type_of(gold) == kind
    assert is_correct(gold, gold)


_texts = st.one_of(st.text(), st.lists(st.sampled_from([T, "So the answer is", " ", "24", "(A)", "-", "1/0", "9e99", "not",
                   "yes", "\\boxed{", "}", "\n", "Question:", ".", "½", "$", "**", "=", "Answer:"])).map("".join))  # fmt: skip
_types = st.sampled_from(values.TASK_TYPES)


@settings(max_examples=200, deadline=None)
@given(_texts, _texts, _types, st.sampled_from(["cot", "answer"]))
def test_no_text_makes_reading_or_scoring_fail(text: str, gold: str, kind: str, mode: str) -> None:
    answer = extract_answer(text, kind, mode=mode)
    assert answer is None or answer.strip()
    split_rationale(text)
    assert is_correct(text, gold, kind, question=text) in (True, False)
    assert not is_correct(None, gold, kind)


@settings(max_examples=150, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 99), st.sampled_from(["{}", "${}", "{} legs", "**{}**", "{}."]))
def test_a_number_is_right_in_every_way_of_writing_it_and_its_neighbour_is_wrong(n: int, cents: int, form: str) -> None:
    gold = f"{n}.{cents:02d}"
    written = form.format(f"{n:,}.{cents:02d}")
    assert score_output(f"So. {T} {written}.", gold)
    assert not score_output(f"So. {T} {written}.", f"{n + 1}.{cents:02d}" if n >= 0 else f"{n - 1}.{cents:02d}")


CITIES = "Which city?\nOptions:\n(A) Paris\n(B) Rome"


@pytest.mark.parametrize("said", ["Rome (A)", "A, Rome", "A (Rome)", "(A) Rome"])
def test_the_letter_of_one_option_with_the_text_of_another_is_neither(said: str) -> None:
    assert not is_correct(said, "(A)", question=CITIES) and not is_correct(said, "(B)", question=CITIES)


def test_an_option_without_text_does_not_take_the_next_ones() -> None:
    assert is_correct("(B)", "(B)", question="Which?\nOptions:\n(A)\n(B) Rome\n(C) Oslo")


@pytest.mark.parametrize(
    ("lines", "complete"),
    [
        (["Therefore, the answer is 18."], 1),
        (["So far.", "Therefore, the answer is:", "", "**(B)**"], 4),
        (["Therefore, the answer is \\[", "\\boxed{18}", "\\]"], 2),
        (["Therefore, the answer is $$", "18", "$$"], 2),
        (["Therefore, the answer is:", "- apple", "- banana", "", "Done."], 5),
        (["(A) The owl", "(B) The cat", "So the answer is (B)."], 3),
        (["**Answer:**", "", "18"], 3),
        (["Therefore, the answer is not (A).", "Look again.", "Therefore, the answer is (B)."], 3),
    ],
)
def test_a_text_is_complete_at_the_line_end_behind_its_answer(lines: list[str], complete: int) -> None:
    told = [is_complete("\n".join(lines[: number + 1])) for number in range(len(lines))]
    assert told.index(True) + 1 == complete
