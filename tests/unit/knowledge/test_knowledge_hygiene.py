"""What repeats or contradicts what: a table of pairs, most of them hard."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.knowledge.hygiene import Likeness, claim_keys, compare, is_similar

REPEATS, CONTRADICTS, NONE = Likeness.REPEATS, Likeness.CONTRADICTS, Likeness.NONE
EXAMPLES = Path(__file__).parents[3] / "examples"

PAIRS = [
    # The same in other words.
    (REPEATS, "A spider has 8 legs.", "Spiders have eight legs."),
    (REPEATS, "There are 12 months in a year.", "There are twelve months in every year"),
    (REPEATS, "Canberra is the capital of Australia.", "The capital of Australia is Canberra."),
    (REPEATS, "Australia's capital is Canberra.", "The capital of Australia is Canberra"),
    (REPEATS, "12 inches are one foot.", "One foot is 12 inches."),
    (REPEATS, "A verst is 3500 feet.", "A verst is 3,500 feet"),
    (REPEATS, "A dozen has twelve pieces", "Dozens have 12 pieces."),
    (REPEATS, "A square has twenty-four symmetries.", "A square has 24 symmetries"),
    (REPEATS, "Whales aren't fish.", "Whales are not fish."),
    (REPEATS, "The result of 2 + 2 is 4.", "The result of 2 + 2 is 4.0"),
    # Another value of the same subject, or the opposite.
    (CONTRADICTS, "A spider has 8 legs.", "Spiders have six legs."),
    (CONTRADICTS, "A chain is 66 feet.", "A chain is 60 feet."),
    (CONTRADICTS, "A chain is 66 feet.", "A chain is about 70 feet."),
    (CONTRADICTS, "12 times 13 equals 156.", "12 times 13 equals 155."),
    (CONTRADICTS, "The square root of 144 is 12.", "The square root of 144 is 13."),
    (CONTRADICTS, "A stamp costs $5.", "A stamp costs $6."),
    (CONTRADICTS, "There are 12 months in a year.", "There are 13 months in a year."),
    (CONTRADICTS, "The Battle of Hastings was fought in 1066.", "The Battle of Hastings was fought in 1067."),
    (CONTRADICTS, "The capital of Australia is Canberra.", "The capital of Australia is Sydney."),
    (CONTRADICTS, "Australia's capital is Canberra.", "The capital of Australia is Sydney."),
    (CONTRADICTS, "The author of Hamlet is William Shakespeare.", "The author of Hamlet is Christopher Marlowe."),
    (CONTRADICTS, "The opposite of north is south.", "The opposite of north is east."),
    (CONTRADICTS, "HTML stands for HyperText Markup Language.", "HTML stands for Hyperlink Text Machine Language."),
    (CONTRADICTS, "In chess, the value of a queen is 9.", "In chess, the value of a queen is 8."),
    (CONTRADICTS, "A whale is a fish.", "A whale is not a fish."),
    (CONTRADICTS, "Penguins can't fly.", "Penguins can fly."),
    (CONTRADICTS, "Water boils at 100 degrees.", "Water never boils at 100 degrees."),
    # Other subjects, though nearly all words are the same.
    (NONE, "A spider has 8 legs.", "A scorpion has 8 legs."),
    (NONE, "A spider has 8 legs.", "A crab has 10 legs."),
    (NONE, "A flea has 6 legs.", "A flea has 2 antennae."),
    (NONE, "An English ell is 45 inches.", "A Flemish ell is 27 inches."),
    (NONE, "A year has 365 days.", "A leap year has 366 days."),
    (NONE, "The capital of Austria is Vienna.", "The capital of Australia is Canberra."),
    (NONE, "The Battle of Hastings was fought in 1066.", "The Battle of Civitate was fought in 1053."),
    # Another unit is no other value.
    (NONE, "A chain is 66 feet.", "A chain is 22 yards."),
    (NONE, "A mile is 1760 yards.", "A mile is 5280 feet."),
    (NONE, "A chain equals 66 feet.", "A chain equals 22 yards."),
    # Numbers that say what is spoken of.
    (NONE, "7 is a prime number.", "11 is a prime number."),
    (NONE, "The number 7 is a prime number.", "The number 11 is a prime number."),
    (NONE, "The factorial of 0 is 1.", "The factorial of 1 is 1."),
    (NONE, "The square of 3 is 9.", "The square of 4 is 16."),
    (NONE, "A number that ends in 0 is divisible by 5.", "A number that ends in 5 is divisible by 5."),
    (NONE, "A hundred is divisible by 4.", "A hundred is divisible by 5."),
    (NONE, "In 1914 Germany attacked Belgium.", "In 1940 Germany attacked Belgium."),
    # More than one can be true.
    (NONE, "A spider can have 8 eyes.", "A spider can have 6 eyes."),
    (NONE, "A flower has at least 3 petals.", "A flower has at least 4 petals."),
    (NONE, "An example of a mammal is a dog.", "An example of a mammal is a cat."),
    (NONE, "The example of a bird is an eagle.", "The example of a bird is a hawk."),
    (NONE, "The cause of the fire was lightning.", "The cause of the fire was carelessness."),
    (NONE, "The capital of Australia is Canberra.", "The capital of Australia is beautiful."),
    (NONE, "The length of a boat is measured in feet.", "The length of a boat is called overall."),
    (NONE, "The capital of Australia is Canberra.", "The capital of Australia is the city of Canberra."),
    (NONE, "Bark means the cover of a tree.", "Bark means the sound of a dog."),
    # The order of the words is what is said.
    (NONE, "Dogs chase cats.", "Cats chase dogs."),
    (NONE, "not True is False", "not False is True"),
    (NONE, "A foot is 12 inches.", "12 feet are an inch."),
    (NONE, "All squares are rectangles that have equal sides.", "All rectangles that have equal sides are squares only."),
    (NONE, "(a + b)^2 = a^2 + 2ab + b^2", "(a - b)^2 = a^2 - 2ab + b^2"),
    (NONE, "True and False is False.", "True or False is True."),
    (NONE, 'Pop out "[", "(" one by one.', 'Pop out "(", "[" one by one.'),
    (NONE, 'The ordering is "hawk ? robin owl".', 'The ordering is "hawk robin ? owl".'),
    # Nothing to go by.
    (NONE, "x = 5", "x = 6"),
    (NONE, "???", "!!!"),
    (NONE, "9" * 5000 + " hundred feet", "፩ million feet are ②² far"),
    (NONE, "العربية لغة", "العربية لهجة"),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "one", "other"), PAIRS)
def test_a_pair_is_told_apart(expected: Likeness, one: str, other: str) -> None:
    found = [compare(one, other), compare(other, one)] if set(claim_keys(one)) & set(claim_keys(other)) else [NONE]
    assert set(found) == {expected}


SIMILAR = [
    (True, "A whale is a mammal that lives in the sea.", "A whale is a mammal which lives in the ocean sea."),
    (True, "A spider has 8 legs and 2 body parts.", "A spider has 8 jointed legs and 2 body parts."),
    (True, "The heart of a shrimp is located in its head part.", "The heart of a shrimp is found in its head part."),
    (False, "A spider has 8 legs and 2 body parts.", "A scorpion has 8 legs and 2 body parts."),
    (False, "A spider has 8 legs and 2 body parts.", "A spider has 6 legs and 2 body parts."),
    (False, "A whale is a mammal that lives in the sea.", "A whale is not a mammal that lives in the sea."),
    (False, "Shakespeare is the author of the tragedy Hamlet in English.", "Shakespeare is the author of the tragedy Othello in English."),
    (False, "A chain is 66 feet.", "A furlong is 66 feet."),
    (False, "Dogs chase cats.", "Dogs chase cars."),
    (False, "Dogs chase cats.", "Cats chase dogs."),
    (False, 'Brackets are popped in the order "(", "[" one by one.', 'Brackets are popped in the order "(", "[", "<" one by one.'),
    (False, "Multiplication is done before addition of 2 terms.", "Multiplication is done before addition of 3 terms."),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "one", "other"), SIMILAR)
def test_words_must_agree_with_vectors(expected: bool, one: str, other: str) -> None:
    assert is_similar(one, other) is is_similar(other, one) is expected


def test_no_two_facts_of_the_example_are_suspected_and_every_wrong_value_is() -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "families" / "facts.jsonl").read_text("utf-8").splitlines()]
    by_key: dict[str, list[str]] = {}
    for row in rows:
        for key in claim_keys(row["text"]):
            by_key.setdefault(key, []).append(row["text"])
    for texts in by_key.values():
        assert [pair for pair in combinations(texts, 2) if compare(*pair) is not NONE] == []
    for row in rows:
        wrong = row["text"].replace(str(row["value"]), str(row["value"] + 1))
        assert wrong != row["text"]
        assert set(claim_keys(wrong)) & set(claim_keys(row["text"]))
        assert compare(wrong, row["text"]) is CONTRADICTS


def test_a_table_in_sentences_shares_no_keys() -> None:
    keys = [key for n in range(2, 200) for key in claim_keys(f"The square root of {n * n} is {n}.")]
    assert len(set(keys)) == len(keys)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_has_keys_and_is_compared_both_ways(one: str, other: str) -> None:
    for key in claim_keys(one):
        assert len(key) == 24
    assert compare(one, other) is compare(other, one)
    assert compare(one, one) in (REPEATS, NONE)
    assert is_similar(one, other) is is_similar(other, one)
