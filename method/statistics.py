"""Confidence intervals and paired tests for comparisons of accuracies. Everything is deterministic."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RESAMPLES = 2000
_FLIPS = 10_000


@dataclass(frozen=True)
class Spread:
    """One figure over several seeds.

    Attributes:
        mean: the mean.
        deviation: the sample standard deviation; 0 of a single seed.
        least: the smallest.
        most: the largest.
        seeds: how many there are.
    """

    mean: float
    deviation: float
    least: float
    most: float
    seeds: int


@dataclass(frozen=True)
class SeedComparison:
    """Two methods over the same questions, each with several seeds.

    Attributes:
        a: accuracy of the one over its seeds.
        b: accuracy of the other.
        difference: mean of a minus mean of b.
        low: lower end of its interval, over the questions.
        high: upper end.
        p: of sign_flip_test over the questions, each with its mean over the seeds.
        test: which test that is. Of flags, "mcnemar"; of shares, "permutation".
        questions: how many there are.
    """

    a: Spread
    b: Spread
    difference: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "permutation"]
    questions: int


def _binomial_quantiles(n: int, p: float, low: float, high: float) -> tuple[float, float]:
    """Quantiles of the share of successes among n draws: the bootstrap distribution of 0/1 data, without resampling."""
    cumulative = 0.0
    bounds: list[float] = []
    log_p, log_q = math.log(p), math.log1p(-p)
    for k in range(n + 1):
        log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        cumulative += math.exp(log_ways + k * log_p + (n - k) * log_q)
        while len(bounds) < 2 and cumulative >= (low, high)[len(bounds)]:
            bounds.append(k / n)
    bounds += [1.0] * (2 - len(bounds))  # rounding left the sum just under the upper quantile
    return bounds[0], bounds[1]


def bootstrap_interval(
    flags: Sequence[bool | float], seed: int = 0, *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Percentile bootstrap interval of a mean.

    For flags of only 0 and 1 the bootstrap distribution is binomial and its quantiles are computed exactly, so that the
    seed does not matter; other values (pass rates, paired differences) are resampled.

    Args:
        flags: one value a question.
        seed: of the resampling.
        confidence: between 0 and 1.
        resamples: number of resamples.

    Returns:
        (mean, low, high); NaN three times without values. Where all flags are 0, or all 1, resampling would find a width
        of 0: the bound is the exact one then (Clopper and Pearson, 1934). Other equal values give a width of 0.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be between 0 and 1")
    values = [float(v) for v in flags]
    n = len(values)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = math.fsum(values) / n
    low_share, high_share = (1 - confidence) / 2, (1 + confidence) / 2
    if set(values) == {0.0}:
        return mean, 0.0, 1 - low_share ** (1 / n)
    if set(values) == {1.0}:
        return mean, low_share ** (1 / n), 1.0
    if min(values) == max(values):
        return mean, mean, mean
    if set(values) <= {0.0, 1.0}:
        return mean, *_binomial_quantiles(n, mean, low_share, high_share)
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(resamples))
    return mean, means[int(low_share * (resamples - 1))], means[math.ceil(high_share * (resamples - 1))]


def paired_difference(
    a: Sequence[bool | float],
    b: Sequence[bool | float],
    seed: int = 0,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float, float]:
    """Bootstrap interval of mean(a) - mean(b) over the same questions: (difference, low, high).

    Raises:
        ValueError: the lengths differ.
    """
    _same_length(a, b)
    differences = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    if len(set(differences)) == 1:  # the bounds of a share are none of a difference
        return differences[0], differences[0], differences[0]
    return bootstrap_interval(differences, seed, confidence=confidence, resamples=resamples)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided McNemar test: the probability of so uneven a split if both were equally accurate.

    Args:
        a: whether each question was answered rightly by one method.
        b: the same questions, the other method.

    Raises:
        ValueError: the lengths differ.
    """
    _same_length(a, b)
    only_a = sum(1 for x, y in zip(a, b, strict=True) if x and not y)
    only_b = sum(1 for x, y in zip(a, b, strict=True) if y and not x)
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / (1 << n))


def sign_flip_test(a: Sequence[bool | float], b: Sequence[bool | float], seed: int = 0) -> float:
    """Two-sided paired permutation test: how often so large a difference comes about where the sign of each is a coin's.

    Of flags it is the exact McNemar test. Of shares (means over seeds or samples) the signs are drawn 10,000 times; where
    none of the draws is so large, Hoeffding's bound is told if it is below what so many draws can show, since a correction
    for hundreds of tests needs smaller values. A question counts once, however many seeds answered it: their answers are no
    independent evidence.

    Args:
        a: one value a question.
        b: the same questions, the other method.
        seed: of the draws.

    Raises:
        ValueError: the lengths differ.
    """
    _same_length(a, b)
    differences = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    # Signs matter by the size of a difference only: equal sizes are drawn together, as the number of heads.
    sizes = Counter(round(abs(d), 12) for d in differences if abs(d) > 1e-12)
    if len(sizes) < 2:
        return mcnemar([d > 1e-12 for d in differences], [d < -1e-12 for d in differences])
    reached = abs(math.fsum(differences)) - 1e-9
    rng = random.Random(f"sign-flips:{seed}")
    larger = 0
    for _ in range(_FLIPS):
        total = sum(size * (2 * rng.getrandbits(count).bit_count() - count) for size, count in sizes.items())
        larger += abs(total) >= reached
    drawn = (larger + 1) / (_FLIPS + 1)
    squares = math.fsum(size * size * count for size, count in sizes.items())
    return drawn if larger else min(drawn, 2 * math.exp(-reached * reached / (2 * squares)))


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of one figure over several seeds.

    Args:
        values: one a seed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("there are no values: a spread needs one at least")
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation, min(values), max(values), len(values))


def compare_seeds(
    a: Sequence[Sequence[bool | float]],
    b: Sequence[Sequence[bool | float]],
    seed: int = 0,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> SeedComparison:
    """Compares two methods over the same questions and several seeds.

    Interval and test are over the questions, each with its mean over the seeds; what the seed does is told by the spreads.

    Args:
        a: for each seed of the one method, one value a question, always in the same order.
        b: the same of the other method; it may have another number of seeds.
        seed: of the resampling.
        confidence: between 0 and 1.
        resamples: number of resamples.

    Raises:
        ValueError: there is no seed or no question, or the questions are not the same.
    """
    if not a or not b or not a[0]:
        raise ValueError("a comparison needs a seed of either method, and a question")
    for values in (*a, *b):
        _same_length(values, a[0])
    ours, theirs = ([statistics.fmean(each) for each in zip(*runs, strict=True)] for runs in (a, b))
    difference, low, high = paired_difference(ours, theirs, seed, confidence=confidence, resamples=resamples)
    return SeedComparison(
        a=spread([statistics.fmean(values) for values in a]),
        b=spread([statistics.fmean(values) for values in b]),
        difference=difference,
        low=low,
        high=high,
        p=sign_flip_test(ours, theirs, seed),
        test="mcnemar" if {*ours, *theirs} <= {0.0, 1.0} else "permutation",
        questions=len(ours),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects the p values of many comparisons by Holm's step-down method, in the given order.

    Below a level of 5 % the chance of a single false one among all of them stays under 5 %, however they depend on each
    other (Holm 1979, A simple sequentially rejective multiple test procedure).

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"a p value is {p}: it must be between 0 and 1")
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _same_length(a: Sequence[object], b: Sequence[object]) -> None:
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same questions: {len(a)} results against {len(b)}")
