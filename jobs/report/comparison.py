"""Finished runs over the same test rows, side by side.

Runs that differ in nothing but their seed are one contestant: a question then counts by its mean over the seeds. Every
contestant stands for its method by the method's headline condition; its other conditions are told below it.
"""

from __future__ import annotations

import statistics as stdlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.figures import sets_of
from jobs.report.facts import shade, tested_by, title, told
from jobs.report.outcomes import NOT_COMPARABLE, Outcome
from jobs.report.render import Cell, render
from jobs.spec import canonical
from method.statistics import bootstrap_interval, compare_seeds, holm, sign_flip_test, spread
from services.common.errors import FailedPrecondition

_OWN = ("name", "seed", "publish")
"""Fields of a spec in which repetitions of one run may differ."""
EDITED = "edited"
"""The condition in which another answer counts as right than the test row's."""
_DRAWS = 200_000_000
"""Values that all intervals of a comparison may draw together, some seconds: of many runs and very many questions fewer resamples are taken.

Never fewer than `_FEWEST_RESAMPLES`, below which an interval is none: 640 rows of 2,500 questions then draw a thousand million
values, a minute.
"""
_FEWEST_RESAMPLES, _MOST_RESAMPLES = 200, 1000
_PAIRED = range(3, 13)
"""So many contestants are compared each with each: of two the table of methods tells it, and of more nobody reads it."""
_MAKING = ("calls", "prompt_tokens", "completion_tokens", "cost_usd", "seconds")


@dataclass(frozen=True)
class Contestant:
    """Runs that differ in nothing but their seed.

    Attributes:
        title: How a page names it.
        runs: One a seed, in the order of the seeds.
    """

    title: str
    runs: tuple[Outcome, ...]

    @property
    def headline(self) -> str:
        """The condition that stands for it."""
        return self.runs[0].headline

    def conditions(self) -> list[str]:
        """Those that all of its runs have and in which every test row is asked as it stands; the headline first."""
        shared = [c for c in told(self.runs[0].rates) if c != EDITED and all(c in run.rates for run in self.runs)]
        return [self.headline, *(c for c in shared if c != self.headline)]

    def rates(self, condition: str) -> dict[str, float]:
        """The share of right answers to each question, over all seeds."""
        return {i: stdlib.fmean(run.rates[condition][i] for run in self.runs) for i in self.runs[0].rates[condition]}


def compare_runs(outcomes: Sequence[Outcome], baseline: str) -> dict[str, Any]:
    """All figures of a comparison, as JSON values.

    Args:
        outcomes: The runs, in the order in which they are told.
        baseline: `runs/{run}` of the one that the others are compared with.

    Raises:
        FailedPrecondition: They did not answer the same test rows.
    """
    _same_rows(outcomes)
    contestants = contestants_of(outcomes)
    base = next(c for c in contestants if any(run.name == baseline for run in c.runs))
    sets, kind = sets_of({row_id: (row.task, row.dataset) for row_id, row in outcomes[0].asked.items()})
    asked = [(contestant, condition) for contestant in contestants for condition in contestant.conditions()]
    # Of a row: its own interval, those of its sets, which have all questions together, and that of the difference.
    draws = _DRAWS // (3 * len(asked))
    rows = [_row(contestant, condition, base, sets, draws) for contestant, condition in asked]
    tested = [row for row in rows if row["difference"]]
    for row, p in zip(tested, holm([row["difference"]["p"] for row in tested]), strict=True):
        row["difference"]["p_holm"] = p
    return {
        "baseline": base.title,
        "runs": [run.name for run in outcomes],
        "questions": len(outcomes[0].rates[outcomes[0].headline]),
        "kind": kind,
        "sets": {name: len(ids) for name, ids in sets.items()},
        "seeds": sorted({run.seed for run in outcomes}),
        "rows": rows,
        "pairs": _pairs(contestants) if len(contestants) in _PAIRED else [],
        "followed": [_followed(c, draws) for c in contestants if all(EDITED in run.rates for run in c.runs)],
        "costs": [_cost(c) for c in contestants],
        "total": _total(outcomes),
        "notes": _notes(outcomes),
    }


