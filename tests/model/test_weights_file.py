"""Weights files as timm, DeiT, torchvision's references, Lightning, DINO, MAE and Hugging Face write them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import Resize

from harness.errors import ConfigError, HarnessError, WeightsError
from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.preprocessing import Preprocessing, preprocessing_of
from harness.model.vit import Loaded
from harness.model.weights import check_header
from harness.model.weights_file import read_weights, select
from tests.helpers.built_models import config_of, loaded_model

State = dict[str, Tensor]

NAME = "vit_demo"
SIZES = Architecture(32, 8, 2, 2, 16, 24)


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, NAME, SIZES)


def timm_state(offset: float = 0.0, classes: int = 3) -> State:
    """Weights of a tiny ViT by timm's names; `offset` makes another model of them."""
    generator = torch.Generator().manual_seed(0)
    width, mlp = SIZES.hidden_dim, SIZES.mlp_dim
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 17, width),
        "patch_embed.proj.weight": (width, 3, 8, 8),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(SIZES.num_layers):
        for name, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (mlp, width),
            "mlp.fc1.bias": (mlp,),
            "mlp.fc2.weight": (width, mlp),
            "mlp.fc2.bias": (width,),
        }.items():
            shapes[f"blocks.{block}.{name}"] = shape
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), "head.weight": (classes, width), "head.bias": (classes,)}
    return {name: torch.randn(shape, generator=generator) * 0.3 + offset for name, shape in shapes.items()}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_head(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}


def load(path: Path, **options: Any) -> Loaded:
    return loaded_model(NAME, num_classes=3, weights=str(path), **options)


def logits(path: Path, **options: Any) -> Tensor:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return load(path, **options).model.eval()(images)


OTHER = 0.05  # added to every weight of a model that must not be taken

# What a program saves, given the weights to be found in it.
WITH_HEAD: dict[str, Callable[[State], dict[str, Any]]] = {
    "plain": lambda state: state,
    "timm": lambda state: {"epoch": 3, "arch": "vit", "state_dict": timm_state(OTHER), "state_dict_ema": state},
    "torchvision's references": lambda state: {
        "model": timm_state(OTHER),
        "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", state)},
        "epoch": 1,
    },
    "an average alone": lambda state: {"n_averaged": torch.tensor(5), **prefixed("module.", state)},
    "an average alone, under its name": lambda state: {
        "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", state)}
    },
    "DeiT, with its options": lambda state: {"model": state, "args": argparse.Namespace(lr=1)},
    "compiled, then DDP": lambda state: {"state_dict": prefixed("module._orig_mod.", state)},
    "DDP, then compiled": lambda state: prefixed("_orig_mod.module.", state),
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2"},
    "Lightning, with a loss": lambda state: {
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(2)}
    },
    "Lightning, with a metric": lambda state: {"state_dict": {**prefixed("net.", state), "val_acc.tp": torch.zeros(2)}},
    "a prefix of any name": lambda state: prefixed("encoder.", state),
    "a prefix that the head lacks": lambda state: {
        **prefixed("module.", without_head(state)),
        **{name: state[name] for name in ("head.weight", "head.bias")},
    },
    "under module": lambda state: {"module": state},
    "under net": lambda state: {"net": state},
    "under weights": lambda state: {"weights": state},
    "BasicSR's average": lambda state: {"params": timm_state(OTHER), "params_ema": state},
}
WITHOUT_HEAD: dict[str, Callable[[State], dict[str, Any]]] = {
    "a backbone": lambda state: prefixed("backbone.", without_head(state)),
    "DINO": lambda state: {
        "student": prefixed("module.backbone.", without_head(timm_state(OTHER))),
        "teacher": {**prefixed("backbone.", without_head(state)), "head.mlp.0.weight": torch.ones(2, 2)},
    },
    "MoCo v3": lambda state: {
        "state_dict": {
            **prefixed("module.base_encoder.", without_head(timm_state(OTHER))),
            **prefixed("module.momentum_encoder.", without_head(state)),
        }
    },
    "MAE": lambda state: {
        "model": {
            **without_head(state),
            "mask_token": torch.zeros(1, 1, 16),
            "decoder_pos_embed": torch.zeros(1, 17, 8),
            "decoder_embed.weight": torch.zeros(8, 16),
            "decoder_blocks.0.norm1.weight": torch.zeros(8),
        }
    },
}


