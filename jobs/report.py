"""The report of a run: one self-contained HTML page, and the same as Markdown.

It reads what the stages wrote and nothing else, so it can be made again at any time.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

CONDITIONS = {
    "zero_shot": "zero-shot",
    "general": "CoT-distilled",
    "augmented": "NesyCD, KB from extraction",
    "shuffled": "control: entries shuffled",
    "imported": "NesyCD, missing facts imported",
    "edited": "follows an edited entry",
}
"""Conditions in the order in which a report tells of them, and what they are called there."""

EXPLAINED = {
    "zero_shot": "The base model with an instruction, before any training.",
    "general": "After training on the teacher's rationales; no knowledge is read. The baseline Std-CoT.",
    "augmented": "After training with retrieved entries; reads the entries that were extracted from its own mistakes.",
    "shuffled": "The same weights and as many entries, but those of another question: what reading alone would give.",
    "imported": "The same weights, after a domain expert's file with missing facts was imported. Nothing was trained.",
    "edited": "An entry that the question needs was given another value: the share of answers that follow it.",
}
_FACTS = ("seen", "held_out")
_MOST_ENTRIES = 10


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
        """The accuracy that the evaluation's summary tells; None: nothing was asked."""
        figures = figures or {"n": 0, "accuracy": 0.0, "low": 0.0, "high": 0.0}
        return cls(figures["n"], figures["accuracy"], figures["low"], figures["high"])

    def __str__(self) -> str:
        if self.n == 0:
            return "-"
        return f"{self.mean:.0%} [{self.low:.0%}, {self.high:.0%}]"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none where it does not exist."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def write_report(run: Mapping[str, Any], stages: Mapping[str, Path], out_dir: Path) -> None:
    """Writes `report.html` and `report.md`.

    Args:
        run: name, spec, adapter, knowledge_base, and `stages`: a list of what each stage took (name, seconds,
            reused, teacher_calls, prompt_tokens, completion_tokens, cost_usd).
        stages: Folder of each finished stage, by the stage's name.
        out_dir: Where to write.

    Raises:
        OSError: It cannot be written.
    """
    facts = collect(run, stages)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    facts["pictures"] = pictures(facts)
    for name in ("report.html", "report.md"):
        aside = out_dir / f"{name}.part"
        aside.write_text(templates.get_template(name + ".j2").render(facts), encoding="utf-8")
        aside.replace(out_dir / name)


def collect(run: Mapping[str, Any], stages: Mapping[str, Path]) -> dict[str, Any]:
    """All that the templates need, as plain values.

    Args:
        run: As for write_report.
        stages: As for write_report.

    Returns:
        The variables of the templates.
    """
    evaluate = stages["evaluate"]
    summary = json.loads((evaluate / "summary.json").read_text(encoding="utf-8"))
    figures = {c: summary["conditions"][c] for c in CONDITIONS if summary["conditions"].get(c, {}).get("n")}
    tasks = sorted({task for part in figures.values() for task in part["families"]})
    entries = read_jsonl(stages["extract"] / "entries.jsonl") if "extract" in stages else []
    history = {
        name: read_jsonl(stages[name] / "history.jsonl")
        for name in ("train-general", "train-augmented")
        if name in stages
    }
    return {
        "run": run,
        "names": CONDITIONS,
        "explained": EXPLAINED,
        "tasks": tasks,
        "overall": {c: Cell.of(part) for c, part in figures.items()},
        "per_task": {c: {task: Cell.of(part["families"].get(task)) for task in tasks} for c, part in figures.items()},
        "held_out": {
            c: {kind: Cell.of(part["facts"][kind]) for kind in _FACTS}
            for c, part in figures.items()
            if c != "edited" and part["facts"].keys() >= set(_FACTS)
        },
        "comparisons": summary["comparisons"],
        "helped": summary["entries"][:_MOST_ENTRIES],
        "examples": examples({c: read_jsonl(evaluate / f"answers.{c}.jsonl") for c in figures}),
        "knowledge": {
            "entries": len(entries),
            "kinds": Counter(e.get("kind", "").removeprefix("ENTRY_KIND_").lower() for e in entries),
            "sources": sum(len(e.get("sources", [])) for e in entries),
            "waiting": sum(e.get("status") == "ENTRY_STATUS_DRAFT" for e in entries),
        },
        "history": {name: rows for name, rows in history.items() if rows},
        "costs": costs(run.get("stages", [])),
    }


