"""The augmentation policies: what each --augment does to a training image. This is the only list of their names.

Standard library only, because settings/augmentation.py takes the choices of --augment and their help from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RandomOperations:
    """Which of the operations in auto_augment.py follow the crop and the flip."""

    count: int
    bin: int | None  # entry of an operation's 31 magnitudes; None draws the entry for each image
    wide: bool  # TrivialAugment's ranges of magnitudes, which are wider than RandAugment's


@dataclass(frozen=True)
class Policy:
    """The steps of one policy, in the order in which they are applied."""

    about: str  # for the help of --augment
    crop_and_flip: bool = True  # random resized crop and horizontal flip; False: the centre crop
    color_jitter: bool = False  # of the strength of --color-jitter
    operations: RandomOperations | None = None
    # Builds a transform of torchvision.transforms.v2 that turns a PIL image into one of the same size: the slow path.
    transform: Callable[[], Any] | None = None

    @property
    def works_on_device(self) -> bool:
        """Whether gpu_augment.py can apply the policy to batches; if not, it is applied per image on the CPU."""
        return self.operations is None and self.transform is None


def _augmix() -> Any:
    """Hendrycks et al. 2020 (arXiv 1912.02781), without the paper's consistency loss."""
    from torchvision.transforms import v2

    return v2.AugMix()


def _autoaugment() -> Any:
    """Cubuk et al. 2019 (arXiv 1805.09501), the policy that was found on ImageNet."""
    from torchvision.transforms import v2

    return v2.AutoAugment()


POLICIES = {
    "none": Policy("centre crop", crop_and_flip=False),
    "standard": Policy("random resized crop, flip and colour jitter", color_jitter=True),
    "randaugment": Policy("crop, flip and 2 operations", operations=RandomOperations(count=2, bin=9, wide=False)),
    "trivialaugment": Policy("crop, flip and 1 operation", operations=RandomOperations(count=1, bin=None, wide=True)),
    "augmix": Policy("crop, flip and AugMix, about 100 images/s per CPU core", transform=_augmix),
    "autoaugment": Policy("crop, flip and AutoAugment for ImageNet", transform=_autoaugment),
}
