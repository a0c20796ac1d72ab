"""Commands that repeat a run and use its results."""

from __future__ import annotations

import shlex

from reports.runs import Run
from reports.stats.setting import NOT_SETTINGS

# As the manifest writes them, --name=value.
ELSEWHERE = tuple(f"--{name.replace('_', '-')}=" for name in NOT_SETTINGS)


def reproducing(run: Run) -> str:
    """The command that trains the same settings again: from the arguments in the manifest, else from the whole config.

    Without the run's folder, in which the command would find the run finished.
    """
    words = run.manifest.get("arguments")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in run.config.items() if value is not None]
    # A run without a recipe is of a version whose defaults are now those of the study.
    recipe = [] if "recipe" in run.config else ["--recipe=study"]
    return shlex.join(["harness", "train", *recipe, *(word for word in words if not word.startswith(ELSEWHERE))])


def using(run: Run) -> list[tuple[str, str]]:
    """Uses of a finished run, each with its command."""
    folder = shlex.quote(str(run.path))
    best = shlex.quote(str(run.path / "checkpoints" / "best.safetensors"))
    data = shlex.quote(str(run.config.get("data", "DATA")))
    model = shlex.quote(str(run.config.get("model", "MODEL")))
    return [
        ("Predict the top-5 classes of images", f"harness predict {folder} IMAGE.jpg"),
        ("Score it again on the test set, or on other images", f"harness evaluate {folder}"),
        ("Draw the attention maps of images", f"harness explain {folder} IMAGES/"),
        ("Start from its weights", f"harness train --data {data} --model {model} --weights {best}"),
        ("Upload it to Weights & Biases, if it was kept offline", f"harness sync {folder}"),
    ]
