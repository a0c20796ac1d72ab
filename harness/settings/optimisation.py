"""Settings of the optimiser: how long, how fast, on how many images at once."""

import dataclasses

from harness.settings.option import BY_RECIPE, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisationSettings:
    """Settings under the heading Optimisation."""

    epochs: int = option(BY_RECIPE, "Passes over the training set.", low=1, high=100_000)
    patience: int = option(
        BY_RECIPE,
        "Early stopping: epochs without a better validation score after which training ends; 0 disables it. The "
        "schedule stays that of all --epochs.",
        low=0,
        high=100_000,
        earlier=0,
    )
    lr: float = option(BY_RECIPE, "Peak learning rate.", above=0, high=1e6)
    batch_size: int = option(
        BY_RECIPE, "Global batch size: images per optimiser step, over all processes.", low=1, high=1_000_000
    )
    optimizer: str = option("adamw", "Optimiser.", choices=("adamw", "sgd"))
    weight_decay: float = option(
        BY_RECIPE,
        "Weight decay of matrices; norms, biases, class token and position embedding are not decayed.",
        low=0,
        high=10,
    )
    momentum: float = option(0.9, "Momentum of SGD.", low=0, below=1)
    layer_decay: float = option(
        BY_RECIPE, "Learning rate factor per block of distance from the head; 1 disables it.", above=0, high=1
    )
    schedule: str = option(
        BY_RECIPE, "Learning rate after warm-up: constant, or half a cosine down to 0.", choices=("constant", "cosine")
    )
    warmup_epochs: float = option(
        BY_RECIPE, "Epochs of linear learning rate warm-up from 0; fractions are allowed.", low=0, high=100_000
    )
    clip_grad: float = option(BY_RECIPE, "Maximum gradient norm; 0 disables clipping.", low=0, high=1e6)
    ema: bool = option(BY_RECIPE, "Keep, validate and save an exponential moving average of the weights.")
    ema_decay: float = option(
        0.999,
        "Decay of the moving average per optimiser step; at most (1 + step) / (10 + step), which suits short runs.",
        low=0,
        below=1,
    )
    seed: int = option(0, "Seed for image order, augmentation and new weights.", low=0, high=2**31 - 1)


def optimisation_problems(settings: OptimisationSettings) -> list[str]:
    if settings.warmup_epochs > settings.epochs:
        return [
            f"--warmup-epochs {settings.warmup_epochs:g} is longer than the training itself "
            f"(--epochs {settings.epochs})."
        ]
    return []