@pytest.mark.parametrize("name", ["weights.pth", "weights.ckpt", "weights.pth.tar", "WEIGHTS.PTH"])
def test_pytorch_files_by_any_of_their_suffixes(tmp_path: Path, name: str) -> None:
    torch.save(timm_state(), tmp_path / name)
    check_header(NAME, tmp_path / name, None)
    torch.save(timm_state(), tmp_path / "plain.pt")
    assert torch.equal(logits(tmp_path / name), logits(tmp_path / "plain.pt"))


@pytest.mark.parametrize("program", [*WITH_HEAD, *WITHOUT_HEAD])
def test_the_weights_that_a_program_saved_give_the_logits_of_the_plain_file(tmp_path: Path, program: str) -> None:
    save = (WITH_HEAD | WITHOUT_HEAD)[program]
    plain = timm_state() if program in WITH_HEAD else without_head(timm_state())
    torch.save(plain, tmp_path / "plain.pth")
    torch.save(save(timm_state()), tmp_path / "saved.pth")
    check_header(NAME, tmp_path / "saved.pth", None)
    options = {"head_init": "default"} if program in WITHOUT_HEAD else {}  # a zero head would hide the backbone
    expected = logits(tmp_path / "plain.pth", **options)
    assert expected.std() > 0.05
    assert torch.equal(logits(tmp_path / "saved.pth", **options), expected)


def notes_of(contents: dict[str, Any]) -> tuple[str, ...]:
    return select(contents, Path("w.pth"))[1]


def test_what_was_taken_and_left_out_is_said() -> None:
    state = timm_state()
    assert notes_of({"model": state}) == ()
    assert notes_of({"model": state, "model_ema": state}) == (
        "It holds weights under model, model_ema: those of model_ema (the average) were taken. "
        "--weights-key takes others.",
    )
    assert notes_of({"model": state, "net": state}) == (
        "It holds weights under model, net: those of model were taken. --weights-key takes others.",
    )
    assert notes_of({**prefixed("model.", state), "criterion.weight": torch.ones(2)}) == (
        "Left out, because they are not under 'model.': 'criterion.weight'.",
    )
    both = {**prefixed("backbone.", state), **prefixed("semantic.", state)}
    assert notes_of(both) == (
        "It holds several models, 'backbone', 'semantic': 'backbone' was taken. --weights-key takes another.",
    )
    both = {**prefixed("net.", state), **prefixed("net_ema.module.", state)}
    assert notes_of(both) == (
        "It holds several models, 'net', 'net_ema.module': 'net_ema.module' was taken. --weights-key takes another.",
    )
    both = {**prefixed("base_encoder.", state), **prefixed("momentum_encoder.", state)}
    assert notes_of(both) == (
        "It holds several models, 'base_encoder', 'momentum_encoder': 'momentum_encoder' was taken. "
        "--weights-key takes another.",
    )


def test_the_key_takes_an_entry_or_a_prefix(tmp_path: Path) -> None:
    raw, average, path = timm_state(), timm_state(OTHER), tmp_path / "w.pth"
    torch.save(raw, tmp_path / "raw.pth")
    torch.save(average, tmp_path / "average.pth")
    torch.save({"model": raw, "model_ema": average, "mine": raw}, path)
    assert torch.equal(logits(path), logits(tmp_path / "average.pth"))
    for key in ("model", "mine"):
        assert torch.equal(logits(path, weights_key=key), logits(tmp_path / "raw.pth"))
    torch.save({**prefixed("online.", raw), **prefixed("target_ema.", average)}, path)
    assert torch.equal(logits(path), logits(tmp_path / "average.pth"))
    assert torch.equal(logits(path, weights_key="online"), logits(tmp_path / "raw.pth"))
    assert load(path).weights_digest != load(path, weights_key="online").weights_digest
    with pytest.raises(ConfigError, match=r"--weights-key onlin: .* has no weights of this name; it offers online, "):
        read_weights(path, "onlin")
    with pytest.raises(ConfigError, match="--weights-key onlin"):
        check_header(NAME, path, "onlin")


def test_parts_of_the_model_are_never_left_out(tmp_path: Path) -> None:
    state = prefixed("model.", timm_state() | {"blocks.0.extra": torch.ones(1)})
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"Not part of the model: 'blocks\.0\.extra'"):
        load(tmp_path / "w.pth")


# Folders, and what the files in them say