def examples(answers: Mapping[str, Sequence[Mapping[str, Any]]], per_kind: int = 3) -> list[dict[str, Any]]:
    """Questions side by side: answered without and with knowledge, and the entries that were read."""
    best = "imported" if "imported" in answers else "augmented"
    with_kb = {row["id"]: row for row in answers.get(best, [])}
    kinds: dict[tuple[bool, bool], list[dict[str, Any]]] = {}
    for row in answers.get("general", []):
        if (read := with_kb.get(row["id"])) is not None:
            kinds.setdefault((bool(row["correct"]), bool(read["correct"])), []).append({"without": row, "with": read})
    titles = {
        (False, True): "put right by knowledge",
        (True, False): "put wrong by knowledge",
        (False, False): "wrong both ways",
    }
    return [
        {"title": title, "pairs": kinds[key][:per_kind], "count": len(kinds[key])}
        for key, title in titles.items()
        if key in kinds
    ]


def costs(stages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What each stage took, and the sums."""
    keys = ("seconds", "teacher_calls", "prompt_tokens", "completion_tokens", "cost_usd")
    rows = [{"name": s["name"], "reused": s.get("reused", False), **{k: s.get(k) or 0 for k in keys}} for s in stages]
    return {"rows": rows, "total": {k: sum(row[k] for row in rows) for k in keys}}


def pictures(facts: Mapping[str, Any]) -> dict[str, str]:
    """The pictures as SVG text: accuracy by condition, by task, and the learning curves."""
    import matplotlib  # heavy: only when a report is drawn

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {"svg.hashsalt": "nesycd", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    shades = {
        "zero_shot": "#9aa5b1", "general": "#5b7c99", "augmented": "#2a9d8f",
        "shuffled": "#c9ada7", "imported": "#176d63", "edited": "#e9a23b",
    }  # fmt: skip
    drawn: dict[str, str] = {}

    def finish(name: str, figure: Any) -> None:
        text = io.StringIO()
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        drawn[name] = text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]

    overall: dict[str, Cell] = facts["overall"]
    figure, axes = plt.subplots(figsize=(7, 0.55 * len(overall) + 0.6))
    for position, (condition, cell) in enumerate(reversed(overall.items())):
        axes.barh(position, cell.mean * 100, color=shades[condition], height=0.62)
        axes.plot([cell.low * 100, cell.high * 100], [position] * 2, color="#222", linewidth=1.4)
        axes.text(max(cell.high, cell.mean) * 100 + 1.5, position, f"{cell.mean:.0%}", va="center")
    axes.set_yticks(range(len(overall)), [CONDITIONS[c] for c in reversed(overall)])
    axes.set_xlim(0, 110)
    axes.set_xlabel("right answers, % (line: 95 % interval)")
    finish("overall", figure)

    tasks = facts["tasks"]
    if len(tasks) > 1:
        figure, axes = plt.subplots(figsize=(max(7.0, 1.3 * len(tasks)), 3))
        width = 0.85 / len(overall)
        for index, condition in enumerate(overall):
            heights = [facts["per_task"][condition][task].mean * 100 for task in tasks]
            places = [task + (index - (len(overall) - 1) / 2) * width for task in range(len(tasks))]
            axes.bar(places, heights, width=width * 0.92, color=shades[condition], label=CONDITIONS[condition])
        axes.set_xticks(range(len(tasks)), tasks, rotation=20 if len(tasks) > 4 else 0)
        axes.set_ylim(0, 105)
        axes.set_ylabel("right answers, %")
        axes.legend(fontsize=8, ncol=3, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        finish("tasks", figure)

    if facts["history"]:
        figure, axes = plt.subplots(figsize=(7, 2.6))
        for name, rows in facts["history"].items():
            axes.plot([r["step"] for r in rows], [r["loss"] for r in rows], label=name)
        axes.set_xlabel("training step")
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        finish("learning", figure)
    return drawn
