"""Load weights into a model, with every name and shape checked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from harness.errors import WeightsError, summarise
from harness.model import adapter
from harness.model.architectures import check_architecture
from harness.model.new_model import new_model
from harness.model.preprocessing import description_for
from harness.model.state_dict_keys import POSITIONS, to_torchvision
from harness.model.timm_catalog import is_timm
from harness.model.weights_file import check_file, read_weights
from harness.model.weights_header import shapes_of


def load_file(model: nn.Module, name: str, path: Path, key: str | None) -> tuple[str, ...]:
    """Load a weights file of any known naming; returns sentences. WeightsError names the file and what is wrong."""
    state, notes = read_weights(path, key)
    return (f"{name} takes its weights from {path}.", *notes, *_load(model, name, path, state))


def check_header(name: str, path: Path, key: str | None) -> None:
    """The WeightsError that loading a file would raise, as far as the names and shapes in its header tell."""
    path = check_file(path)
    shapes = shapes_of(path, key)
    if shapes is None:
        return  # an old format without a header: the whole file is checked when it is loaded
    with torch.device("meta"):
        model = new_model(name, None, num_classes=1)
    with contextlib.suppress(NotImplementedError):  # timm resamples no positions without numbers: checked when loaded
        _load(model, name, path, shapes)


def _load(model: nn.Module, name: str, path: Path, state: dict[str, Tensor]) -> tuple[str, ...]:
    """Load the state of a file; of meta tensors, only names and shapes are checked."""
    try:
        renamed, sentences = _renamed(model, name, path, state)
        return (*sentences, *load_into(model, renamed))
    except WeightsError as error:
        raise WeightsError(f"{path}: {problem}" for problem in error.problems) from error


def _renamed(
    model: nn.Module, name: str, path: Path, state: dict[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state under the model's own names, and sentences. WeightsError if it belongs to another model."""
    sentences: tuple[str, ...] = ()
    if not is_timm(name):
        state, sentences = to_torchvision(state)
        check_architecture(state, name)
    heads = description_for(name, path).num_heads
    own = getattr(adapter.parts(model).attentions[0], "num_heads", None)
    if heads not in (None, own):
        raise WeightsError(
            f"The config.json beside the file says {heads} attention heads, {name} has {own}: with these, the same "
            "weights compute another attention."
        )
    if is_timm(name):
        from harness.model.timm_weights import to_names_of  # timm is an extra, and slow to import

        state, sentences = to_names_of(model, name, state)
    return state, sentences


def interpolate_positions(positions: Tensor, grid: int, prefix: int = 1) -> Tensor:
    """Positions (1, prefix + g*g, D) for another grid, (1, prefix + grid*grid, D): bicubic, corners aligned.

    Those of the prefix tokens stay as they are. WeightsError unless the positions are those of a square grid.
    """
    patches = positions.shape[1] - prefix
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        first = "one for the class token and one" if prefix == 1 else f"{prefix} for the prefix tokens and one"
        raise WeightsError(
            f"The weights have {positions.shape[1]} positional embeddings; there must be {first} for each field of a "
            "square grid."
        )
    # torchvision resizes what follows the first position, which it keeps. An image of `grid` pixels in patches of one
    # pixel has that grid.
    after_one = torch.cat([positions[:, :1], positions[:, prefix:]], dim=1)
    resized = interpolate_embeddings(grid, 1, {POSITIONS: after_one})[POSITIONS]
    return torch.cat([positions[:, :prefix], resized[:, 1:]], dim=1)


def load_into(model: nn.Module, state: dict[str, Tensor]) -> tuple[str, ...]:
    """Loads a state under the model's own names; returns sentences about the head, the positions and the dtype.

    The model keeps its new head unless the file has one of the same size. All other names and shapes must match.
    """
    own, parts = model.state_dict(), adapter.parts(model)
    state, head_sentence = _with_head(own, state, parts.head_name)
    sentences = [head_sentence]
    grid, prefix, name = parts.grid, parts.positioned_prefix, parts.positions_name
    positions = state.get(name) if name else None
    count = prefix + grid**2
    if name and positions is not None and positions.dim() == 3 and len(positions) == 1 and positions.shape[1] != count:
        state[name] = interpolate_positions(positions.to(torch.float32), grid, prefix)
        old = math.isqrt(positions.shape[1] - prefix)
        sentences.append(f"Positional embeddings were resized from a grid of {old}x{old} to {grid}x{grid} (bicubic).")
    check_fit(own, state)
    others = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()} - {"float32"})
    if others:
        sentences.append(f"Weights in {', '.join(others)} were turned into float32.")
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()})
    return tuple(sentences)


def _with_head(own: dict[str, Tensor], state: dict[str, Tensor], name: str) -> tuple[dict[str, Tensor], str]:
    """The state with the file's head where it fits, else with the model's own."""
    head = (f"{name}.weight", f"{name}.bias")
    classes = own[head[0]].shape[0]
    if all(key in state and state[key].shape == own[key].shape for key in head):
        return dict(state), f"The head for {classes} classes is the file's."
    weight = state.get(head[0])
    before = "has none" if weight is None or weight.dim() != 2 else f"has one for {weight.shape[0]}"
    return state | {key: own[key] for key in head}, f"New head for {classes} classes; the file {before}."


def check_fit(own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """WeightsError with every mismatch between the state and the model, by kind; of meta tensors, names and shapes."""

    def with_shape(names: Iterable[str], tensors: dict[str, Tensor]) -> list[str]:
        return [f"{name!r} {tuple(tensors[name].shape)}" for name in names]

    common = [name for name in own if name in state]
    misfits = [name for name in common if state[name].shape != own[name].shape]
    fitting = [name for name in common if name not in misfits]
    not_float = [name for name in fitting if not state[name].is_floating_point() or state[name].layout != torch.strided]
    numbers = [name for name in fitting if name not in not_float and not state[name].is_meta]
    not_finite = [name for name in numbers if not state[name].isfinite().all()]
    problems = {
        "Missing in the file": with_shape((name for name in own if name not in state), own),
        "Not part of the model": with_shape((name for name in state if name not in own), state),
        "Of another shape": [
            f"{name!r} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}" for name in misfits
        ],
        "Not plain floating-point numbers": [f"{name!r} {state[name].dtype}" for name in not_float],
        "Infinite or not a number": with_shape(not_finite, state),
    }
    if any(problems.values()):
        raise WeightsError(f"{what}: {summarise(names, 8)}." for what, names in problems.items() if names)
