from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.export.library_files import RESAMPLE
from harness.model.state_dict_keys import to_torchvision
from harness.model.weight_names import to_hugging_face, to_timm
from harness.model.weights_file import select
from tests.helpers.tiny_vits import random_images, tiny_vit

IMAGES = random_images()


@pytest.mark.parametrize("rename", [to_timm, to_hugging_face])
def test_reading_the_names_back_gives_the_same_weights(
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    state = tiny_vit().state_dict()
    back, _ = to_torchvision(select(rename(dict(state)), Path("model.safetensors"))[0])
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_weight_without_a_place_is_an_error() -> None:
    with pytest.raises(KeyError, match="pre_logits"):
        to_timm(tiny_vit().state_dict() | {"heads.pre_logits.weight": torch.zeros(2)})


def test_timm_computes_the_same_logits() -> None:
    timm = pytest.importorskip("timm")
    model = tiny_vit()
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 36, "depth": 3, "num_heads": 3, "mlp_ratio": 48 / 36}
    other = timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes).eval()
    other.load_state_dict(to_timm(model.state_dict()))
    with torch.no_grad():
        torch.testing.assert_close(other(IMAGES), model(IMAGES), atol=1e-5, rtol=1e-5)


def test_transformers_computes_the_same_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import save_file

    model = tiny_vit()
    sizes = {"hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48}
    transformers.ViTConfig(image_size=32, patch_size=8, num_labels=5, layer_norm_eps=1e-6, **sizes).save_pretrained(
        tmp_path
    )
    save_file(to_hugging_face(model.state_dict()), tmp_path / "model.safetensors", {"format": "pt"})
    other, loading = transformers.ViTForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(IMAGES).logits, model(IMAGES), atol=1e-5, rtol=1e-5)


def test_the_numbers_of_interpolations_are_pillows() -> None:
    from PIL.Image import Resampling

    assert {name: Resampling[name.upper()].value for name in RESAMPLE} == RESAMPLE