def hub_folder(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    safetensors.torch.save_file(timm_state(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_timms_folder_is_loaded_with_its_preprocessing(tmp_path: Path) -> None:
    cfg = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "crop_pct": 0.9, "input_size": [3, 32, 32]}
    folder = hub_folder(
        tmp_path / "hub", {"architecture": "vit", "pretrained_cfg": cfg, "model_args": {"num_heads": 2}}
    )
    loaded = load(folder)
    # 32 / 0.9 is 35.6, which timm rounds down.
    [resize] = [each for each in create_transform(**cfg).transforms if isinstance(each, Resize)]
    assert loaded.preprocessing == Preprocessing(35, 32, "bicubic", (0.5,) * 3, (0.25,) * 3) and resize.size == 35
    assert loaded.report == (
        f"{NAME} takes its weights from {folder / 'model.safetensors'}.",
        "Names were converted from timm's.",
        "The head for 3 classes is the file's.",
        "Its images are prepared as config.json beside it says.",
    )
    assert preprocessing_of(config_of(NAME, weights=str(folder / "model.safetensors"))) == loaded.preprocessing
    changed = preprocessing_of(
        config_of(NAME, weights=str(folder), mean="0.1", std="0.2,0.3,0.4", interpolation="bilinear")
    )
    assert changed == Preprocessing(35, 32, "bilinear", (0.1,) * 3, (0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    ("processor", "expected", "squashes"),
    [
        ({"size": {"height": 32, "width": 32}, "resample": 3}, (32, 32, "bicubic"), True),
        ({"size": 32}, (32, 32, "bilinear"), True),
        (
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
            (40, 32, "bilinear"),
            False,
        ),
    ],
)
def test_hugging_faces_processor(
    tmp_path: Path, processor: dict[str, Any], expected: tuple[int, int, str], squashes: bool
) -> None:
    processor |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.5] * 3}
    folder = hub_folder(tmp_path / "hub", {"num_attention_heads": 2, "hidden_act": "gelu"}, processor)
    loaded = load(folder)
    assert loaded.preprocessing == Preprocessing(*expected, (0.4, 0.5, 0.6), (0.5,) * 3)
    assert "Its images are prepared as config.json and preprocessor_config.json beside it says." in loaded.report
    assert any("squashes images to a square" in sentence for sentence in loaded.report) == squashes


@pytest.mark.parametrize(
    ("scaling", "problem"),
    [
        (
            {"rescale_factor": 1 / 127.5},
            r"_config\.json multiplies pixels by 0\.0078.*, but here pixels are divided by 255\. Move it away",
        ),
        ({"do_rescale": False}, r"_config\.json leaves pixels as they are \(do_rescale is false\), but here"),
        ({"rescale_factor": "1/255"}, "cannot be used"),
    ],
)
def test_pixels_in_another_range_are_refused(tmp_path: Path, scaling: dict[str, Any], problem: str) -> None:
    processor = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert load(hub_folder(tmp_path / "hub", {}, processor | {"rescale_factor": 0.00392156862745098}))
    assert load(hub_folder(tmp_path / "null", {}, processor | {"do_rescale": None, "rescale_factor": None}))
    with pytest.raises(WeightsError, match=problem):
        load(hub_folder(tmp_path / "other", {}, processor | scaling))


def test_a_file_without_a_description_says_what_is_assumed(tmp_path: Path) -> None:
    torch.save(timm_state(), tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 16}))  # may be that of another file
    assumed = (
        "It does not say how its images were prepared: ImageNet's mean and deviation are assumed. Others are given "
        "with --mean and --std."
    )
    heads = (
        "It does not say its number of attention heads or its pooling: 2 heads and the class token, as in vit_demo, "
        "are assumed."
    )
    assert load(tmp_path / "weights.pth").report[-2:] == (assumed, heads)
    told = load(tmp_path / "weights.pth", mean="0.5", std="0.5")
    assert told.preprocessing.mean == (0.5,) * 3
    assert assumed not in told.report


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"num_attention_heads": 4}, "says 4 attention heads, vit_demo has 2"),
        ({"model_args": {"num_heads": 4}, "pretrained_cfg": {}}, "says 4 attention heads, vit_demo has 2"),
        ({"global_pool": "avg", "pretrained_cfg": {}}, "global_pool is 'avg': the model pools its patches"),
        ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ({"num_attention_heads": "2"}, "the number of attention heads is '2'"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "mean is not a list of three numbers"),
        ({"pretrained_cfg": {"crop_pct": 3}}, "its crop_pct 3"),
        ({"pretrained_cfg": {"crop_pct": 5e-324}}, "cannot be used"),
        ({"pretrained_cfg": [1]}, "pretrained_cfg is a list instead of an object"),
        ({"pretrained_cfg": {"input_size": 5}}, "input_size is a number instead of a list"),
        ({"pretrained_cfg": {"input_size": {"height": 64}}}, "input_size is an object instead of a list"),
    ],
)
def test_what_the_config_beside_says_is_not_ignored(tmp_path: Path, config: dict[str, Any], problem: str) -> None:
    folder = hub_folder(tmp_path / "hub", config)
    with pytest.raises(HarnessError) as caught:
        load(folder)
    assert problem in str(caught.value)
    assert "config.json" in str(caught.value)