def pages(figures: Mapping[str, Any]) -> tuple[str, str]:
    """HTML and Markdown of a comparison's figures."""
    heads = [row for row in figures["rows"] if row["headline"]]
    pairs = iter(figures["pairs"])
    facts = {
        **figures,
        "heads": heads,
        "chart": [(row["title"], Cell.of(row), "base" if row["title"] == figures["baseline"] else row["shade"]) for row in heads],
        "cells": [{name: Cell.of(part) for name, part in row["sets"].items()} for row in heads],
        "cell": Cell.of,
        "triangle": [[next(pairs) for _ in heads[:place]] for place in range(len(heads))] if figures["pairs"] else [],
        "tested": tested_by(row["difference"]["test"] for row in figures["rows"] if row["difference"]),
    }  # fmt: skip
    return render("comparison.html.j2", facts), render("comparison.md.j2", facts)


def contestants_of(outcomes: Iterable[Outcome]) -> list[Contestant]:
    """The runs, those that differ in their seed only taken together; a seed that comes again stands for itself."""
    groups: dict[tuple[str, int], list[Outcome]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for run in outcomes:
        key = canonical({name: value for name, value in run.spec.items() if name not in _OWN})
        groups.setdefault((key, seen[key, run.seed]), []).append(run)
        seen[key, run.seed] += 1
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    made = []
    for group in members:
        first = group[0]
        others = [g[0] for g in members if g is not group and g[0].title == first.title]
        name = f"{first.title} ({_peculiar(first, others)})" if others else first.title
        made.append(Contestant(name, tuple(group)))
    # Three differences do not tell all of them apart.
    names = Counter(one.title for one in made)
    return [replace(one, title=f"{one.title}, {one.runs[0].name}") if names[one.title] > 1 else one for one in made]


def _peculiar(run: Outcome, others: Sequence[Outcome]) -> str:
    """In what a run's spec differs from those of the same title; its name where in nothing."""
    own = dict(_flat(run.spec))
    differing = {name for other in others for name, value in _flat(other.spec) if own.get(name) != value}
    named = [f"{name} {own.get(name)}" for name in sorted(differing) if name.split(".")[0] not in _OWN]
    return ", ".join(named[:3]) or run.name


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _same_rows(outcomes: Sequence[Outcome]) -> None:
    first = outcomes[0]
    for other in outcomes[1:]:
        if other.asked == first.asked:
            continue
        missing = sorted(first.asked.keys() ^ other.asked.keys())
        if missing:
            why = f"{len(missing)} rows were asked in one of them only, {missing[0]!r} for instance"
        else:
            changed = next(i for i, row in first.asked.items() if other.asked[i] != row)
            why = f"the question or the answer of row {changed!r} is not the same"
        raise FailedPrecondition(
            f"{other.name} cannot be compared with {first.name}: they have other test rows ({why}); "
            "compare runs with the same data.test",
            reason=NOT_COMPARABLE, subject=other.name,
        )  # fmt: skip


def _row(
    contestant: Contestant, condition: str, base: Contestant, sets: Mapping[str, list[str]], draws: int
) -> dict[str, Any]:
    rates = contestant.rates(condition)
    each = [stdlib.fmean(run.rates[condition].values()) for run in contestant.runs]
    headline = condition == contestant.headline
    parts = {
        name: _share([rates[i] for i in ids], draws * len(ids) // max(1, len(rates))) for name, ids in sets.items()
    }
    effort = [run.effort[condition] for run in contestant.runs]
    return {
        "title": contestant.title if headline else f"{contestant.title}: {title(condition)}",
        "method": contestant.runs[0].method,
        "condition": condition,
        "headline": headline,
        "shade": shade(condition),
        "runs": [run.name for run in contestant.runs],
        "seeds": [run.seed for run in contestant.runs],
        **_share(list(rates.values()), draws),
        "spread": asdict(spread(each)) if len(each) > 1 else None,
        "average": stdlib.fmean(part["accuracy"] for part in parts.values()),
        "sets": parts,
        "difference": None if headline and contestant is base else _difference(contestant, condition, base, draws),
        **{key: stdlib.fmean(one[key] for one in effort) for key in ("prompt_tokens", "completion_tokens", "seconds")},
    }


def _share(values: Sequence[float], draws: int) -> dict[str, Any]:
    count = _resamples(len(values), draws)
    mean, low, high = bootstrap_interval(values, resamples=count) if values else (0.0, 0.0, 0.0)
    return {"n": len(values), "accuracy": mean, "low": low, "high": high}


def _difference(contestant: Contestant, condition: str, base: Contestant, draws: int) -> dict[str, Any]:
    """Paired, over the questions."""
    questions = base.runs[0].rates[base.headline]
    ours = [[run.rates[condition][i] for i in questions] for run in contestant.runs]
    theirs = [[run.rates[base.headline][i] for i in questions] for run in base.runs]
    found = compare_seeds(ours, theirs, resamples=_resamples(len(questions), draws))
    return {"mean": found.difference, "low": found.low, "high": found.high, "p": found.p, "test": found.test}


def _resamples(n: int, draws: int) -> int:
    return max(_FEWEST_RESAMPLES, min(_MOST_RESAMPLES, draws // max(1, n)))


def _pairs(contestants: Sequence[Contestant]) -> list[dict[str, Any]]:
    """Each contestant against each that comes before it, by their headline conditions, corrected for all of these tests."""
    questions = list(contestants[0].rates(contestants[0].headline))
    shares = [(c.title, c.rates(c.headline)) for c in contestants]
    values = [(title, [rates[i] for i in questions]) for title, rates in shares]
    pairs = [
        {"a": title, "b": other, "mean": stdlib.fmean(ours) - stdlib.fmean(theirs), "p": sign_flip_test(ours, theirs)}
        for place, (title, ours) in enumerate(values)
        for other, theirs in values[:place]
    ]
    return [{**pair, "p_holm": p} for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True)]


def _followed(contestant: Contestant, draws: int) -> dict[str, Any]:
    # Each seed edits rows of its own choice: a question that several of them edited counts once, by its mean.
    by_question: dict[str, list[float]] = {}
    for run in contestant.runs:
        for row_id, rate in run.rates[EDITED].items():
            by_question.setdefault(row_id, []).append(rate)
    return {"title": contestant.title, **_share([stdlib.fmean(each) for each in by_question.values()], draws)}


def _cost(contestant: Contestant) -> dict[str, Any]:
    """What making the student took, evaluation apart: in all, and the part of it that other runs had done already."""
    stages = [stage for run in contestant.runs for stage in run.stages if stage.name not in ("evaluate", "publish")]
    count = len(contestant.runs)
    return {
        "title": contestant.title,
        **{key: sum(getattr(stage, key) for stage in stages) / count for key in _MAKING},
        "reused": {key: sum(getattr(s, key) for s in stages if s.reused) / count for key in _MAKING},
        "reused_stages": list(dict.fromkeys(stage.name for stage in stages if stage.reused)),
    }


def _total(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What all runs took together, each shared stage counted once; and what they would have taken without sharing."""
    every = [stage for run in outcomes for stage in run.stages]
    once = {(stage.name, stage.digest): stage for stage in every}.values()
    return {
        "once": {key: sum(getattr(stage, key) for stage in once) for key in _MAKING},
        "apart": {key: sum(getattr(stage, key) for stage in every) for key in _MAKING},
    }


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    notes = []
    for what, values in (
        ("base models", {run.spec["student"]["base_model"] for run in outcomes}),
        ("teachers", {run.spec["teacher"]["model"] or "the proxy's own" for run in outcomes if run.asks_teacher}),
    ):
        if len(values) > 1:
            notes.append(f"The runs have several {what}: {', '.join(sorted(values))}.")
    if len({run.training_rows for run in outcomes if run.training_rows}) > 1:
        notes.append("The runs were not all given the same training rows.")
    by_code = Counter(run.code for run in outcomes)
    if len(by_code) > 1:
        most = by_code.most_common(1)[0][0]
        others = ", ".join(run.name for run in outcomes if run.code != most)
        notes.append(
            f"Not all runs were evaluated by the same code of NesyCD ({others} by another than the others): they may have been "
            "trained and scored otherwise. nesycd compare with the spec makes all of them by the code as it is."
        )
    return notes
