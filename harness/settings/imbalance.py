"""Settings for classes of unequal size."""

import dataclasses

from harness.settings.option import option

NAMED_CLASS_WEIGHTS = ("none", "balanced", "effective")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImbalanceSettings:
    """Settings under the heading Class imbalance."""

    class_weights: str = option(
        "none",
        "Loss weight of each class: none, balanced (1 / images), effective (1 / effective number of images), or a "
        "CSV or JSON file of classes and weights.",
        earlier="none",
    )
    sampler: str = option(
        "shuffle",
        "Training images of an epoch: shuffle takes each once; balanced takes each class equally often.",
        choices=("shuffle", "balanced"),
        earlier="shuffle",
    )
    logit_adjust: float = option(
        0.0,
        "Logit adjustment: in training, adds this times log(share of the class) to each logit; 0 disables it.",
        low=0,
        high=10,
        earlier=0.0,
    )


def imbalance_problems(settings: ImbalanceSettings, shuffle: str) -> list[str]:
    """Problems of the corrections with each other and with the order of the images."""
    problems = []
    if settings.sampler == "balanced" and shuffle == "blocks":
        problems.append(
            "--sampler balanced takes images from all over the cache, and --shuffle blocks reads it in sequence; give "
            "one of them. --class-weights and --logit-adjust work with both orders."
        )
    corrections = {
        f"--class-weights {settings.class_weights}": settings.class_weights in ("balanced", "effective"),
        f"--sampler {settings.sampler}": settings.sampler == "balanced",
        f"--logit-adjust {settings.logit_adjust:g}": settings.logit_adjust > 0,
    }
    if sum(corrections.values()) > 1:
        several = " and ".join(option for option, corrects in corrections.items() if corrects)
        problems.append(f"{several} correct the same class imbalance more than once; give one of them.")
    return problems
