"""Hard cases of scoring: a table of what a careful person would say, and outputs of real models with a person's verdicts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from method.answers import extract_answer, split_rationale
from method.scoring import score_output
from method.values import options_of, read_choice, type_of

VERDICTS = [
    json.loads(line)
    for line in (Path(__file__).parent / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    if not line.startswith('{"note"')
]
# What models write in all their forms: for each gold answer outputs that are right and outputs that are wrong.
SAID = [json.loads(line) for line in (Path(__file__).parent / "said.jsonl").read_text(encoding="utf-8").splitlines()]
T = "Therefore, the answer is"
DATES = "What is the date?\nOptions:\n(A) 01/02/1999\n(B) 02/01/1999\n(C) 12/31/1998"
SHAPES = "This SVG path draws a\nOptions:\n(A) circle\n(B) heptagon\n(C) hexagon\n(D) None of the above"
COUNTS = "How many?\nOptions:\n(A) 24\n(B) 1/2\n(C) 1,000\n(D) -3\n(E) 2.5%"
STATEMENTS = "Which?\nI. foo\nII. bar\nIII. baz\nOptions:\n(A) I\n(B) II\n(C) I and II\n(D) I, II, and III"
MMLU = "Capital of Italy?\nOptions:\n(A) Paris\n(B) Rome\n(C) Both A and B"

# (output, gold, question, whether it is right)
TABLE = [
    # --- numbers: units, commas, decimals, fractions, negatives, currency, percent, words
    (f"{T} 18 dollars.", "18", "", True),
    (f"{T} $18.00 per day.", "18", "", True),
    (f"{T} €18.", "18", "", True),
    (f"{T} 18.5.", "18", "", False),
    (f"{T} 1,080.", "1080", "", True),
    (f"{T} 1080.", "1,080", "", True),
    (f"{T} 2,5.", "2", "", False),
    (f"{T} 1.234.567.", "1.234", "", False),
    (f"{T} 12.50%.", "12.5", "", True),
    (f"{T} 12.5 percent.", "12.5%", "", True),
    (f"{T} 0.125.", "12.5%", "", False),
    (f"{T} 2 million.", "2000000", "", True),
    (f"{T} 2 million.", "2", "", False),
    (f"{T} two hundred and five.", "205", "", True),
    (f"{T} two hundred.", "2", "", False),
    (f"{T} a hundred.", "100", "", True),
    (f"{T} one thousand, two hundred.", "1200", "", False),
    (f"{T} three and a half.", "3", "", False),
    (f"{T} 3 and a half hours.", "3.5", "", True),
    (f"{T} 3 and 1/2.", "7/2", "", True),
    (f"{T} 3/4 of the cake.", "0.75", "", True),
    (f"{T} two thirds.", "2", "", False),
    (f"{T} -50.", "-50", "", True),
    (f"{T} \u221250.", "-50", "", True),
    (f"{T} negative fifty.", "-50", "", True),
    (f"{T} (-50).", "-50", "", True),
    (f"{T} 50.", "-50", "", False),
    (f"{T} 5 - 55 = -50.", "-50", "", True),
    (f"{T} 5 - 55.", "5", "", False),
    (f"{T} x = 5, y = 6.", "6", "", False),
    (f"{T} x = 6.", "6", "", True),
    (f"{T} \\sqrt{{4}}.", "4", "", False),
    (f"{T} 2^10.", "2", "", False),
    (f"{T} not 24.", "24", "", False),
    (f"{T} 24, not 25.", "24", "", True),
    (f"{T} 24 out of 60.", "24", "", True),
    (f"{T} between 20 and 24.", "24", "", False),
    (f"{T} approximately 24.", "24", "", True),
    (f"{T} unknown.", "0", "", False),
    (f"{T} none.", "0", "", False),
    (f"{T} zero.", "0", "", True),
    (f"{T} 10:30.", "10", "", False),
    # --- quantities
    (f"{T} 66 ft.", "66 feet", "", True),
    (f"{T} 66 meters.", "66 feet", "", False),
    (f"{T} 18th.", "18th century", "", True),
    (f"{T} the 18th century.", "18th century", "", True),
    (f"{T} 19th.", "18th century", "", False),
    (f"{T} 1805.", "18th century", "", False),
    # --- formulas, intervals and tuples of MATH
    (f"{T} $\\frac{{3}}{{4}}$.", "\\frac{3}{4}", "", True),
    (f"{T} \\dfrac{{3}}{{4}}.", "\\frac{3}{4}", "", True),
    (f"{T} $x^2 + 2x + 1$.", "x^2+2x+1", "", True),
    (f"{T} x^2+2x-1.", "x^2+2x+1", "", False),
    (f"{T} (3,4).", "(3, 4)", "", True),
    (f"{T} [3,4).", "(3,4)", "", False),
    ("Hence \\[\\boxed{(3,4)}\\]", "(3,4)", "", True),
    (f"{T}:\n\\[\n\\boxed{{12}}\n\\]", "12", "", True),
    (f"{T} \\(12\\).", "12", "", True),
    (f"{T} 90 degrees.", "90^\\circ", "", True),
    (f"{T} $90^{{\\circ}}$.", "90^\\circ", "", True),
    (f"{T} 11 cm.", "11\\text{ cm}", "", True),
    (f"{T} Tuesday.", "\\text{Tuesday}", "", True),
    (f"{T} 1,000.", "1,\\!000", "", True),
    (f"{T} $1{{,}}000$.", "1000", "", True),
    (f"{T} \\frac12.", "\\frac{1}{2}", "", True),
    (f"{T} -0.5.", "\\frac{-1}{2}", "", True),
    (f"{T} \\dfrac{{x}}{{2}}.", "\\frac{x}{2}", "", True),
    (f"{T} 10\\sqrt2.", "10\\sqrt{2}", "", True),
    (f"{T} 10.", "10\\sqrt{2}", "", False),
    (f"{T} 2\\pi.", "2\\pi", "", True),
    (f"{T} 2.", "2\\pi", "", False),
    (f"{T} 2x.", "2", "", False),
    (f"{T} 2.", "2x", "", False),
    (f"{T} 2x.", "2x", "", True),
    (f"{T} x \\leq 3.", "x \\le 3", "", True),
    (f"{T} $(-\\infty, 4]$.", "(-\\infty,4]", "", True),
    (f"{T} 75\\%.", "75", "", True),
    (f"{T} \\$18.90.", "18.9", "", True),
    (f"{T} 3 and -2.", "3, -2", "", True),
    # --- choices
    (f"{T} A", "(A)", SHAPES, True),
    (f"{T} (a).", "(A)", SHAPES, True),
    (f"{T} [A].", "(A)", SHAPES, True),
    (f"{T} answer choice A.", "(A)", SHAPES, True),
    (f"{T} option (A): circle.", "(A)", SHAPES, True),
    (f"{T} $\\boxed{{\\text{{(A)}}}}$.", "(A)", SHAPES, True),
    (f"{T} circle.", "(A)", SHAPES, True),
    (f"{T} a circle.", "(A)", SHAPES, True),
    (f"{T} none of the above.", "(D)", SHAPES, True),
    (f"{T} (None of the above).", "(A)", SHAPES, False),
    (f"{T} (A) heptagon.", "(A)", SHAPES, False),
    (f"{T} (A) a round thing.", "(A)", SHAPES, True),
    (f"{T} (A), because (B) has seven sides.", "(A)", SHAPES, True),
    (f"{T} (A), not (B).", "(A)", SHAPES, True),
    (f"{T} (A), (B).", "(A)", SHAPES, False),
    (f"{T} both (A).", "(A)", SHAPES, False),
    (f"{T} (A)(B).", "(A)", SHAPES, False),
    (f"{T} A/B.", "(A)", SHAPES, False),
    (f"{T} (E).", "(A)", SHAPES, False),
    (f"{T} Rome.", "B", MMLU, True),
    (f"{T} Both A and B.", "(C)", MMLU, True),
    (f"{T} Paris.", "(B)", MMLU, False),
    (f"{T} 01/02/1999.", "(A)", DATES, True),
    (f"{T} 02/01/1999.", "(A)", DATES, False),
    (f"{T} (A) 01/02/1999.", "(A)", DATES, True),
    (f"{T} 24.0.", "(A)", COUNTS, True),
    (f"{T} 0.5.", "(B)", COUNTS, True),
    (f"{T} 1000.", "(C)", COUNTS, True),
    (f"{T} 3.", "(D)", COUNTS, False),
    (f"{T} 7.", "(A)", COUNTS, False),
    ("(B) is the correct answer.", "(B)", SHAPES, True),
    ("So option B is the answer.", "(B)", SHAPES, True),
    ("(B) is not the correct answer.", "(B)", SHAPES, False),
    ("The correct option is (B).", "(B)", SHAPES, True),
    ("Answer: B\nExplanation: it has seven sides.", "(B)", SHAPES, True),
    ("**Final Answer**\n\n(B)", "(B)", SHAPES, True),
    ("(B)", "(B)", SHAPES, True),
    ("B.", "(B)", SHAPES, True),
    ("It may be (A) or (B).", "(A)", SHAPES, False),
    ("Six sides are too few. Option B is correct.", "(B)", SHAPES, True),
    ("Therefore, (B) is correct.", "(B)", SHAPES, True),
    ("Option B is incorrect.", "(B)", SHAPES, False),
    (f"{T} (B) is wrong.", "(B)", SHAPES, False),
    (f"{T} B, heptagon.", "(B)", SHAPES, True),
    (f"{T} B, C.", "(B)", SHAPES, False),
    (f"{T} B (heptagon).", "(B)", SHAPES, True),
    (f"{T} B (C).", "(B)", SHAPES, False),
    (f"{T} B heptagon.", "(B)", SHAPES, True),
    (f"{T} B circle.", "(B)", SHAPES, False),
    (f"{T} not (A) but (B).", "(B)", SHAPES, True),
    (f"{T} (B", "(B)", SHAPES, True),
    (f"{T} **(B) heptagon**.", "(B)", SHAPES, True),
    ("**Answer:** B) heptagon", "(B)", SHAPES, True),
    ("Answer: **B**", "(B)", SHAPES, True),
    ("The final answer is: $\\boxed{B}$", "(B)", SHAPES, True),
    # --- verdicts
    (f"{T} deductively valid.", "valid", "", True),
    (f"{T} the argument isn't valid.", "invalid", "", True),
    (f"{T} not deductively valid.", "valid", "", False),
    (f"{T} neither valid nor invalid.", "valid", "", False),
    (f"{T} valid/invalid.", "valid", "", False),
    (f"{T} yes and no.", "yes", "", False),
    (f"{T} Yes, you return to the starting point.", "Yes", "", True),
    (f"{T} Yes you return to the starting point.", "Yes", "", True),
    (f"{T} No. Yes would be wrong.", "No", "", True),
    (f"{T} not plausible.", "implausible", "", True),
    (f"{T} plausible.", "implausible", "", False),
    (f"{T} not True.", "False", "", True),
    ("valid", "valid", "", True),
    ("valid valid valid valid", "valid", "", False),
    ("The argument talks about what is valid.", "valid", "", False),
    ("False is the answer.", "False", "", True),
    # --- brackets
    (f"{T} ] ) }}.", "] ) }", "", True),
    (f'{T} "]", ")", "}}".', "] ) }", "", True),
    (f"{T} ])}}", "] ) }", "", True),
    (f"{T} ] ) }} }}.", "] ) }", "", False),
    (f"{T} ) ] }}.", "] ) }", "", False),
    (f"{T} empty.", ")", "", False),
    (f"{T} < >.", ">", "", False),
    # --- lists of words
    (f"{T} apple, banana, cherry.", "apple banana cherry", "", True),
    (f"{T}:\n- apple\n- banana\n- cherry", "apple banana cherry", "", True),
    (f"{T}:\n1. apple\n2. banana\n3. cherry\n\nThese are sorted.", "apple banana cherry", "", True),
    (f"{T} 'apple' 'banana' 'cherry'.", "apple banana cherry", "", True),
    (f"{T} apple < banana < cherry.", "apple banana cherry", "", True),
    (f"{T} apple cherry banana.", "apple banana cherry", "", False),
    (f"{T} apple banana.", "apple banana cherry", "", False),
    (f"{T} apple banana banana cherry.", "apple banana cherry", "", False),
    (f"{T} o\u2019connell shouldn\u2019t.", "o'connell shouldn't", "", True),
    # --- several answers, afterthoughts, invented questions, end marks
    (f"{T} 20. Wait. The correct answer is 24.", "24", "", True),
    (f"{T} 24. However, with the tail it would be 25.", "24", "", True),
    (f"{T} either 20 or 24.", "24", "", False),
    ("Suppose the answer is 5. It fails.\n#### 7", "7", "", True),
    ("#### Step 2\nWe add.", "2", "", False),
    (f"Crabs have 10 legs.\nQuestion: And 2 cats?\nAnswer: {T} 8.", "8", "", False),
    (f"{T} 30.\nQ: And 2 cats?\nA: {T} 8.", "30", "", True),
    (f"{T} 30.<|im_end|>\n{T} 8.", "30", "", True),
    (f"{T} 30.\n### Instruction:\nThe final answer is 8.", "30", "", True),
    ("The answer to the question is 30.", "30", "", True),
    ("The answer is not clear.", "clear", "", False),
    ("The answer should be 30.", "30", "", True),
    # --- the tasks of BIG-Bench Hard of which no recorded output is among the verdicts, in the form of those that are
    ("Tomorrow is 11/12/2019. So today is 11/11/2019. So the answer is (B).", "(B)", DATES, True),
    ("One day later is 01/02/1999. So the answer is 01/02/1999.", "(A)", DATES, True),
    ("The path has 7 sides. So the answer is (B).", "(B)", SHAPES, True),
    ("The path has 7 sides, which is a heptagon. So the answer is heptagon (B).", "(B)", SHAPES, True),
    ("((-1 + 2 + 9 * 5) - (-2)) = 46 + 2 = 48. So the answer is 48.", "48", "", True),
    ("Then, the final equation is A * B = -3 * 13 = -39. So the answer is -39.", "-39", "", True),
    ("Then, the final equation is A * B = -3 * 13 = -39. So the answer is 39.", "-39", "", False),
    (
        "(4) Walk 3 steps: (0, -1). Since (0, -1) is not (0, 0), we are not where we started. So the answer is No.",
        "No",
        "",
        True,
    ),
    ("We are where we started. So the answer is Yes.", "No", "", False),
    ("There are 4 penguins. Therefore, there are 2 of them. So the answer is (C).", "(C)", COUNTS, True),
    ("The sum is 24 years. So the answer is 24.", "(A)", COUNTS, True),
    ("Louis is the oldest. So the answer is Louis.", "Louis", "", True),
    (
        "If we look at (A), it is sarcastic. Above the above, the above option is (A). So the answer is (A).",
        "(A)",
        SHAPES,
        True,
    ),
    ("Neither is sarcastic. So the answer is neither (A) nor (B).", "(A)", SHAPES, False),
    ("(5) At the end, Alice has the pink ball. So the answer is (A).", "(A)", SHAPES, True),
    ("(5) At the end, Alice has the pink ball. So the answer is (E).", "(A)", SHAPES, False),
    # --- nothing and nonsense
    (f"{T}", "valid", "", False),
    (f"{T} .", "valid", "", False),
    (f"{T} <answer>.", "answer", "", False),
    ("\x00\x01", "valid", "", False),
    ("valid" * 50, "valid", "", False),
    (f"{T} " + "8 " * 200, "8", "", False),
    # --- closing sentences of other words outrank what was only supposed
    (
        "Let us check whether the answer is (A). It is not. Therefore, the correct answer choice is (B).",
        "(B)",
        "",
        True,
    ),
    (
        "Let us check whether the answer is (A). It is not. Therefore, the correct answer choice is (B).",
        "(A)",
        "",
        False,
    ),
    ("One may think that the answer is 12. But 5 + 5 = 10. Our final answer is 10.", "10", "", True),
    ("A student might say the answer is 12.\nTherefore, the required answer is 10.", "12", "", False),
    ("The best answer option is (B).", "(B)", "", True),
    ("Thus, our answer is (B).", "(B)", "", True),
    # --- a "no" that denies a thing, and a verdict that is said twice
    ("So the answer is Yes, no one told him to.", "yes", "", True),
    (f"{T} yes: no net movement.", "yes", "", True),
    (f"{T} Yes (plausible).", "yes", "", True),
    (f"{T} No (implausible).", "no", "", True),
    (f"{T} no, not plausible.", "no", "", True),
    (f"{T} not valid (invalid).", "invalid", "", True),
    (f"{T} yes, no, it is not.", "yes", "", False),
    (f"{T} yes (implausible).", "yes", "", False),
    (f"{T} invalid, no, it is valid.", "invalid", "", False),
    # --- another option in the reason
    (f"{T} (B), although (A) is bigger.", "(B)", "", True),
    (f"{T} (B), unlike (A).", "(B)", "", True),
    (f"{T} (B), despite (A).", "(B)", "", True),
    # --- a heading that only begins like the next question's
    ("Let's think.\n### Question breakdown\nWe add 5 and 5.\n\nTherefore, the answer is 10.", "10", "", True),
    (f"{T} 10.\n### Question: How many?\n{T} 11.", "10", "", True),
    (f"{T} 10.\n### Question\nHow many?\n{T} 11.", "10", "", True),
    # --- statements with Roman numbers before the options
    (f"{T} I.", "(A)", STATEMENTS, True),
    (f"{T} I, II, and III.", "(D)", STATEMENTS, True),
    (f"{T} (C).", "(C)", STATEMENTS, True),
    (f"{T} I.", "(C)", STATEMENTS, False),
]


@pytest.mark.parametrize(("output", "gold", "question", "right"), TABLE)
def test_a_hard_case_is_judged_as_a_careful_person_would(output: str, gold: str, question: str, right: bool) -> None:
    assert score_output(output, gold, question=question) is right


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: f"{row['source']}:{row['id']}")
def test_a_real_output_is_judged_as_a_person_judged_it(row: dict) -> None:
    assert score_output(row["output"], row["gold"], question=row["question"]) is row["right"], row.get("why")


@pytest.mark.parametrize("row", SAID, ids=lambda row: row["gold"])
def test_an_answer_is_credited_in_every_form_that_states_it_and_in_no_other(row: dict) -> None:
    missed = [said for said in row["right"] if not score_output(said, row["gold"], question=row["question"])]
    credited = [said for said in row["wrong"] if score_output(said, row["gold"], question=row["question"])]
    assert (missed, credited) == ([], [])


def test_the_verdicts_are_many_and_of_both_kinds_for_every_task_with_recorded_answers() -> None:
    assert len(VERDICTS) >= 310
    assert len({row["task"] for row in VERDICTS}) >= 24
    for task in {row["task"] for row in VERDICTS} - {"units"}:
        assert {row["right"] for row in VERDICTS if row["task"] == task} == {True, False}, task


# --- the defects of the method's public code, one test each


def test_empty_and_garbage_output_earns_nothing_where_the_gold_answer_is_valid() -> None:
    for output in ("", " ", "asdf qwer", "I cannot tell.", "if if if if", f"{T}", f"{T} a valid question of taste"):
        assert not score_output(output, "valid")


def test_a_decimal_is_not_cut_whatever_the_other_rows_are() -> None:
    assert extract_answer(f"{T} 3.5.") == "3.5"
    assert not score_output(f"{T} 3.5.", "3") and not score_output(f"{T} 3.", "3.5")


def test_the_word_answer_is_stripped_as_a_word_and_no_letters_with_it() -> None:
    assert extract_answer("Answer: Answerville") == "Answerville"
    assert extract_answer("Answer: newswear") == "new swear".replace(" ", "")
    assert split_rationale("Answers weren't easy. So the answer is werewolves.")[0] == "Answers weren't easy."


def test_a_letter_counts_however_it_is_introduced() -> None:
    for said in ("option A", "(A)", "A", "a", "A.", "the letter A", "choice (A)", "Option (A)"):
        assert score_output(f"{T} {said}.", "(A)")


# --- loops cost no time

_LOOPED = [
    "the answer is ",
    "So the answer is (A). ",
    "(",
    "{",
    "\\boxed{",
    "\n#### ",
    " ",
    "\n",
    "*\n",
    ". ",
    ".\t",
    "9,",
    "1/",
    "\n> ",
    "-> ",
    "<b a=",
]


@pytest.mark.parametrize("start", ["", "Answer: ", "x\n#### ", f"{T} "])
@pytest.mark.parametrize("looped", _LOOPED)
def test_a_student_that_loops_is_scored_at_once(looped: str, start: str) -> None:
    output = start + (looped * 4000)[:4000]
    begun = time.process_time()
    score_output(output, "18", question=COUNTS)
    assert time.process_time() - begun < 1  # hundredths of one; what searches backwards takes several


# --- what no output can do

_GOLDS = st.sampled_from(
    ["valid", "invalid", "yes", "(A)", "B", "24", "-3.5", "1/3", "] )", "owl", "apple banana", "66 feet"]
)
_GARBAGE = st.lists(
    st.sampled_from(["the", "of", "perhaps", "Z", "(Q)", "(R)", "999", "-17", "{", "<", "lamp", ".", ",", "\n", "\\", "$",
                     "#### ", T, "Answer:", "\\boxed{", "}", "is the answer", "Question:", "not", "=", "7:30", "**"])
).map(" ".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(_GARBAGE, _GOLDS)
def test_output_in_which_the_gold_answer_does_not_occur_is_never_right(output: str, gold: str) -> None:
    assert not score_output(output, gold, question=SHAPES if type_of(gold) != "choice" else "")


@settings(max_examples=150, deadline=None)
@given(st.text(), st.sampled_from([T, "So the answer is", "Answer:", ""]), _GOLDS)
def test_no_text_makes_scoring_fail_and_an_answer_in_the_middle_of_noise_is_an_answer_of_the_text(
    noise: str, marker: str, gold: str
) -> None:
    assert score_output(f"{noise} {marker} {noise}", gold, question=noise) in (True, False)
    assert score_output(f"{T} {gold}.", gold)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from("ABCDEFG"),
    st.sampled_from("ABCDEFG"),
    st.sampled_from(["({})", "{}", "option {}", "({}) text", "[{}]"]),
)
def test_a_letter_is_right_for_itself_only(said: str, gold: str, form: str) -> None:
    assert score_output(f"{T} {form.format(said)}.", f"({gold})") is (said == gold)
    assert read_choice(form.format(said)) == f"({said})"


def test_options_are_read_from_lines_with_letters() -> None:
    assert options_of("Who?\nOptions:\n(A) The owl\nB) a cat\nC. Both A and B") == {
        "(A)": "owl",
        "(B)": "cat",
        "(C)": "both a and b",
    }
