"""model.onnx with a dynamic batch, its 8-bit sibling, and what their metadata says about the input."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.errors import HarnessError, first_line
from harness.model import adapter
from harness.model.preprocessing import Preprocessing

FLOAT, UINT8 = "float32", "uint8"  # element types of the input; --onnx-input float means the first
_LIMIT = 2 << 30  # bytes of one protobuf message; larger weights lie beside it


class _FromPixels(nn.Module):
    """A model on pixels from 0 to 255, uint8 (B, 3, S, S): scaling and normalisation are part of it."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, rule: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(rule.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(rule.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images.float() / 255 - self.mean) / self.std)


def write_onnx(path: Path, model: nn.Module, classes: Sequence[str], rule: Preprocessing, element: str) -> None:
    """`images` (batch, 3, S, S), float32 normalised or uint8 pixels -> `logits` (batch, C)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    biased = adapter.parts(model).attention_bias
    size = (2, 3, rule.crop_size, rule.crop_size)
    if element == UINT8:
        model, images = _FromPixels(model, rule), torch.zeros(size, dtype=torch.uint8)
    else:
        images = torch.zeros(size)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    # With a bias of the attention, the exporter can only decompose this kernel.
    kernel = sdpa_kernel(SDPBackend.MATH) if biased else contextlib.nullcontext()
    with warnings.catch_warnings(), kernel:
        warnings.simplefilter("ignore")  # about the exporter's own internals
        try:
            torch.onnx.export(
                model.eval(),
                (images,),
                os.fspath(path),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=weights > 0.9 * _LIMIT,
                verbose=False,
            )
        except OSError:  # a full disk, for one
            raise
        except Exception as error:  # the exporter raises many kinds
            cause: BaseException = error
            while cause.__cause__ is not None:  # the exporter's own error is a page of advice
                cause = cause.__cause__
            raise HarnessError(f"torch {torch.__version__} cannot export the model ({first_line(cause)})") from error
    _describe(path, classes, rule, element)


def _describe(path: Path, classes: Sequence[str], rule: Preprocessing, element: str) -> None:
    """Classes and preprocessing as metadata, which onnxruntime gives to whoever opens the file."""
    import onnx

    proto = onnx.load(os.fspath(path), load_external_data=False)
    about = dataclasses.asdict(rule) | {"input": element}
    onnx.helper.set_model_props(proto, {"classes": json.dumps(list(classes)), "preprocessing": json.dumps(about)})
    onnx.save(proto, os.fspath(path))


def write_int8(source: Path, path: Path) -> None:
    """Weights of matrix products as 8-bit integers, one scale for each output; activations are quantised as they come.

    The patch projection, a convolution, stays in float32: its input is the image.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it recommends what is for convolutions
    try:
        quantize_dynamic(
            os.fspath(source),
            os.fspath(path),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    finally:
        logging.disable(logging.NOTSET)
    original, proto = onnx.load(os.fspath(source), load_external_data=False), onnx.load(os.fspath(path))
    onnx.helper.set_model_props(proto, {entry.key: entry.value for entry in original.metadata_props})
    onnx.save(proto, os.fspath(path))
