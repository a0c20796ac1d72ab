"""What torch's exporter is asked for, and what becomes of its errors."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.export.onnx_file import FLOAT, UINT8, write_onnx
from harness.model.preprocessing import Preprocessing
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import tiny_vit

RULE = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)


def may_fuse(model: nn.Module, file: Path, element: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether an export, which ends with `error`, may use another kernel of attention than the plain one."""
    fused = []

    def export(*_: object, **__: object) -> None:
        fused.append(torch.backends.cuda.flash_sdp_enabled())
        raise error

    monkeypatch.setattr("torch.onnx.export", export)
    with pytest.raises(type(error) if isinstance(error, OSError) else HarnessError) as caught:
        write_onnx(file, model, ("a", "b", "c", "d", "e"), RULE, element)
    assert isinstance(error, OSError) == (caught.value is error)
    return fused[0]


def test_only_a_bias_of_the_attention_needs_the_plain_kernel_and_a_full_disk_is_not_torchs_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, unsupported = OSError(errno.ENOSPC, "No space left on device"), ValueError("an operator is not supported")
    rotary, biased = small_timm("vit_small_patch16_dinov3", 32), small_timm("beit_base_patch16_224", 32)
    for element in (FLOAT, UINT8):
        assert may_fuse(tiny_vit(), tmp_path / "x.onnx", element, full, monkeypatch)
        assert may_fuse(rotary, tmp_path / "x.onnx", element, unsupported, monkeypatch)
        assert not may_fuse(biased, tmp_path / "x.onnx", element, full, monkeypatch)
