"""docs/run-spec.md says what jobs/spec.py does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import annotated_types
import pytest
import yaml
from pydantic.fields import FieldInfo

from jobs.spec import RunSpec, parse
from method.methods import all_methods
from services.common.errors import InvalidArgument

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "run-spec.md").read_text(encoding="utf-8")
METHODS = (Path(__file__).resolve().parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells for line in PAGE.splitlines() if (cells := re.findall(r"(?<=\| )[^|]*(?= \|)", line))
}
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


def fields(model: Any = RunSpec, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


FIELDS = dict(fields())


def written(field: FieldInfo) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_stands_in_the_page_with_its_default(name: str) -> None:
    assert name in ROWS, f"docs/run-spec.md has no row for {name}"
    assert ROWS[name][2] == written(FIELDS[name])


@pytest.mark.parametrize("name", FIELDS)
def test_a_fields_range_and_choices_are_told(name: str) -> None:
    told = ROWS[name][1]
    annotation = FIELDS[name].annotation
    for choice in get_args(annotation) if annotation.__class__.__name__ == "_LiteralGenericAlias" else ():
        assert f"`{choice}`" in told or (choice == "" and '`""`' in told)
    for bound in FIELDS[name].metadata:
        for kind, shift in (
            (annotated_types.Ge, 0),
            (annotated_types.Gt, 0),
            (annotated_types.Le, 0),
            (annotated_types.Lt, -1),
        ):
            if isinstance(bound, kind):
                number = getattr(bound, kind.__name__.lower()) + (shift if annotation is int else 0)
                assert re.search(rf"(?<!\w){number}\b", told), f"{name}: {told!r} does not tell of {number}"


def test_the_page_tells_of_no_field_that_does_not_exist() -> None:
    sections = {name.split(".")[0] for name in FIELDS if "." in name}
    told = {name for name in ROWS if name.split(".")[0] in sections and re.fullmatch(r"[a-z_.]+", name)}
    assert told <= set(FIELDS)


def test_every_method_is_told() -> None:
    for method in all_methods():
        assert f"`{method}`" in ROWS["method"][1] or (method.startswith("nesycd-") and f"`{method}`" in METHODS)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_a_valid_spec(number: int) -> None:
    parse(yaml.safe_load(EXAMPLES[number]))


def test_the_complete_example_has_every_field_and_defaults_but_where_it_says_so() -> None:
    text = next(example for example in EXAMPLES if "gradient_checkpointing" in example)
    spec = yaml.safe_load(text)
    changed = set(re.findall(r"^ *([a-z_]+):.*# not a default$", text, re.M))
    for name, field in FIELDS.items():
        value: Any = spec
        for part in name.split("."):
            value = value[part]
        if name.rsplit(".", 1)[-1] not in changed:
            assert value == field.get_default(call_default_factory=True), name


ERRORS = [
    ({"training": {"learning_rate": 0.1}}, "training.learning_rate: there is no such field"),
    ({"training": {"general": {"learning_rate": "1e-3"}}}, None),
    ({"data": {"train": "a"}}, "data.test: this field is missing"),
    ({"training": {"lora": {"rank": "16"}}}, None),
    ({"name": "my run"}, None),
    ({"knowledge": {"mode": "dense"}}, None),
    ({"method": "std-cot", "evaluate": {"conditions": ["augmented"]}}, None),
    ({"evaluate": {"samples": 3}}, None),
    ({"evaluate": {"conditions": ["general", "general"]}}, None),
]


@pytest.mark.parametrize(("change", "start"), ERRORS)
def test_an_error_reads_as_the_page_says(change: dict[str, Any], start: str | None) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse({"name": "a", "data": {"train": "a", "test": "b"}, **change})
    message = raised.value.message.removeprefix("the run spec is not valid: ")
    assert f"`{message}`" in PAGE
    assert start is None or message.startswith(start)
