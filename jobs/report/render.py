"""Templates and how figures and texts are written in them.

Texts come from models, data files and people: HTML is escaped by Jinja, Markdown by the filter `md`, and what no page can
hold (control characters, halves of surrogate pairs) is replaced before either.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parent / "templates"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MARKDOWN = re.compile(r"([\\|\[\]`*])")
_MOST_POINTS = 200


@dataclass(frozen=True)
class Cell:
    """An accuracy with its 95 % interval.

    Attributes:
        n: Questions.
        mean: Share of right answers, 0 to 1.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    n: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Mapping[str, Any] | None) -> Cell:
        """The accuracy that an evaluation's summary tells; None: nothing was asked."""
        figures = figures or {"n": 0, "accuracy": 0.0, "low": 0.0, "high": 0.0}
        return cls(figures["n"], figures["accuracy"], figures["low"], figures["high"])

    @property
    def interval(self) -> str:
        """The interval alone."""
        return f"[{self.low:.0%}, {self.high:.0%}]"

    def __str__(self) -> str:
        return f"{percent(self.mean)} {self.interval}" if self.n else "-"


@dataclass(frozen=True)
class Curve:
    """A line of a picture.

    Attributes:
        title: What it shows.
        first: Its first value.
        last: Its last value.
        steps: Its last step, counted from where it begins.
        begins: The step of the picture at which it begins.
        place: Where that is, 0 to 100 from the left.
        points: SVG points in a field of 100 x 40.
    """

    title: str
    first: float
    last: float
    steps: float
    begins: float
    place: float
    points: str


@dataclass(frozen=True)
class Picture:
    """Lines in one field.

    Attributes:
        lines: One behind the other.
        across: Ticks of the steps: place from the left, 0 to 100, and number.
        up: Ticks of the values: place from below, 0 to 100, and number.
    """

    lines: tuple[Curve, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def picture(series: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """Lines one behind the other, as the trainings were, thinned where they have more points than a picture shows.

    Args:
        series: By title, pairs of step and value; the steps count from where the line begins.
    """
    filled = {title: pairs for title, pairs in series.items() if pairs}
    right, across = _axis(sum(pairs[-1][0] for pairs in filled.values()), least=1.0)
    top, up = _axis(max((y for pairs in filled.values() for _, y in pairs), default=0))
    made, begins = [], 0.0
    for title, pairs in filled.items():
        every = max(1, len(pairs) // _MOST_POINTS)
        shown = [*pairs[::every], pairs[-1]]
        points = " ".join(f"{(begins + x) / right * 100:.2f},{40 - max(0.0, y) / top * 40:.2f}" for x, y in shown)
        made.append(Curve(title, pairs[0][1], pairs[-1][1], pairs[-1][0], begins, begins / right * 100, points))
        begins += pairs[-1][0]
    return Picture(tuple(made), across, up)


def _axis(most: float, *, least: float = 0.0) -> tuple[float, tuple[tuple[float, str], ...]]:
    """An axis from zero that holds a value: its end, and ticks at round numbers, so few that they fit a phone.

    Args:
        most: The value.
        least: The ticks are at least so far apart.
    """
    if most <= 0:
        return 1.0, ((0.0, "0"), (100.0, "1"))
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = max(least, next(s * power for s in (1, 2, 5, 10) if s * power >= most / 4 * (1 - 1e-9)))
    count = math.ceil(most / step - 1e-9)
    return count * step, tuple((100 * i / count, f"{i * step:,.10g}") for i in range(count + 1))


def percent(share: float) -> str:
    """0.415 as "41.5%"."""
    return f"{share:.1%}"


def points(share: float) -> str:
    """A difference of shares as percentage points with its sign."""
    return f"{share * 100:+.1f}"


def p_value(p: float | None) -> str:
    """A probability as tests tell it."""
    if p is None:
        return "-"
    return "under 0.001" if p < 0.001 else f"{p:.2g}"


def money(dollars: float) -> str:
    """US dollars; small amounts with their first digits."""
    return f"${dollars:,.2f}" if dollars >= 10 or dollars == 0 else f"${dollars:.4f}"


def count(number: float) -> str:
    """A number with separators, rounded."""
    return f"{number:,.0f}"


def md(value: object) -> str:
    """A text for Markdown: one line, in which nothing is markup, a link or the end of a table's cell."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(_clean(str(value)).split()), quote=False))


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Fills a template of jobs/report/templates.

    Args:
        template: Its file, for instance "report.html.j2".
        facts: Its variables.
    """
    return _environment().get_template(template).render(facts)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: _clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters |= {
        f.__name__: f for f in (percent, points, p_value, money, count, md)
    }  # fmt: skip
    return environment


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
