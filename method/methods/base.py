"""What a method of the registry says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from method.mixtures import RECIPES
from method.prompts import MODES

STAGES = ("prepare", "rationalize", "train-general", "diagnose", "extract", "train-augmented", "evaluate", "publish")
TRAINING_STAGES = ("train-general", "train-augmented")


@dataclass(frozen=True)
class Method:
    """A way to make a student.

    Attributes:
        name: how a run spec names it, lower case.
        title: how a report names it.
        stages: the stages that it runs, a part of STAGES in their order.
        recipes: for each training stage that it runs, the recipes it knows (of mixtures.RECIPES), default first.
        prompt_mode: the prompt mode of its evaluation (of method.prompts.MODES).
        uses_knowledge: whether its student is served with knowledge entries.
        rounds: whether more rounds, from diagnose on, make sense.
    """

    name: str
    title: str
    stages: tuple[str, ...]
    recipes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    prompt_mode: str = "cot"
    uses_knowledge: bool = False
    rounds: bool = False

    def __post_init__(self) -> None:
        if list(self.stages) != [s for s in STAGES if s in self.stages]:
            raise ValueError(f"method {self.name}: stages must be a part of {', '.join(STAGES)}, in this order")
        trained = {s for s in self.stages if s in TRAINING_STAGES}
        if set(self.recipes) != trained or not all(r and set(r) <= set(RECIPES) for r in self.recipes.values()):
            raise ValueError(f"method {self.name}: each training stage needs recipes of {', '.join(RECIPES)}")
        if self.prompt_mode not in MODES:
            raise ValueError(f"method {self.name}: prompt_mode must be one of {', '.join(MODES)}")

    def recipe(self, stage: str, wanted: str = "") -> str:
        """Returns the recipe of a training stage: the wanted one, or the default.

        Raises:
            ValueError: the method does not run the stage, or does not know the recipe.
        """
        if stage not in self.recipes:
            raise ValueError(
                f"method {self.name} has no training stage {stage!r}: it has {', '.join(self.recipes) or 'none'}"
            )
        known = self.recipes[stage]
        if wanted and wanted not in known:
            raise ValueError(
                f"method {self.name}: recipe {wanted!r} of {stage} is unknown: use one of {', '.join(known)}"
            )
        return wanted or known[0]
