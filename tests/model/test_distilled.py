"""Models of timm that are changed before they are trained: two heads are one, batch norms are constant."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from harness.export.library_files import write_timm
from harness.model.timm_model import as_trained, batch_norms_kept
from harness.model.timm_weights import to_names_of
from harness.model.weights import load_into
from tests.helpers.built_models import loaded_model
from tests.model.test_state_dict_keys import randomised

NAME = "deit_tiny_distilled_patch16_224"
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_one_head_computes_what_timms_two_heads_do_when_loaded_and_when_exported(tmp_path: Path) -> None:
    source = randomised(timm.create_model(NAME, num_classes=4, img_size=32))
    with torch.no_grad():
        expected = source(IMAGES)
        assert (source.head(source.forward_features(IMAGES)[:, 0]) - expected).abs().max() > 0.1  # the heads differ
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    weights = str(tmp_path / "timm.safetensors")
    loaded = loaded_model(f"timm:{NAME}", num_classes=4, weights=weights, image_size=32)
    assert "The head for 4 classes is the file's." in loaded.report
    torch.testing.assert_close(loaded.model.eval()(IMAGES), expected, atol=1e-5, rtol=1e-5)
    other = loaded_model(f"timm:{NAME}", num_classes=2, weights=weights, image_size=32)
    assert "New head for 2 classes; the file has one for 4." in other.report
    assert not other.model(IMAGES).any()
    write_timm(tmp_path / "out", f"timm:{NAME}", loaded.model, ("a", "b", "c", "d"), loaded.preprocessing)
    opened = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    torch.testing.assert_close(opened(IMAGES), expected, atol=1e-5, rtol=1e-5)


def test_batch_norms_keep_what_their_weights_say_in_training() -> None:
    name, sizes = "vit_small_resnet26d_224", {"depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 32}
    source = timm.create_model(name, num_classes=4, **sizes).train()
    images = IMAGES + 1
    with torch.no_grad():
        source(images)  # statistics that differ from those of a new model
        expected = source.eval()(images)
    model = as_trained(timm.create_model(name, num_classes=4, **sizes))
    state, notes = to_names_of(model, name, source.state_dict())
    load_into(model, state)
    assert notes == (f"Left out, because {name} does not have it: the counters of batch norms.",)
    assert batch_norms_kept(model) == (
        "The 31 batch norms of its stem keep their statistics, scales and offsets: they are not trained.",
    )
    model.train()
    torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(images[:1]), expected[:1], atol=1e-5, rtol=1e-4)  # whatever shares the batch
    assert batch_norms_kept(timm.create_model("test_vit")) == ()
