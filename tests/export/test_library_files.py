from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch
from torchvision.transforms import CenterCrop

from harness.errors import HarnessError
from harness.export.library_files import TIMM_NAMES, check_formats, crop_pct, cut_differently, write_timm
from harness.model.architectures import ARCHITECTURES
from harness.model.preprocessing import Preprocessing
from tests.helpers.built_models import loaded_model


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


def test_a_model_of_timm_opens_in_timm_with_the_same_logits(tmp_path: Path) -> None:
    for name, size in (("test_vit3", 64), ("test_vit2", 48)):
        loaded = loaded_model(f"timm:{name}", num_classes=3, weights="none", image_size=size, head_init="default")
        write_timm(tmp_path / name, f"timm:{name}", loaded.model, ("a", "b", "c"), loaded.preprocessing)
        opened = timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True).eval()
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(opened(images), loaded.model.eval()(images))
        config = timm.data.resolve_model_data_config(opened)
        assert config["input_size"] == (3, size, size) and tuple(config["mean"]) == loaded.preprocessing.mean


def test_a_model_of_timm_is_refused_where_transformers_has_the_plain_one_alone() -> None:
    with pytest.raises(HarnessError, match=r"cannot be exported to hf-vit.*Give --to hf"):
        check_formats("timm:vit_small_patch14_dinov2", ["timm", "hf-vit"])
    check_formats("timm:vit_small_patch14_dinov2", ["timm", "hf", "onnx"])
