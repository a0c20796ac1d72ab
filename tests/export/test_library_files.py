from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import CenterCrop

from harness.errors import HarnessError
from harness.export.library_files import TIMM_NAMES, check_known, crop_pct, cut_differently
from harness.model.architectures import ARCHITECTURES
from harness.model.preprocessing import Preprocessing


def test_timm_resizes_to_the_pixel_for_every_size() -> None:
    """timm takes floor(crop / crop_pct); the plain quotient is one pixel short for many sizes."""
    off = 0
    for crop in range(16, 520, 8):
        for resize in range(crop, 2 * crop):
            rule = Preprocessing(resize, crop, "bilinear", (0, 0, 0), (1, 1, 1))
            assert math.floor(crop / crop_pct(rule)) == resize
            off += math.floor(crop / (crop / resize)) != resize
    assert off > 0
    assert crop_pct(Preprocessing(256, 224, "bilinear", (0, 0, 0), (1, 1, 1))) == 0.875


def test_where_transformers_cuts_one_pixel_off() -> None:
    """Against torchvision's crop; transformers takes the integer part of half the difference."""
    for side in range(32, 60):
        rows = torch.arange(side).view(1, side, 1).expand(3, side, 32)
        top = int(CenterCrop(32)(rows)[0, 0, 0])
        assert cut_differently(side, 32, 32) == (top != int((side - 32) / 2))
        assert cut_differently(32, side, 32) == cut_differently(side, 32, 32)


def test_every_model_can_be_exported() -> None:
    assert TIMM_NAMES.keys() == ARCHITECTURES.keys()
    with pytest.raises(HarnessError, match="resnet cannot be exported"):
        check_known("resnet")
