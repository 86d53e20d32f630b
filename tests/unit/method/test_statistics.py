"""Intervals and paired tests."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from method.statistics import (
    bootstrap_interval,
    compare_seeds,
    holm,
    mcnemar,
    paired_difference,
    sign_flip_test,
    spread,
)


def test_an_interval_holds_the_mean_and_has_the_known_width() -> None:
    mean, low, high = bootstrap_interval([True] * 72 + [False] * 108)
    assert mean == pytest.approx(0.4)
    assert (low, high) == (pytest.approx(0.328, abs=0.01), pytest.approx(0.472, abs=0.01))
    assert all(math.isnan(v) for v in bootstrap_interval([]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval([1], confidence=95)


def test_none_of_n_is_no_proof_of_zero() -> None:
    assert bootstrap_interval([0] * 72) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 72)))
    assert bootstrap_interval([True] * 20) == (1.0, pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_flags_and_values_give_nearly_the_same_interval_and_a_seed_repeats_it() -> None:
    flags = [i % 3 == 0 for i in range(150)]
    exact = bootstrap_interval(flags)
    sampled = bootstrap_interval([0.999999 if f else 0.0 for f in flags], seed=4)
    assert sampled == pytest.approx(exact, abs=0.02)
    assert sampled == bootstrap_interval([0.999999 if f else 0.0 for f in flags], seed=4)


def test_many_flags_are_no_problem() -> None:
    mean, low, high = bootstrap_interval([i % 10 < 3 for i in range(20_000)])
    assert low < mean < high
    assert high - low < 0.02


def test_a_paired_difference_is_zero_for_equal_methods() -> None:
    a = [True, False] * 20
    assert paired_difference(a, a) == (0, 0, 0)
    diff, low, high = paired_difference([True] * 30 + [False] * 10, [False] * 40, seed=1)
    assert low < diff == 0.75 < high


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar([True] * 10, [True] * 10) == 1.0
    assert mcnemar([True] * 5 + [False], [False] * 5 + [True]) == pytest.approx(2 * 7 / 64)
    assert mcnemar([False] * 8, [True] * 8) == pytest.approx(2 / 256)
    with pytest.raises(ValueError, match="3 results against 2"):
        mcnemar([True] * 3, [True] * 2)


def test_the_sign_flip_test_of_flags_is_mcnemars() -> None:
    a, b = [True] * 9 + [False] * 3 + [True] * 5, [False] * 9 + [True] * 3 + [True] * 5
    assert sign_flip_test(a, b) == mcnemar(a, b)
    assert sign_flip_test([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert sign_flip_test([], []) == 1.0


def test_the_sign_flip_test_of_shares_agrees_with_counting_all_signs() -> None:
    rng = random.Random(3)
    differences = [rng.choice([-1, 1, 1]) * rng.choice([1, 2, 3]) / 3 for _ in range(12)]
    reached = abs(sum(differences)) - 1e-9
    signs = list(itertools.product((-1, 1), repeat=12))
    exact = sum(abs(sum(s * abs(d) for s, d in zip(each, differences, strict=True))) >= reached for each in signs)
    p = sign_flip_test(differences, [0.0] * 12)
    assert p == pytest.approx(exact / len(signs), abs=0.015)
    assert p == sign_flip_test(differences, [0.0] * 12)
    assert p == pytest.approx(sign_flip_test([0.0] * 12, differences), abs=1e-12)


def test_the_sign_flip_test_of_a_large_difference_is_not_bounded_by_the_number_of_draws() -> None:
    a, b = [1.0, 2 / 3] * 60, [1 / 3] * 120
    p = sign_flip_test(a, b)
    # All 120 differences have the same sign: the true value is 2 ** -119.
    assert 2**-119 < p < 1e-9, "small enough for a correction for hundreds of tests, and never below the truth"


def test_equal_methods_are_called_different_as_often_as_the_level_says() -> None:
    rng, found = random.Random(1), 0
    for number in range(80):
        easy = [rng.random() for _ in range(50)]
        # Three seeds answer a question alike more often than not: as independent answers they would show too much.
        a, b = ([statistics.fmean(rng.random() < e for _ in range(3)) for e in easy] for _ in range(2))
        found += sign_flip_test(a, b, number) < 0.05
    assert found <= 9


def test_a_spread_tells_mean_deviation_and_extremes() -> None:
    told = spread([0.7, 0.8, 0.9])
    assert (told.mean, told.deviation, told.least, told.most, told.seeds) == (
        pytest.approx(0.8), pytest.approx(0.1), 0.7, 0.9, 3,
    )  # fmt: skip
    assert spread([0.5]).deviation == 0
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_comparison_over_seeds_counts_each_question_once() -> None:
    a = [[True] * 60 + [False] * 40, [True] * 62 + [False] * 38, [True] * 58 + [False] * 42]
    b = [[True] * 45 + [False] * 55, [True] * 50 + [False] * 50]
    told = compare_seeds(a, b)
    assert (told.questions, told.a.seeds, told.b.seeds) == (100, 3, 2)
    assert (told.a.mean, told.b.mean) == (pytest.approx(0.6), pytest.approx(0.475))
    assert told.low < told.difference < told.high
    assert told.difference == pytest.approx(0.125)
    assert told.p < 0.01
    assert compare_seeds(a, a).p == 1.0
    alone = compare_seeds(a[:1], b[:1])
    assert alone.p == mcnemar(a[0], b[0])
    # The same seed three times is no more evidence than once.
    assert compare_seeds(a[:1] * 3, b[:1] * 3).p == pytest.approx(alone.p)


def test_a_comparison_over_seeds_needs_the_same_questions() -> None:
    with pytest.raises(ValueError, match="2 results against 3"):
        compare_seeds([[True] * 3], [[True] * 2])
    with pytest.raises(ValueError, match="needs a seed"):
        compare_seeds([], [[True]])


def test_holms_correction_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.5])
