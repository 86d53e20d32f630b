"""Which runs a comparison is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli import methods
from cli.main import main
from cli.methods import for_method, methods_of, run_id_of, seeds_of
from cli.problems import Problem
from jobs.spec import RUN_ID, parse
from method.methods import all_methods, get_method

SPEC: dict[str, Any] = {
    "name": "my-spec", "seed": 7, "rounds": 2, "data": {"train": "a", "test": "b", "expert": "c", "passages": "d"},
    "training": {"recipe": "reader"}, "evaluate": {"conditions": ["general", "augmented"]},
}  # fmt: skip


def test_methods_are_named_one_by_one_by_patterns_or_all() -> None:
    assert [m.name for m in methods_of("nesycd, std_cot,zero-shot*")] == [
        "nesycd",
        "std-cot",
        "zero-shot",
        "zero-shot-cot",
    ]
    assert {m.name for m in methods_of("all")} == {m.name for m in methods_of("ALL")} == set(all_methods())
    assert {m.name for m in methods_of("nesycd-k?,nesycd-k1")} == {"nesycd-k1", "nesycd-k2", "nesycd-k3"}
    with pytest.raises(Problem, match=r"'std' is unknown: use all, or some of .*std-cot"):
        methods_of("nesycd,std")


def test_seeds_are_the_specs_or_those_that_are_named() -> None:
    assert seeds_of("", SPEC) == [7] and seeds_of("0, 1,2", SPEC) == [0, 1, 2] and seeds_of("", {}) == [0]
    for text in ("a", "-1", "1,1", "1,01", "1.5"):
        with pytest.raises(Problem):
            seeds_of(text, SPEC)


@pytest.mark.parametrize("method", all_methods())
def test_the_spec_fits_each_method_without_what_that_one_does_not_know(method: str) -> None:
    made = for_method(SPEC, get_method(method))
    checked = parse(made)
    assert checked.method == method and get_method(method).headline in checked.conditions()
    assert SPEC["training"] == {"recipe": "reader"}, "the spec itself stays as it was"


def test_a_wrong_spec_stays_wrong_so_that_the_service_tells_it() -> None:
    made = for_method({"training": 3, "evaluate": ["x"], "name": "a"}, get_method("std-cot"))
    assert made == {"training": 3, "evaluate": ["x"], "name": "a", "method": "std-cot"}


@pytest.mark.parametrize("method", all_methods())
def test_a_runs_id_comes_from_its_spec_its_data_and_the_code(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("a")
    data = {**SPEC["data"], "train": [str(file), {"path": str(tmp_path), "dataset": "bbh"}]}
    spec = parse({**for_method(SPEC, get_method(method)), "name": "x" * 50, "seed": 2**31 - 1, "data": data}).dump()
    first = run_id_of(spec)
    assert RUN_ID.fullmatch(first) and f"-{method}-" in first and run_id_of(spec) == first
    assert run_id_of({**spec, "seed": 1}) != first
    assert run_id_of({**spec, "data": dict(reversed(spec["data"].items()))}) == first
    file.write_text("b")
    assert (second := run_id_of(spec)) != first, "other data make another run"
    monkeypatch.setattr(methods, "code_digest", lambda: "after an upgrade")
    assert RUN_ID.fullmatch(run_id_of(spec)) and run_id_of(spec) not in (first, second), (
        "runs of former code are not taken up"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a spec file, or --runs"),
        (["SPEC"], "name the methods with --methods"),
        (["SPEC", "--runs", "a,b"], "give a spec file, or --runs"),
        (["SPEC", "--methods", "none"], "is unknown"),
        (["SPEC", "--methods", "nesycd", "--baseline", "std-cot"], "is not among the methods"),
        (["SPEC", "--methods", "nesycd", "--baseline", "none"], "is unknown"),
        (["SPEC", "--methods", "nesycd"], "a comparison needs two runs, and this would be 1"),
        (["SPEC", "--methods", ","], "a comparison needs two runs, and this would be 0"),
        (["SPEC", "--methods", "all", "--seeds", "0,1,2,3,4,5,6,7"], "at most 256 are compared"),
    ],
)
def test_what_is_asked_for_wrongly_is_told_in_a_sentence(arguments: list[str], told: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(SPEC))
    done = CliRunner().invoke(main, ["compare", *(str(file) if a == "SPEC" else a for a in arguments)])
    assert done.exit_code != 0 and told in done.output and "Traceback" not in done.output


def test_a_plan_of_an_unknown_method_is_told(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(SPEC))
    done = CliRunner().invoke(main, ["plan", str(file), "--method", "none"])
    assert done.exit_code == 1 and "is unknown: use one of" in done.output
