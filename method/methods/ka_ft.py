"""Knowledge-augmented fine-tuning: the student learns the answers, reading passages of a corpus."""

from __future__ import annotations

from method.methods.base import Method

METHOD = Method(
    name="ka-ft",
    title="Knowledge-augmented FT",
    source="arXiv:2305.18395 (a baseline there)",
    stages=("prepare", "passages", "train-augmented", "evaluate", "publish"),
    conditions=("augmented_answer",),
    headline="augmented_answer",
    recipes={"train-augmented": ("reads-answer",)},
    settings={
        "training.start_from": "base",
        "knowledge.mode": "bm25",
        "knowledge.top_k": 3,
        # Passages for every row, whatever a spec says of NesyCD's own entries.
        "knowledge.for_training": "leave_one_out",
        "knowledge.kinds": ["summary", "fact"],
        "knowledge.gate": 0.0,
    },
)
