"""Models of timm as ONNX; `python -m tests.bench.bench_export` tries one of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.onnx_parity import onnx_difference

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_relative_positions_and_rotary_ones_are_the_same_in_onnx(tmp_path: Path) -> None:
    """Relative positions are a mask of the attention, which torch exports with one kernel of attention alone."""
    pytest.importorskip("onnxruntime")
    for name in ("beit_base_patch16_224", "vit_small_patch16_dinov3"):
        assert onnx_difference(name, tmp_path / f"{name}.onnx", image_size=32) < 1e-5