def test_a_config_that_is_no_object(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "hub", {})
    for content in (b"[]", b"\xff\xfe", b"{", b"[" * 100_000):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(WeightsError, match=r"config\.json cannot be used"):
            load(folder)


def test_folders_without_one_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no weights file"):
        load(tmp_path)
    torch.save(timm_state(), tmp_path / "a.pth")
    assert load(tmp_path).report[0].endswith(f"from {tmp_path / 'a.pth'}.")
    torch.save(timm_state(), tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"holds several weights files: a\.pth, b\.pth\. Give the weights file"):
        load(tmp_path)


def shards(folder: Path, suffix: str, config: dict[str, Any] | None = None) -> Path:
    """A folder with two files and their index, as save_pretrained(max_shard_size=...) writes it."""
    folder.mkdir()
    state, by_tensor = timm_state(), {}
    stem = {".safetensors": "model", ".bin": "pytorch_model"}[suffix]
    for number, names in enumerate((sorted(state)[:9], sorted(state)[9:]), 1):
        name = f"{stem}-0000{number}-of-00002{suffix}"
        part = {each: state[each] for each in names}
        if suffix == ".bin":
            torch.save(part, folder / name)
        else:
            safetensors.torch.save_file(part, folder / name, {"format": "pt"})
        by_tensor |= dict.fromkeys(names, name)
    index = {"metadata": {"total_size": 1}, "weight_map": by_tensor}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_in_several_files(tmp_path: Path, suffix: str) -> None:
    folder = shards(tmp_path / "hub", suffix, {"num_attention_heads": 2})
    torch.save(timm_state(), tmp_path / "whole.pth")
    [index] = folder.glob("*.index.json")
    expected = logits(tmp_path / "whole.pth")
    for path in (folder, index):
        check_header(NAME, path, None)
        assert torch.equal(logits(path), expected)
    one, two = sorted(folder.glob(f"*{suffix}"))
    with pytest.raises(WeightsError, match=rf"one of 2 files .* Give {re.escape(str(index))}, or the folder"):
        load(one)
    before = load(folder).weights_digest
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    with pytest.raises(WeightsError, match="says 4 attention heads, vit_demo has 2"):
        check_header(NAME, folder, None)
    (folder / "config.json").unlink()
    if suffix == ".bin":
        torch.save({name: tensor + 1 for name, tensor in torch.load(two).items()}, two)
        assert load(folder).weights_digest != before
    two.write_bytes(b"cut")
    with pytest.raises(WeightsError, match=re.escape(f"{two} is not a {suffix} weights file, or was cut short")):
        load(folder)
    two.unlink()
    with pytest.raises(WeightsError, match=rf"names files that are not beside it, 1 of 2: {two.name}\. Put them there"):
        check_header(NAME, folder, None)


def test_one_file_that_is_numbered_as_several_loads_and_a_lone_one_of_several_is_refused(tmp_path: Path) -> None:
    whole, lone = tmp_path / "1" / "model-00001-of-00001.safetensors", tmp_path / "2" / "model-00001-of-00002.bin"
    for file in (whole, lone):
        file.parent.mkdir()
    safetensors.torch.save_file(timm_state(), whole)
    torch.save(timm_state(), lone)
    assert load(whole.parent).weights_digest == load(whole).weights_digest
    with pytest.raises(WeightsError, match=r"the others and their index, model\.bin\.index\.json, beside it"):
        load(lone.parent)


@pytest.mark.parametrize("name", ["../../secret.bin", "/etc/secret.bin", "a/b.bin", "x.pth", 3, ["x"], {}])
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, name: object) -> None:
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"cls_token": name}}))
    with pytest.raises(WeightsError, match=r"is not the name of a \.safetensors or \.bin file beside it"):
        read_weights(tmp_path)
    for content in ("{}", "[]", "{", '{"weight_map": {}}'):
        index.write_text(content)
        with pytest.raises(WeightsError, match=r"index\.json cannot be used"):
            check_header(NAME, tmp_path, None)
    index.write_text(json.dumps({"weight_map": {"cls_token": "x" * 300 + ".bin"}}))
    with pytest.raises(WeightsError, match=r"index\.json cannot be used: .*too long"):
        read_weights(tmp_path)
