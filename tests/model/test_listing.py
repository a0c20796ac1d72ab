"""The table of models: what it says is so, and reading it needs neither torch nor timm."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from torchvision.models import VisionTransformer

from harness.model.architectures import ARCHITECTURES, parameters_of
from harness.model.listing import all_models, search
from harness.model.timm_catalog import timm_model
from harness.model.timm_model import describe
from tests import ROOT


@pytest.mark.parametrize("name", ["vit_demo", "vit_ti_16"])
def test_parameters_are_those_of_the_model(name: str) -> None:
    sizes = ARCHITECTURES[name]
    model = VisionTransformer(**vars(sizes), num_classes=1)
    assert parameters_of(sizes) == sum(each.numel() for each in model.parameters()) - sizes.hidden_dim - 1


# A register and the mean of patches; attention pooling; rotary positions; a stem; a distillation token; refused.
@pytest.mark.parametrize(
    "name",
    [
        *("test_vit", "test_vit2", "test_vit3", "eva02_tiny_patch14_224", "vit_small_resnet26d_224"),
        *("samvit_base_patch16", "deit_tiny_distilled_patch16_224"),
    ],
)
def test_the_table_says_what_the_installed_timm_builds(name: str) -> None:
    assert timm_model(f"timm:{name}") == describe(name)


def test_torchvisions_come_first_and_words_narrow_the_list() -> None:
    listed = list(all_models())
    assert [each.model for each in listed[:3]] == ["vit_demo", "vit_b_16", "vit_b_32"]
    assert len([each for each in listed if each.model.startswith("timm:")]) == 285
    refused = Counter(each.refused for each in listed if each.model.startswith("timm:"))
    supported = refused.pop("")
    naflex, two_maps, sam = sorted(refused.values(), reverse=True)
    guide = (ROOT / "docs" / "guides" / "models.md").read_text()
    assert f"These are {supported} of the 285 names" in guide and f"the {285 - supported} that are refused" in guide
    assert f"{naflex} of NaFlexViT, {sam} of SAM\nand {two_maps} with parallel blocks" in guide
    [distilled] = search("deit_tiny_distilled")
    assert (distilled.reads, distilled.prefix_tokens) == ("class and distillation token", 2)
    [found] = search("dinov2 REG4 small")
    assert found.model == "timm:vit_small_patch14_reg4_dinov2"
    assert (found.prefix_tokens, found.licence, found.position_figures) == (5, "apache-2.0", True)


def test_the_command_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from harness.cli.main import main\n"
        "shown = CliRunner().invoke(main, ['models', '--search', 'samvit_base'])\n"
        "print(shown.output); print({'torch', 'timm'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "timm:samvit_base_patch16 is not supported: its attention is within windows" in ended.stdout
    assert ended.stdout.rstrip().endswith("set()")
