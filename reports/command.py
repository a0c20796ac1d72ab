"""The commands that make a run again and use what it left."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from reports.runs import Run
from reports.stats.leaderboard import NOT_SETTINGS

# As the manifest writes them, --name=value.
ELSEWHERE = tuple(f"--{name.replace('_', '-')}=" for name in NOT_SETTINGS)


def reproducing(run: Run) -> str:
    """Trains the same settings again: by the arguments that the manifest has, else by every setting of the config.

    The run's folder is left out: there the same command would find the run finished, or set it aside.
    """
    words = run.manifest.get("arguments")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        words = list(_every_setting(run))
    return shlex.join(["harness", "train", *(word for word in words if not word.startswith(ELSEWHERE))])


def _every_setting(run: Run) -> Iterator[str]:
    for name, value in run.config.items():
        if value is not None:
            yield f"--{name.replace('_', '-')}={value}"


def using(run: Run) -> list[tuple[str, str]]:
    """What a finished run is good for, and how."""
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
