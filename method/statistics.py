"""Confidence intervals and paired tests for comparisons of accuracies. Everything is deterministic."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

RESAMPLES = 2000


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
        (mean, low, high); NaN three times without values. Equal values give an interval of width 0: read n beside it.

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
    if min(values) == max(values):
        return mean, mean, mean
    if set(values) <= {0.0, 1.0}:
        return mean, *_binomial_quantiles(n, mean, low_share, high_share)
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(resamples))
    return mean, means[int(low_share * (resamples - 1))], means[math.ceil(high_share * (resamples - 1))]


def paired_difference(
    a: Sequence[bool | float], b: Sequence[bool | float], seed: int = 0, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Bootstrap interval of mean(a) - mean(b) over the same questions: (difference, low, high).

    Raises:
        ValueError: the lengths differ.
    """
    _same_length(a, b)
    return bootstrap_interval([float(x) - float(y) for x, y in zip(a, b, strict=True)], seed, confidence=confidence)


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


def _same_length(a: Sequence[object], b: Sequence[object]) -> None:
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same questions: {len(a)} results against {len(b)}")
