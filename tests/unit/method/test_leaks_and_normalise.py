"""Entries that give an answer away are told from general facts; equal facts get one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from method.leaks import leaks_answer
from method.normalise import normalise_fact

LEGS = "How many legs do 3 spiders have?"
CLIPS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
SPORT = 'Is the following sentence plausible? "Marcelo got on the end of a through ball."'
ORDER = "Which is right?\nOptions:\n(A) midsize old grey sweater\n(B) grey old midsize sweater"


@pytest.mark.parametrize(
    ("entry", "question", "answer", "leaks"),
    [
        ("A spider has 8 legs.", LEGS, "24", False),
        ("Multiply the number of animals by the legs of one.", LEGS, "24", False),
        ("The answer is 24.", LEGS, "24", True),
        ("In this question, the answer is 24 legs.", LEGS, "24", True),
        ("The correct result is: 24", LEGS, "24", True),
        ("The answer is a number of legs.", LEGS, "24", False),
        ("3 spiders have 24 legs.", LEGS, "24", True),
        ("Three spiders have twenty-four legs.", LEGS, "24", True),
        ("3 x 8 = 24", LEGS, "24", True),
        ("A day has 24 hours.", LEGS, "24", False),
        ("A chain is 66 feet.", "How many feet is a chain?", "66", False),
        ("1 chain = 66 feet", "How many feet is 1 chain?", "66", False),
        ("1 chain = 66 feet", "A wall is 2 chains long. How many feet is it?", "132", False),
        ("2 chains = 132 feet", "A wall is 2 chains long. How many feet is it?", "132", True),
        ("Selling 48 in April and half of them in May gives 72.", CLIPS, "72", True),
        ("48 + 24 = 72", CLIPS, "72", True),
        ("Half of a number is that number divided by 2.", CLIPS, "72", False),
        ("The answer is yes.", SPORT, "yes", True),
        ("A through ball is a pass in soccer.", SPORT, "yes", False),
        ("If both terms belong to one sport, the answer is yes.", SPORT, "yes", False),
        ("Yes means plausible; no means implausible.", SPORT, "no", False),
        ("The correct option is (A).", ORDER, "(A)", True),
        ("(A) is the correct answer.", ORDER, "(A)", True),
        ("Option (B) often looks right.", ORDER, "(A)", False),
        ("Say midsize old grey sweater.", ORDER, "(A)", True),
        ("Adjectives go size, age, color, material.", ORDER, "(A)", False),
        ("Sorted: alpha beta gamma", "Sort the words: gamma alpha beta", "alpha beta gamma", True),
        ("Compare words letter by letter.", "Sort the words: gamma alpha beta", "alpha beta gamma", False),
        ("Oslo is the capital of Norway.", "What is the capital of Norway?", "Oslo", False),
        ("A kid is a young goat.", "What is a young goat called?", "a kid", False),
        ("", LEGS, "24", False),
        ("A spider has 8 legs.", LEGS, "", False),
    ],
)
def test_an_entry_leaks_where_it_settles_its_own_question(entry: str, question: str, answer: str, leaks: bool) -> None:
    assert leaks_answer(entry, question, answer) is leaks


@given(st.text(), st.text(), st.text())
def test_no_text_makes_the_leak_check_fail(entry: str, question: str, answer: str) -> None:
    assert leaks_answer(entry, question, answer) in (True, False)


def test_equal_facts_share_a_key_and_different_ones_do_not() -> None:
    assert normalise_fact(" A  Spider has\n8 legs. ") == normalise_fact("a spider has 8 legs")
    assert normalise_fact("Straße") == normalise_fact("STRASSE")
    assert normalise_fact("８ legs") == normalise_fact("8 legs")
    assert normalise_fact("A spider has 8 legs") != normalise_fact("A spider has 6 legs")


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert normalise_fact(normalise_fact(text)) == normalise_fact(text)
