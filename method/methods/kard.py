"""KARD: the student learns the teacher's rationales, reading passages of a corpus (found by BM25, no reranker)."""

from __future__ import annotations

from method.methods.base import Method

METHOD = Method(
    name="kard",
    title="KARD (BM25)",
    source="arXiv:2305.18395",
    stages=("prepare", "rationalize", "passages", "train-augmented", "evaluate", "publish"),
    conditions=("augmented",),
    headline="augmented",
    recipes={"train-augmented": ("reads-cot",)},
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
