"""What of a run spec has no effect: fields that are right by themselves, but not for its method or its other fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.spec import RunSpec, parse
from method.conditions import CONDITIONS
from method.methods import Method, get_method
from method.methods.base import TRAINING_STAGES
from services.common.numbers import whole_numbers


def notes(given: Mapping[str, Any]) -> list[str]:
    """What a person wrote that does nothing, a sentence each that begins with its place. A field that says what its default says is none.

    Args:
        given: The spec as it was written, without defaults.

    Raises:
        InvalidArgument: It is not valid.
    """
    spec = parse(given)
    method = get_method(spec.method)
    plain = parse({"name": spec.name, "method": spec.method, "data": {"train": "-", "test": "-", "passages": "-"}})
    default, effective, written = _leaves(plain.dump()), _leaves(spec.dump()), _leaves(whole_numbers(given))
    found = {
        place: f"method {method.name} has it at {value}" for place, value in method.settings.items()
        if written.get(place, value) != value
    }  # fmt: skip
    for places, idle, why in _rules(spec, method):
        for place, value in effective.items():
            named = any(place == start or place.startswith(f"{start}.") for start in places)
            if idle and named and place in written and value != default.get(place):
                found.setdefault(place, why)
    return [f"{place} has no effect: {why}" for place, why in found.items()]


def _rules(spec: RunSpec, method: Method) -> list[tuple[tuple[str, ...], bool, str]]:
    """Places (or what they begin with), whether they do nothing, and why; the first that fits a place is told."""
    stages, set_aside = method.stages, "the rows of data.held_out are set aside all the same, as for methods that do"
    recipe = method.recipe("train-augmented", spec.training.recipe) if "train-augmented" in stages else ""
    trains = [stage for stage in stages if stage in TRAINING_STAGES]
    return [
        (("rounds",), not method.rounds, f"method {method.name} does not repeat its stages; {set_aside}"),
        (("least_gain",), spec.rounds == 1 or not method.rounds, "there is one round, and nothing to compare it with"),
        (("knowledge.utility",), "validate" not in stages, f"method {method.name} does not measure entries; {set_aside}"),
        (("knowledge.utility.retire_below",), not spec.knowledge.utility.rows, "knowledge.utility.rows is 0: no entry is measured"),
        (("knowledge",), not method.uses_knowledge, f"method {method.name} reads no entries"),
        (("diagnose",), "diagnose" not in stages, f"method {method.name} looks for no hard cases"),
        (("training",), not trains, f"method {method.name} trains nothing"),
        (
            ("training.recipe", "training.start_from", "training.augmented"), len(trains) < 2,
            f"method {method.name} trains once, as training.general says",
        ),
        (
            ("training.weights", "training.weigh_by", "training.answer_with_knowledge"), recipe != "paper",
            "it is of the recipe paper, which is not used",
        ),
        (("training.counterfactual_share",), recipe != "reader", "it is of the recipe reader, which is not used"),
        # No word of data.passages: it stands in a spec for those of several methods that read it.
        (
            ("data.held_out",), not spec.holds_out,
            "rows are set aside for rounds and for knowledge.utility.rows only, and the spec has neither",
        ),
        (("data.expert",), "imported" not in spec.conditions(), "no condition imported is asked"),
        (
            ("evaluate.demonstrations",), not any(CONDITIONS[name].demonstrations for name in spec.conditions()),
            "no condition few_shot is asked",
        ),
        (("evaluate.edited_rows",), "edited" not in spec.conditions(), "no condition edited is asked"),
        (
            ("evaluate.top_p", "evaluate.sample_top_k"), not spec.evaluate.temperature,
            "evaluate.temperature is 0: the most likely token is taken",
        ),
    ]  # fmt: skip


def _leaves(value: Any, place: str = "") -> dict[str, Any]:
    """All that is no mapping, by dotted place."""
    if not isinstance(value, Mapping):
        return {place: value}
    inner = (_leaves(item, f"{place}.{key}" if place else str(key)) for key, item in value.items())
    return {name: leaf for part in inner for name, leaf in part.items()}
