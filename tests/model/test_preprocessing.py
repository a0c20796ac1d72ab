"""How images are prepared, by the weights they go with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import ConfigError, WeightsError
from harness.model.preprocessing import Preprocessing, preprocessing_of
from tests.helpers.built_models import config_of
from tests.helpers.demo_vits import demo, save

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("model", "weights", "options", "expected"),
    [
        ("vit_b_16", "imagenet", {}, Preprocessing(256, 224, "bilinear", *IMAGENET)),
        ("vit_l_16", "imagenet", {}, Preprocessing(242, 224, "bilinear", *IMAGENET)),
        ("vit_b_16", "imagenet-swag", {}, Preprocessing(384, 384, "bicubic", *IMAGENET)),
        ("vit_h_14", "imagenet-swag", {}, Preprocessing(518, 518, "bicubic", *IMAGENET)),
        ("vit_h_14", "imagenet-swag-linear", {}, Preprocessing(224, 224, "bicubic", *IMAGENET)),
        ("vit_b_16", "imagenet", {"image_size": 384}, Preprocessing(439, 384, "bilinear", *IMAGENET)),
        ("vit_l_16", "imagenet", {"image_size": 448}, Preprocessing(484, 448, "bilinear", *IMAGENET)),
        ("vit_b_16", "imagenet", {"crop_pct": 1.0}, Preprocessing(224, 224, "bilinear", *IMAGENET)),
        (
            "vit_b_16",
            "imagenet-swag",
            {"image_size": 224, "crop_pct": 0.9},
            Preprocessing(249, 224, "bicubic", *IMAGENET),
        ),
        ("vit_s_16", "none", {}, Preprocessing(256, 224, "bilinear", *IMAGENET)),
        ("vit_demo", "none", {}, Preprocessing(73, 64, "bilinear", *IMAGENET)),
        ("vit_demo", "demo", {}, Preprocessing(64, 64, "bilinear", *HALF)),
    ],
)
def test_preprocessing_goes_with_the_weights(
    model: str, weights: str, options: dict[str, Any], expected: Preprocessing
) -> None:
    assert preprocessing_of(config_of(model, weights=weights, **options)) == expected


def test_preprocessing_of_files(tmp_path: Path) -> None:
    own = Preprocessing(80, 64, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path = save(tmp_path / "own.safetensors", demo(), dataclasses.asdict(own))
    assert preprocessing_of(config_of("vit_demo", weights=path)) == own
    assert preprocessing_of(config_of("vit_demo", weights=path, image_size=128)) == dataclasses.replace(
        own, resize_size=160, crop_size=128
    )
    assert preprocessing_of(config_of("vit_demo", weights=path, crop_pct=1.0)) == dataclasses.replace(
        own, resize_size=64
    )
    plain = save(tmp_path / "plain.safetensors", demo())
    assert preprocessing_of(config_of("vit_demo", weights=plain)) == Preprocessing(73, 64, "bilinear", *IMAGENET)
    np.savez(tmp_path / "google.npz", a=np.ones(1))
    assert preprocessing_of(config_of("vit_b_16", weights=str(tmp_path / "google.npz"))) == Preprocessing(
        256, 224, "bilinear", *HALF
    )


@pytest.mark.parametrize(
    "change",
    [
        "[",
        "[]",
        "[" * 100_000,
        {"mean": [0.5, 0.5]},
        {"std": [0, 1, 1]},
        {"std": [float("nan")] * 3},
        {"resize_size": 10},
        {"crop_size": 10**9, "resize_size": 10**9},
        {"crop_size": float("inf")},
        {"interpolation": "nearest"},
        {"mean": None},
    ],
)
def test_unusable_preprocessing_in_a_file_is_an_error(tmp_path: Path, change: Any) -> None:
    if isinstance(change, dict):
        change = dataclasses.asdict(Preprocessing(80, 64, "bicubic", *HALF)) | change
    path = save(tmp_path / "w.safetensors", demo(), change)
    with pytest.raises(WeightsError, match=r"w\.safetensors: 'preprocessing' in its metadata cannot be used"):
        preprocessing_of(config_of("vit_demo", weights=path))


@pytest.mark.parametrize(("size", "advice"), [(225, "224 or 240"), (9, "16")])
def test_an_image_size_that_is_no_whole_number_of_patches(size: int, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preprocessing_of(config_of("vit_b_16", weights="none", image_size=size))
    expected = f"--image-size {size} is not a multiple of vit_b_16's patch size, 16; take {advice}."
    assert caught.value.problems == (expected,)
