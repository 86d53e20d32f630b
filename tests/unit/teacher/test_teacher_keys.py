"""Equal questions have equal keys, and nothing else has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from services.teacher.keys import SEED_LIMIT, canonical_json, request_key, seed_of
from services.teacher.types import Message, Question, Sampling

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
schemas = st.none() | st.dictionaries(words, values, max_size=3)
samplings = st.builds(
    Sampling,
    st.floats(0, 2),
    st.floats(0.01, 1),
    st.integers(1, 8192),
    st.none() | st.integers(0, 2**31),
    st.lists(words, max_size=3).map(tuple),
)
questions = st.builds(
    Question,
    messages=st.lists(st.builds(Message, st.sampled_from(["system", "user"]), words), min_size=1, max_size=3).map(
        tuple
    ),
    model=words,
    sampling=samplings,
    schema=schemas,
    sample=st.integers(0, 5),
)


def shuffled(value: Any) -> Any:
    """The same JSON value, with names in another order and whole numbers as doubles."""
    if isinstance(value, dict):
        return {name: shuffled(item) for name, item in reversed(value.items())}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@given(questions, words, words, st.booleans(), st.floats(0, 100))
def test_who_asks_and_for_how_much_is_not_part_of_the_key(
    question: Question, run: str, caller: str, skip: bool, budget: float
) -> None:
    other = replace(question, run=run, caller=caller, skip_cache=skip, budget_usd=budget)
    assert request_key(other) == request_key(question)


@given(questions)
def test_how_a_request_is_written_is_not_part_of_the_key(question: Question) -> None:
    stops = question.sampling.stop
    other = replace(
        question,
        schema=shuffled(question.schema),
        sampling=replace(question.sampling, stop=(*reversed(stops), *stops)),
    )
    assert request_key(other) == request_key(question)


@given(questions, questions)
def test_different_questions_have_different_keys(one: Question, other: Question) -> None:
    assume(canonical_json(_decisive(one)) != canonical_json(_decisive(other)))
    assert request_key(one) != request_key(other)


def _decisive(question: Question) -> Any:
    messages = [[message.role, message.content] for message in question.messages]
    sampling = question.sampling
    how = [sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed, sorted(set(sampling.stop))]
    return [messages, question.model, how, question.schema, question.sample]


def test_text_that_moves_from_one_message_to_the_next_changes_the_key() -> None:
    sampling = Sampling(0.8, 1, 100)
    one = Question((Message("user", "ab"), Message("user", "c")), "m", sampling)
    assert request_key(one) != request_key(replace(one, messages=(Message("user", "a"), Message("user", "bc"))))


def test_the_key_stays_what_it_is_or_paid_answers_are_lost() -> None:
    question = Question(
        (Message("user", "Ünïcode?"),), "m", Sampling(0.8, 1.0, 1024, None, ("x",)), {"type": "object"}, "n"
    )
    written = (
        '{"messages":[{"content":"Ünïcode?","role":"user"}],"model":"m","sample":0,"sampling":{"max_tokens":1024,'
        '"seed":null,"stop":["x"],"temperature":0.8,"top_p":1},"schema":{"type":"object"},"schema_name":"n","version":1}'
    )
    assert request_key(question) == hashlib.sha256(written.encode()).hexdigest()


@given(values)
def test_canonical_json_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(questions)
def test_every_sample_and_every_time_of_asking_has_a_seed_of_its_own(question: Question) -> None:
    seeds = []
    for sample in (0, 1):
        at = replace(question, sample=sample)
        seeds += [seed_of(at, request_key(at), asked) for asked in range(3)]
    assert len(set(seeds)) == 6
    assert all(0 <= seed <= max(SEED_LIMIT, question.sampling.seed or 0) for seed in seeds)


def test_a_given_seed_is_sent_as_it_is() -> None:
    question = Question((Message("user", "q"),), "m", Sampling(0.8, 1, 100, 2**40))
    assert seed_of(question, request_key(question)) == 2**40
