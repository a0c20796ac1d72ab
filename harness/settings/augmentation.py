"""Settings of what training changes in images and labels."""

import dataclasses

from harness.data.policies import POLICIES
from harness.settings.option import BY_RECIPE, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Settings under the heading Augmentation."""

    augment: str = option(
        BY_RECIPE,
        "; ".join(f"{name} = {policy.about}" for name, policy in POLICIES.items()) + ".",
        choices=tuple(POLICIES),
    )
    color_jitter: float = option(
        BY_RECIPE, "Brightness, contrast and saturation strength of --augment standard; 0 disables it.", low=0, high=1
    )
    crop_area: float = option(
        BY_RECIPE,
        "Smallest area of a random crop, as a fraction of the image. Crops near 1 suit small data sets. Has no effect "
        "with --augment none.",
        above=0,
        high=1,
        earlier=0.08,
    )
    random_erasing: float = option(0.0, "Probability of erasing a rectangle from a training image.", low=0, high=1)
    mixup: float = option(0.0, "Mixup alpha (Beta distribution); 0 disables it.", low=0, high=100)
    cutmix: float = option(
        0.0,
        "CutMix alpha (Beta distribution); 0 disables it. With --mixup, each batch uses one of the two.",
        low=0,
        high=100,
    )
    label_smoothing: float = option(
        BY_RECIPE, "Label smoothing: probability mass spread evenly over all classes.", low=0, below=1
    )
