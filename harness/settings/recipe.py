"""Which set of defaults a run has."""

import dataclasses

from harness.recipes import DEFAULT, RECIPES
from harness.settings.option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeSettings:
    """The recipe; every setting it decides says BY_RECIPE."""

    recipe: str = option(
        DEFAULT,
        "Set of defaults: finetune for pretrained weights and new data; study for the settings of sweeps/grid.yaml. "
        "Explicit options take precedence.",
        choices=tuple(RECIPES),
        identity=False,
    )
