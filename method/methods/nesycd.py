"""NesyCD (arXiv:2409.13203): general ability goes into the student, specialised knowledge into the knowledge base."""

from __future__ import annotations

from method.methods.base import STAGES, Method

METHOD = Method(
    name="nesycd",
    title="NesyCD",
    stages=STAGES,
    # "reader" follows edited entries best; "paper" is the published mixture.
    recipes={"train-general": ("general",), "train-augmented": ("reader", "paper")},
    uses_knowledge=True,
    rounds=True,
)
