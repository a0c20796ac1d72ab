"""The parts of a Vision Transformer, by the names of its family."""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest
import torch

from harness.errors import HarnessError
from harness.model import adapter
from harness.model.drop_path import add_drop_path, set_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.model.weights import interpolate_positions, load_into
from harness.probe.features import without_head
from harness.training.optim import parameter_groups
from tests import ROOT
from tests.helpers.demo_vits import demo
from tests.helpers.register_vits import by_hand, make_known, register_vit
from tests.helpers.tiny_vits import hooks_left, random_images


def test_depth_of_every_parameter() -> None:
    depth = adapter.parts(demo()).depth
    depths = {name: depth(name) for name, _ in demo().named_parameters()}
    assert [name for name, depth in depths.items() if depth == 0] == [
        "class_token",
        "conv_proj.weight",
        "conv_proj.bias",
        "encoder.pos_embedding",
    ]
    assert {depth for name, depth in depths.items() if "encoder_layer_4." in name} == {5}
    assert depths["encoder.ln.weight"] == depths["heads.head.bias"] == 7
    assert depth("encoder.layers.encoder_layer_5.ln_1.weight") == 6
    with pytest.raises(ValueError, match=r"fc\.weight is not a parameter"):
        depth("fc.weight")


# A second family


@pytest.fixture
def second_family(monkeypatch: pytest.MonkeyPatch) -> None:
    make_known(monkeypatch)


def test_an_unknown_family_is_an_error_that_says_where_it_belongs() -> None:
    with pytest.raises(HarnessError) as caught:
        adapter.parts(register_vit())
    assert caught.value.problems == (
        "harness/model/adapter.py does not describe the parts of RegisterVit. It describes those of VisionTransformer "
        "of torchvision.",
    )


@pytest.mark.usefixtures("second_family")
def test_layers_learn_at_their_own_rates_and_vectors_do_not_decay() -> None:
    model = register_vit()
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates, decays = {}, {}
    for group in parameter_groups(model, weight_decay=0.1, layer_decay=0.5):
        for parameter in group["params"]:
            rates[names[parameter]], decays[names[parameter]] = group["lr_scale"], group["weight_decay"]
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        block = re.match(r"trunk\.(\d)", name)
        below_head = 3 - int(block[1]) if block else 0 if name.startswith(("last_norm", "classifier")) else 4
        assert rate == 0.5**below_head, name
    decayed = {name for name, decay in decays.items() if decay}
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    assert decayed == matrices - {"summary", "registers", "places"}


@pytest.mark.usefixtures("second_family")
@pytest.mark.parametrize("pools_patches", [True, False])
def test_features_are_what_the_head_reads(pools_patches: bool) -> None:
    model = register_vit(pools_patches=pools_patches)
    expected = by_hand(model, random_images())
    with torch.no_grad(), without_head(model):
        features = model(random_images())
    torch.testing.assert_close(features, expected.features.detach(), atol=1e-4, rtol=1e-5)
    assert adapter.parts(model).head.in_features == features.shape[1] == 36
    torch.testing.assert_close(model(random_images()), expected.logits, atol=1e-4, rtol=1e-5)
    assert hooks_left(model) == 0


@pytest.mark.usefixtures("second_family")
def test_branches_are_dropped_and_blocks_computed_again() -> None:
    images, plain, changed = random_images(), register_vit().train(), register_vit().train()
    add_drop_path(changed)
    enable_grad_checkpointing(changed)
    assert list(changed.state_dict()) == list(plain.state_dict())
    calls: list[int] = []
    changed.trunk[1].dense_norm.register_forward_hook(lambda *_: calls.append(1))
    for model in (plain, changed):
        model(images).square().sum().backward()
    assert len(calls) == 2
    assert torch.equal(changed.places.grad, plain.places.grad)

    scale = torch.ones(4, 6)
    scale[1] = 0  # image 1 skips every branch
    scale[2, 3] = 2  # image 2 doubles the MLP of block 1
    set_drop_path(changed, scale)
    streams = [changed.embed(images)]
    for number, block in enumerate(plain.trunk):
        x = block.attention_norm(streams[-1])
        middle = streams[-1] + block.mixer(x, x, x, need_weights=False)[0] * scale[:, 2 * number, None, None]
        streams.append(middle + block.dense(block.dense_norm(middle)) * scale[:, 2 * number + 1, None, None])
    torch.testing.assert_close(changed(images), plain.classifier(plain.features(streams[-1])))
    assert torch.equal(streams[-1][1], streams[0][1])


@pytest.mark.usefixtures("second_family")
def test_weights_load_with_another_head_and_grid() -> None:
    source, larger = register_vit(seed=1), register_vit(seed=2, side=48)
    state = source.state_dict() | {"classifier.weight": torch.zeros(7, 36), "classifier.bias": torch.zeros(7)}
    head = larger.classifier.weight.detach().clone()
    assert load_into(larger, state) == (
        "New head for 5 classes; the file has one for 7.",
        "Positional embeddings were resized from a grid of 4x4 to 6x6 (bicubic).",
    )
    assert torch.equal(larger.classifier.weight, head)
    assert torch.equal(larger.registers, source.registers)
    assert torch.equal(larger.places[:, 0], source.places[:, 0])
    square = source.places[:, 1:].detach().transpose(1, 2).reshape(1, 36, 4, 4)
    resized = torch.nn.functional.interpolate(square, size=6, mode="bicubic", align_corners=True)
    torch.testing.assert_close(larger.places[:, 1:].detach(), resized.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_positions_of_prefix_tokens_stay_when_a_grid_is_resized(prefix: int) -> None:
    positions = torch.randn(1, prefix + 16, 8, generator=torch.Generator().manual_seed(0))
    resized = interpolate_positions(positions, 6, prefix)
    assert torch.equal(resized[:, :prefix], positions[:, :prefix])
    patches = torch.cat([torch.zeros(1, 1, 8), positions[:, prefix:]], dim=1)
    assert torch.equal(resized[:, prefix:], interpolate_positions(patches, 6)[:, 1:])


# Where attributes are named

# Files that may name attributes of torchvision's VisionTransformer, and why.
MAY_NAME = {
    "harness/model/packed_attention.py": "replaces the attention of this one class",
    "harness/model/adapter.py": "the place for it",
}
ATTRIBUTES = {"encoder", "conv_proj", "self_attention", "pos_embedding", "hidden_dim", "ln_1", "ln_2", "_process_input"}


def test_no_other_file_names_the_attributes_of_a_family() -> None:
    naming = set()
    for path in sorted((ROOT / "harness").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        attributes = {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute) and not ast.unparse(node.value).endswith("architecture")
        }
        imports = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        name = path.relative_to(ROOT).as_posix()
        if attributes & ATTRIBUTES or ("VisionTransformer" in imports and name != "harness/model/new_model.py"):
            naming.add(name)
    assert naming == set(MAY_NAME)


def test_the_guide_shows_the_adapter_as_it_is() -> None:
    text = (ROOT / "docs" / "development" / "adding-a-model.md").read_text()
    files = set(re.findall(r"`((?:harness|tests|docs)/[\w./-]+)`", text))
    assert {"harness/model/adapter.py", "tests/helpers/register_vits.py"} <= files
    assert [file for file in files if not (ROOT / file).is_file()] == []
    [block] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block in (ROOT / "tests" / "helpers" / "register_vits.py").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(adapter.VitParts))
