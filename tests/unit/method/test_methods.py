"""The registry of methods."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.spec import parse
from method.conditions import CONDITIONS
from method.methods import STAGES, Method, UnknownMethod, all_methods, get_method
from method.mixtures import RECIPES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
DATA = {"train": "train.jsonl", "test": "test.jsonl", "passages": "passages.jsonl"}
OF_THE_PAPER = {
    "zero-shot", "zero-shot-cot", "few-shot-cot", "std-ft", "ka-ft", "std-cot", "mt-cot", "step-by-step", "kard",
    "cascod", "nesycd",
}  # fmt: skip
ABLATIONS = {name for name in all_methods() if name.startswith("nesycd-")}


def value(spec: object, name: str) -> object:
    for part in name.split("."):
        spec = getattr(spec, part)
    return spec


def test_the_methods_of_the_paper_are_there_by_name() -> None:
    assert OF_THE_PAPER | ABLATIONS == set(all_methods())
    wanted = "errors-only no-ap no-dc no-summary no-facts gate k1 k2 k3 bm25 vector hybrid own-entry case hidden-answer"
    assert {f"nesycd-{name}" for name in wanted.split()} <= ABLATIONS


def test_names_are_forgiving_and_an_unknown_one_is_told_with_those_there_are() -> None:
    assert get_method("Std_CoT").stages == ("prepare", "rationalize", "train-general", "evaluate", "publish")
    with pytest.raises(UnknownMethod, match="'magic' is unknown: use one of cascod, few-shot-cot"):
        get_method("magic")


@pytest.mark.parametrize("name", all_methods())
def test_a_spec_that_names_a_method_has_its_settings_and_a_plan(name: str) -> None:
    method = get_method(name)
    spec = parse({"name": "a", "method": name, "data": DATA})
    assert {key: value(spec, key) for key in method.settings} == dict(method.settings)
    planned = [stage for stage, _ in spec.plan()]
    assert planned == [stage for stage in method.stages if stage != "validate"]


@pytest.mark.parametrize("name", all_methods())
def test_a_methods_settings_win_over_those_of_the_spec(name: str) -> None:
    other = {
        "training": {"start_from": "general", "recipe": "", "weights": {"AD": 2, "DC": 2, "AP": 2}},
        "knowledge": {"top_k": 7, "mode": "vector", "kinds": ["fact", "summary"], "gate": 0.5},
    }
    method = get_method(name)
    spec = parse({"name": "a", "method": name, "data": DATA, **other})
    assert {key: value(spec, key) for key in method.settings} == dict(method.settings)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_an_ablation_differs_from_its_whole_and_from_every_other(name: str) -> None:
    def meaning(method: Method) -> dict[str, object]:
        return parse({"name": "a", "method": method.name, "data": DATA, "knowledge": {"top_k": 5}}).dump() | {
            "method": "", "recipe": method.recipe("train-augmented"),
        }  # fmt: skip

    default = {"nesycd-from-general"}  # what NesyCD does where the spec says nothing
    if name not in default:
        assert meaning(get_method(name)) != meaning(get_method("nesycd"))
    assert all(meaning(get_method(name)) != meaning(get_method(other)) for other in ABLATIONS - {name})


@pytest.mark.parametrize("name", all_methods())
def test_a_method_asks_the_teacher_for_rationales_where_its_rows_or_prompts_have_them(name: str) -> None:
    method = get_method(name)
    recipes = {recipe for names in method.recipes.values() for recipe in names}
    without = {"answer", "reads-answer"}
    shows = any(CONDITIONS[condition].demonstrations for condition in method.conditions)
    assert ("rationalize" in method.stages) == bool(recipes - without or shows)


def test_every_recipe_is_of_some_method() -> None:
    assert {r for m in all_methods().values() for names in m.recipes.values() for r in names} == set(RECIPES)


def test_the_reading_recipe_is_the_default_and_the_paper_one_a_choice() -> None:
    nesycd = get_method("nesycd")
    assert nesycd.recipe("train-augmented") == "reader"
    assert nesycd.recipe("train-augmented", "paper") == "paper"
    assert get_method("nesycd-paper").recipe("train-augmented") == "paper"
    with pytest.raises(ValueError, match="recipe 'x' of train-augmented is unknown: use one of reader, paper"):
        nesycd.recipe("train-augmented", "x")
    with pytest.raises(ValueError, match="no training stage"):
        get_method("zero-shot").recipe("train-general")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ("evaluate", "prepare")}, "in this order"),
        ({"stages": (*STAGES[:3], "evaluate"), "recipes": {}}, "needs recipes"),
        ({"recipes": {"train-general": ("magic",)}}, "needs recipes"),
        ({"conditions": ("loud",)}, "conditions must be of"),
        ({"headline": "zero_shot"}, "the headline one of them"),
        ({"conditions": ("general", "augmented")}, "a student that no stage trains"),
    ],
)
def test_a_method_that_contradicts_itself_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(get_method("std-cot"), **change)


@pytest.mark.parametrize("name", all_methods())
def test_the_page_tells_of_a_method_and_its_source(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)
    number = re.search(r"arXiv:(\d{4}\.\d{5})", get_method(name).source)
    assert number is None or f"arXiv:{number[1]}" in PAGE


def test_the_page_tells_of_no_method_that_does_not_exist() -> None:
    firsts = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert {name for first in firsts for name in re.findall(r"`([a-z0-9-]+)`", first)} - {"method"} == set(
        all_methods()
    )
