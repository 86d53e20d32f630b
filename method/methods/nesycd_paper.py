"""NesyCD with the published mixture of training rows, and with all that is published."""

from __future__ import annotations

from dataclasses import replace

from method.methods.nesycd import METHOD as NESYCD

METHOD = replace(
    NESYCD,
    name="nesycd-paper",
    title="NesyCD, the paper's mixture",
    recipes={**NESYCD.recipes, "train-augmented": ("paper",)},
    settings={"training.recipe": "paper", "training.start_from": "general"},
)

PUBLISHED = replace(
    METHOD,
    name="nesycd-published",
    title="NesyCD as published",
    settings={
        **METHOD.settings,
        "knowledge.granularity": "case",
        "knowledge.show_gold_answer": False,
        "knowledge.top_k": 1,
        "knowledge.mode": "bm25",
    },
)

METHODS = (METHOD, PUBLISHED)
